"""The main thread's loop: timers, signals, what other threads ask for, and output that had to wait.

asyncio could do it, and takes half of the time from the start to the first answer to be imported.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import signal
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Loop", "Timer"]


class Timer:
    """A call that is due at `due`, in `time.monotonic` seconds, unless it is cancelled.

    Of two that are due together, the one of the lower `number` comes first.
    """

    __slots__ = ("call", "due", "number")

    def __init__(self, due: float, number: int, call: Callable[[], None]) -> None:
        self.due = due
        self.number = number
        self.call: Callable[[], None] | None = call

    def __lt__(self, other: Timer) -> bool:
        return (self.due, self.number) < (other.due, other.number)

    def cancel(self) -> None:
        """Never call. The loop's thread."""
        self.call = None


class Loop:
    """Calls one thing after another; what it calls must not wait.

    What one raises goes to `on_error`, and the others go on: a daemon is more than one fault.
    `call_soon_threadsafe` is for any thread, and for signal handlers; the rest is for the loop's.
    """

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[Timer] = []
        self._numbers = itertools.count()
        self._writers: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()
        self._woken, self._waker = os.pipe()
        for end in (self._woken, self._waker):
            os.set_blocking(end, False)
        self._poll.register(self._woken, select.POLLIN)

    def call_soon_threadsafe(self, call: Callable[..., None], *args: Any) -> None:
        """Call on the loop's thread, after what was asked for before."""
        self._calls.append(lambda: call(*args))
        # A full pipe holds wake-ups enough.
        with suppress(BlockingIOError):
            os.write(self._waker, b"x")

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call in that many seconds."""
        timer = Timer(time.monotonic() + seconds, next(self._numbers), call)
        heapq.heappush(self._timers, timer)
        return timer

    def add_writer(self, fd: int, call: Callable[[], None]) -> None:
        """Call whenever `fd` takes bytes, or its reader is gone."""
        self._writers[fd] = call
        self._poll.register(fd, select.POLLOUT)

    def remove_writer(self, fd: int) -> None:
        """Do not look at `fd` any more."""
        if self._writers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def add_signal_handler(self, number: int, call: Callable[[], None]) -> None:
        """Call when the signal comes."""
        signal.signal(number, lambda *_: self.call_soon_threadsafe(call))

    def run_until(self, done: Callable[[], bool], seconds: float | None = None) -> None:
        """Call what is to be called until `done()`, or for that many seconds."""
        ends = None if seconds is None else time.monotonic() + seconds
        while not done():
            left = None if ends is None else ends - time.monotonic()
            if left is not None and left <= 0:
                return
            self._turn(left)

    def _turn(self, at_most: float | None) -> None:
        """Wait for something to do, no longer than that, and do it."""
        wait = at_most
        if self._timers:
            due = self._timers[0].due - time.monotonic()
            wait = due if wait is None else min(due, wait)
        for fd, _ in self._poll.poll(None if wait is None else max(0.0, 1000 * wait)):
            if fd == self._woken:
                os.read(fd, 4096)
            elif fd in self._writers:
                self._do(self._writers[fd])
        now = time.monotonic()
        while self._timers and self._timers[0].due <= now:
            timer = heapq.heappop(self._timers)
            if timer.call is not None:
                self._do(timer.call)
        # Only what is there now: a call that asks for another must not keep the timers waiting.
        for _ in range(len(self._calls)):
            self._do(self._calls.popleft())

    def _do(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever it was, the others go on
            self._on_error(error)
