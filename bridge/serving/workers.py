"""The threads that DSPy runs on. Never asyncio's default executor: DSPy needs that one itself.

The last thread that became idle is the first to be used again (its caches are warm), and threads
that stay idle end, so the memory of a burst goes back.
"""

from __future__ import annotations

import _thread
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from bridge.turnstile import turnstile

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Workers"]

IDLE_SECONDS = 10.0
"""After a burst, how long a thread waits for more work before it ends."""


START_SECONDS = 60.0
"""How long to wait for a thread when the system has none: jobs end by their own timeouts."""

RETRY_SECONDS = 0.02
"""Between two looks for one."""


class Workers:
    """Threads on demand. The caller bounds how many jobs run at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[Callable[[], None]]] = []
        self._count = 0
        self.on_starved: Callable[[RuntimeError], None] = lambda _: None

    @property
    def count(self) -> int:
        """Threads alive."""
        return self._count

    def in_turn(self, job: Callable[[], None]) -> None:
        """Run `job` when it may compute, and only then wake or start a thread for it.

        `job` must not raise. When there is no thread to be had, `on_starved` hears of it.
        """
        turnstile.when_free(job, self.submit_or_tell)

    def submit_or_tell(self, job: Callable[[], None]) -> None:
        """`submit`; when there is no thread to be had, `on_starved` hears of it."""
        try:
            self.submit(job)
        except RuntimeError as error:
            self.on_starved(error)

    def submit(self, job: Callable[[], None]) -> None:
        """Run `job` on an idle thread, or on a new one. `job` must not raise.

        Raises:
            RuntimeError: there was no thread for `START_SECONDS`.
        """
        tries = round(START_SECONDS / RETRY_SECONDS)
        for left in reversed(range(tries)):
            with self._lock:
                inbox = self._idle.pop() if self._idle else None
                if inbox is None:
                    self._count += 1
            if inbox is not None:
                inbox.put(job)
                return
            try:
                self._start(job)
            except RuntimeError:
                # The system has no thread to give: wait until one of ours is idle again.
                with self._lock:
                    self._count -= 1
                if not left:
                    raise
                time.sleep(RETRY_SECONDS)
            else:
                return

    def _start(self, job: Callable[[], None]) -> None:
        # `threading.Thread` would have us wait until the new thread runs: two switches more.
        _thread.start_new_thread(self._work, (job,))

    def _work(self, job: Callable[[], None]) -> None:
        inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        while True:
            job()
            del job
            with self._lock:
                self._idle.append(inbox)
            try:
                job = inbox.get(timeout=IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if inbox in self._idle:
                        self._idle.remove(inbox)
                        self._count -= 1
                        return
                # Somebody took this thread just as it gave up waiting: the job is on its way.
                job = inbox.get()
