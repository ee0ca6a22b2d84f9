"""Who runs now: at most so many at once, the rest in turns by tenant, in a queue that is bounded.

A tenant with a thousand requests waiting delays another tenant's first by one place, not by a
thousand. Whoever ends a job says so, and is told which one has its place now. A request that is
answered while it waits leaves the queue at once, with all that it came with.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.scope import Scope
    from bridge.settings import Limits

    Job = Callable[[], None]

__all__ = ["Admission"]


@dataclass(slots=True, eq=False)
class _Waiting:
    """A job in the queue. `size` is what its request was on the wire, in bytes."""

    scope: Scope
    """Held, because the queue knows it by its identity."""
    job: Job
    size: int


class Admission:
    """Lets jobs run within the bounds. Any thread.

    Args:
        limits: gives the bounds in force.
    """

    def __init__(self, limits: Callable[[], Limits]) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._running = 0
        self._queued = 0
        self._bytes = 0
        # By tenant, and there by the identity of the request's scope.
        self._turns: OrderedDict[str | None, OrderedDict[int, _Waiting]] = OrderedDict()

    @property
    def running(self) -> int:
        """Jobs that run."""
        return self._running

    @property
    def queued(self) -> int:
        """Jobs that wait for a place."""
        return self._queued

    @property
    def queued_bytes(self) -> int:
        """What the requests of those were on the wire."""
        return self._bytes

    def admit(self, scope: Scope, job: Job, size: int = 0) -> Job | None:
        """What to run now, on whatever thread, for `job`; None when it has to wait its turn.

        Args:
            scope: whose tenant takes turns with the others.
            job: what to run; must not raise. When it has come to its end, `ended` must hear of it.
            size: bytes of its request.

        Raises:
            Busy: the queue is full.
        """
        with self._lock:
            if self._running < self._limits().max_concurrent and not self._turns:
                self._running += 1
                return job
            self._check_room(size)
            jobs = self._turns.setdefault(scope.tenant, OrderedDict())
            jobs[id(scope)] = _Waiting(scope, job, size)
            self._queued += 1
            self._bytes += size
            return None

    def _check_room(self, size: int) -> None:
        """Raise Busy if one more would be too many; a queue that is empty takes any one."""
        limits = self._limits()
        if self._queued < limits.max_queued and (
            not self._queued or self._bytes + size <= limits.max_queued_bytes
        ):
            return
        raise Busy(
            f"{self._running} requests run and {self._queued} wait; repeat later",
            retry_after_ms=100,
        )

    def withdraw(self, scope: Scope) -> None:
        """Forget the job of a request that has its answer; nothing if it does not wait."""
        with self._lock:
            jobs = self._turns.get(scope.tenant)
            if jobs is not None and id(scope) in jobs:
                self._leave(scope.tenant, jobs, jobs.pop(id(scope)))

    def refill(self) -> list[Job]:
        """What to run now that `max_concurrent` may have grown."""
        jobs = []
        with self._lock:
            while self._turns and self._running < self._limits().max_concurrent:
                self._running += 1
                jobs.append(self._first())
        return jobs

    def ended(self) -> Job | None:
        """A job has come to its end; what to run in its place."""
        with self._lock:
            if not self._turns or self._running > self._limits().max_concurrent:
                self._running -= 1
                return None
            return self._first()

    def _first(self) -> Job:
        """Take the job whose turn it is; its tenant goes behind the others."""
        tenant, jobs = next(iter(self._turns.items()))
        _, waiting = jobs.popitem(last=False)
        self._turns.move_to_end(tenant)
        self._leave(tenant, jobs, waiting)
        return waiting.job

    def _leave(
        self, tenant: str | None, jobs: OrderedDict[int, _Waiting], waiting: _Waiting
    ) -> None:
        self._queued -= 1
        self._bytes -= waiting.size
        if not jobs:
            del self._turns[tenant]
