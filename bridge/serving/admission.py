"""Who runs now: at most so many at once, the rest in turns by tenant, in a queue of bounded length.

A tenant with a thousand requests waiting delays another tenant's first by one place, not by a
thousand. The thread that finishes a job takes the next one itself.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from functools import partial
from typing import TYPE_CHECKING

from protocol.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.scope import Scope

__all__ = ["Admission"]


class Admission:
    """Lets jobs run within the bounds. Any thread."""

    def __init__(self, *, max_concurrent: int, max_queued: int) -> None:
        self.max_concurrent = max_concurrent
        self.max_queued = max_queued
        self._lock = threading.Lock()
        self._running = 0
        self._queued = 0
        self._turns: OrderedDict[str | None, deque[tuple[Scope, Callable[[], None]]]] = (
            OrderedDict()
        )

    @property
    def running(self) -> int:
        """Jobs that run."""
        return self._running

    @property
    def queued(self) -> int:
        """Jobs that wait for a place."""
        return self._queued

    def admit(self, scope: Scope, job: Callable[[], None]) -> Callable[[], None] | None:
        """What to run now, on whatever thread, for `job`; None when it has to wait its turn.

        Args:
            scope: whose tenant takes turns with the others; once stopped, its place is free.
            job: what to run; must not raise.

        Raises:
            Busy: the queue is full.
        """
        with self._lock:
            if self._running < self.max_concurrent and not self._turns:
                self._running += 1
                return lambda: self._work(job)
            if self._queued >= self.max_queued:
                self._drop_stopped()
            if self._queued >= self.max_queued:
                raise Busy(
                    f"{self._running} requests run and {self._queued} wait; repeat later",
                    retry_after_ms=100,
                )
            self._turns.setdefault(scope.tenant, deque()).append((scope, job))
            self._queued += 1
            return None

    def refill(self) -> list[Callable[[], None]]:
        """What to run now that `max_concurrent` may have grown."""
        jobs = []
        with self._lock:
            while self._turns and self._running < self.max_concurrent:
                self._running += 1
                jobs.append(self._first())
        return [partial(self._work, job) for job in jobs]

    def _drop_stopped(self) -> None:
        """Requests that were answered while they waited need no place any more."""
        for tenant in list(self._turns):
            waiting = deque(item for item in self._turns[tenant] if not item[0].stopped)
            self._queued -= len(self._turns[tenant]) - len(waiting)
            if waiting:
                self._turns[tenant] = waiting
            else:
                del self._turns[tenant]

    def _work(self, job: Callable[[], None]) -> None:
        following: Callable[[], None] | None = job
        while following is not None:
            following()
            following = self._next()

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            if not self._turns or self._running > self.max_concurrent:
                self._running -= 1
                return None
            return self._first()

    def _first(self) -> Callable[[], None]:
        """Take the job whose turn it is; its tenant goes behind the others."""
        tenant, jobs = next(iter(self._turns.items()))
        _, job = jobs.popleft()
        self._queued -= 1
        if jobs:
            self._turns.move_to_end(tenant)
        else:
            del self._turns[tenant]
        return job
