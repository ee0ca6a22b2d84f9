"""One thread that stands at all sockets, and at the clock, for everybody who waits.

A reply wakes the one thread that it is for, once, when its turn has come; or, for a strand, no
thread until then. Where there is no epoll, each waits on a thread of its own.
"""

from __future__ import annotations

import itertools
import math
import os
import select
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from bridge.scope import current_scope
from bridge.strand import Wait
from bridge.turnstile import turnstile

if TYPE_CHECKING:
    from bridge.turnstile import Ticket

__all__ = ["READ", "WRITE", "SocketWait", "nap"]

READ = select.POLLIN
WRITE = select.POLLOUT

LONGEST_LOOK = 3600.0
"""Seconds that the thread waits at most: epoll takes no longer ones than a month."""


class SocketWait(Wait):
    """Until what is `wanted` of `fd` is there, or `seconds` are over.

    A descriptor is `known` when it was waited for before; it leaves by itself when it is closed.
    """

    __slots__ = ("fd", "known", "seconds", "wanted")

    def __init__(self, fd: int, wanted: int, seconds: float, *, known: bool) -> None:
        super().__init__()
        self.fd = fd
        self.wanted = wanted
        self.seconds = seconds
        self.known = known

    def hold(self) -> None:
        """Wait on this thread."""
        watch = _the_watch()
        if watch is not None:
            watch.hold(self)
            return
        poll = select.poll()
        poll.register(self.fd, self.wanted)
        with turnstile.outside():
            self.came = bool(poll.poll(1000 * self.seconds))

    def park(self, ticket: Ticket) -> None:
        """Wait without a thread."""
        watch = _the_watch()
        if watch is not None:
            watch.park_socket(self, ticket)
        else:
            super().park(ticket)


class Nap(Wait):
    """Until `seconds` are over, or somebody ends it."""

    __slots__ = ("_key", "_over", "_seconds")

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._over = threading.Event()
        self._key = 0

    def end(self) -> None:
        """End it now. Any thread, any time."""
        self._over.set()
        watch = _the_watch()
        if watch is not None and self._key:
            watch.end(self._key)

    def hold(self) -> None:
        """Wait on this thread."""
        with turnstile.outside():
            self._over.wait(self._seconds)

    def park(self, ticket: Ticket) -> None:
        """Wait without a thread."""
        watch = _the_watch()
        if watch is None:
            super().park(ticket)
            return
        self._key = watch.park_nap(self, ticket, self._seconds)
        if self._over.is_set():
            watch.end(self._key)


async def nap(seconds: float) -> None:
    """Pause the current request, which must not hold anything up; raise Stopped when it is."""
    scope = current_scope.get()
    scope.check()
    wait = Nap(scope.remaining(seconds))
    with scope.abortable(wait.end):
        await wait
    scope.check()


class _Parked:
    """Who waits, and until when."""

    __slots__ = ("ends", "ticket", "wait")

    def __init__(self, wait: Wait, ticket: Ticket, ends: float) -> None:
        self.wait = wait
        self.ticket = ticket
        self.ends = ends


class _Watch:
    """Everybody who waits: for a socket by its descriptor, for the clock by a number below zero."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._lock = threading.Lock()
        self._parked: dict[int, _Parked] = {}
        self._next = math.inf
        """No wait that is parked ends before."""
        self._looks = math.inf
        """When the thread looks at the clock again."""
        self._numbers = itertools.count(-1, -1)
        try:
            threading.Thread(target=self._stand, name="sockets", daemon=True).start()
        except RuntimeError:
            self._epoll.close()
            os.close(self._bell)
            raise

    def hold(self, wait: SocketWait) -> None:
        """Wait on this thread."""
        # Its own thread has an eye on the clock.
        parked = _Parked(wait, turnstile.ticket(), math.inf)
        with self._lock:
            self._parked[wait.fd] = parked
        self._arm(wait)
        if turnstile.wait(parked.ticket, wait.seconds):
            wait.came = True
        else:
            self._take(wait.fd, parked)

    def park_socket(self, wait: SocketWait, ticket: Ticket) -> None:
        """Call `ticket` in when `wait` is over."""
        parked = self._park(wait.fd, wait, ticket, wait.seconds)
        try:
            self._arm(wait)
        except OSError:
            # The system watches no more sockets for us: as if nothing had come.
            self._end(wait.fd, parked)

    def park_nap(self, wait: Nap, ticket: Ticket, seconds: float) -> int:
        """The same; what to call `end` with before."""
        key = next(self._numbers)
        self._park(key, wait, ticket, seconds)
        return key

    def end(self, key: int) -> None:
        """Who naps under this number goes on, if nobody has woken it."""
        parked = self._parked.get(key)
        if parked is not None:
            self._end(key, parked)

    def _park(self, key: int, wait: Wait, ticket: Ticket, seconds: float) -> _Parked:
        parked = _Parked(wait, ticket, time.monotonic() + seconds)
        with self._lock:
            self._parked[key] = parked
            self._next = min(self._next, parked.ends)
            sooner = parked.ends < self._looks
            if sooner:
                self._looks = parked.ends
        if sooner:
            os.eventfd_write(self._bell, 1)
        return parked

    def _take(self, key: int, parked: _Parked) -> bool:
        """Whether `parked` still waited; a descriptor may be somebody else's by now."""
        with self._lock:
            if self._parked.get(key) is not parked:
                return False
            del self._parked[key]
            return True

    def _end(self, key: int, parked: _Parked) -> None:
        if self._take(key, parked):
            turnstile.call_in(parked.ticket)

    def _arm(self, wait: SocketWait) -> None:
        watch = self._epoll.modify if wait.known else self._epoll.register
        watch(wait.fd, wait.wanted | select.EPOLLONESHOT)

    def _stand(self) -> None:
        while True:
            for fd, _ in self._epoll.poll(self._time_to_the_next()):
                if fd == self._bell:
                    os.eventfd_read(fd)
                    continue
                with self._lock:
                    parked = self._parked.pop(fd, None)
                if parked is not None:
                    parked.wait.came = True
                    turnstile.call_in(parked.ticket)

    def _time_to_the_next(self) -> float:
        """Seconds until a wait may be over; those that are over go on."""
        now = time.monotonic()
        late: list[tuple[int, _Parked]] = []
        with self._lock:
            if now >= self._next:
                # Most waits end long before their time: only now it shows which is the next.
                late = [item for item in self._parked.items() if item[1].ends <= now]
                ends = (parked.ends for parked in self._parked.values() if parked.ends > now)
                self._next = min(ends, default=math.inf)
            self._looks = min(self._next, now + LONGEST_LOOK)
            seconds = self._looks - now
        for key, parked in late:
            self._end(key, parked)
        return seconds


_lock = threading.Lock()
_watch: _Watch | None = None


def _the_watch() -> _Watch | None:
    """The one of this process, started when first needed; None without epoll or a thread."""
    global _watch  # noqa: PLW0603 - see above
    if _watch is None and hasattr(select, "epoll"):
        with _lock:
            if _watch is None:
                with suppress(RuntimeError):
                    _watch = _Watch()
    return _watch
