"""One thread computes for requests at a time, where there is one interpreter lock anyway.

A thousand calls whose replies come together would otherwise fight for the interpreter in turns of
a fraction of a millisecond, each turn a switch, and a ping would wait behind them all. Whoever
computes is `inside`; whoever waits for an LM, a pause or other threads is `outside` meanwhile.
Turns are taken in order of arrival, and the place is handed on: to a thread that waits for it, or
to a job that gets its thread only then.

Where other processes want the processors, too, whoever is handed the place may have to wait for
one, and nobody computes meanwhile. So there are more places, up to `MOST`, as long as some wait
while the process does not compute.

It is a courtesy, not a lock: when nobody has passed for `PATIENCE` seconds, all who wait go in
all the same, so that a wait that nobody thought of slows the others down but cannot stop them.
"""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

__all__ = ["Ticket", "Turnstile", "turnstile"]

PATIENCE = 1.0
"""Far above one turn, which is about a millisecond."""

LEAST = 1
"""Places: who waits has gone on to the next job without a switch, and a second thread would wait
for the interpreter more than it works beside the first one's system calls."""

MOST = 8
"""Places: enough that one of the threads has a processor, too few to fight for the interpreter."""

LOOK_SECONDS = 0.05
"""Between two looks at how those who wait get on."""

IDLE, BUSY = 0.6, 0.9
"""Parts of its time that the process computes: below the one places are added, above the other
they are taken away."""


class _State(enum.Enum):
    AWAY = enum.auto()
    QUEUED = enum.auto()
    CALLED = enum.auto()
    GONE = enum.auto()


class Ticket:
    """A place outside, for whoever will call its holder in: a thread, or a job without one."""

    __slots__ = ("_start", "bell", "holds", "job", "state", "takes_turns")

    def __init__(
        self,
        *,
        takes_turns: bool,
        job: Callable[[], None] | None = None,
        start: Callable[[Ticket], None] | None = None,
    ) -> None:
        self.takes_turns = takes_turns
        self.holds = True
        self.state = _State.AWAY
        self.job = job
        self._start = start
        if start is None:
            self.bell = threading.Lock()
            self.bell.acquire()

    def ring(self) -> None:
        """Let its holder go on."""
        if self._start is None:
            self.bell.release()
        else:
            self._start(self)


class Turnstile:
    """`inside` and `outside` are for `with`, and may be nested in each other.

    Args:
        least: places while nothing keeps those who have one from computing.
    """

    def __init__(self, least: int = LEAST) -> None:
        self._least = least
        self._lock = threading.Lock()
        self._queue: deque[Ticket] = deque()
        self._inside = 0
        self._places = least
        self._mine = threading.local()
        self._crowded = threading.Event()
        self._guard: threading.Thread | None = None
        self.between_jobs: Callable[[], None] = lambda: None
        """What whoever does one job after the other does between them; must not raise, nor wait."""

    @property
    def occupied(self) -> bool:
        """Whether somebody is inside."""
        return self._inside > 0

    @property
    def is_inside(self) -> bool:
        """Whether this thread is."""
        return getattr(self._mine, "inside", False)

    def inside(self) -> AbstractContextManager[None]:
        """Compute here."""
        return _Inside(self)

    def outside(self) -> AbstractContextManager[None]:
        """Wait here. A thread that was not inside passes through."""
        return _Outside(self)

    def when_free(
        self, job: Callable[[], None], submit: Callable[[Callable[[], None]], None]
    ) -> None:
        """Run `job` inside when its turn comes, on a thread that `submit` gives it then.

        Args:
            job: what to do; must not raise.
            submit: takes what a thread is to run; must not raise. Any thread may call it.
        """
        self.call_in(self.ticket_for(job, submit))

    def ticket_for(
        self, job: Callable[[], None], submit: Callable[[Callable[[], None]], None]
    ) -> Ticket:
        """The same from when `call_in` has this ticket."""

        def start(ticket: Ticket) -> None:
            submit(lambda: self._work(ticket))

        return Ticket(takes_turns=True, job=job, start=start)

    def ticket(self) -> Ticket:
        """For `wait`, after which this thread will be where it is now: inside, or not."""
        return Ticket(takes_turns=self.is_inside)

    def wait(self, ticket: Ticket, timeout: float) -> bool:
        """Wait outside until `call_in` has `ticket`; whether that came within `timeout` seconds.

        What `outside` does with two wake-ups (one for what was waited for, one for the turn) is
        one here.
        """
        if ticket.takes_turns:
            self._leave()
        if not ticket.bell.acquire(timeout=max(0.0, timeout)):
            with self._lock:
                in_time = ticket.state is not _State.AWAY
                if not in_time:
                    ticket.state = _State.GONE
            if not in_time:
                if ticket.takes_turns:
                    self._enter()
                return False
            ticket.bell.acquire()
        if ticket.takes_turns:
            self._take(ticket)
        return True

    def call_in(self, ticket: Ticket) -> None:
        """Let the thread that waits with `ticket` go on, in its turn. Any thread."""
        with self._lock:
            if ticket.state is not _State.AWAY:
                return
            if ticket.takes_turns:
                if self._inside >= self._places:
                    self._queue_up(ticket)
                    return
                self._inside += 1
            ticket.state = _State.CALLED
        ticket.ring()

    def _enter(self) -> None:
        ticket = Ticket(takes_turns=True)
        with self._lock:
            free = self._inside < self._places
            if free:
                self._inside += 1
            else:
                self._queue_up(ticket)
        if not free:
            ticket.bell.acquire()
        self._take(ticket)

    def _leave(self) -> bool:
        was_inside = self.is_inside
        if was_inside:
            following = self._give_up()
            if following is not None:
                following.ring()
        return was_inside

    def _work(self, ticket: Ticket) -> None:
        """Do a job whose turn it is, and those right behind it: no other thread need wake."""
        following: Ticket | None = ticket
        while following is not None and following.job is not None:
            self._take(following)
            following.job()
            self.between_jobs()
            following = self._give_up()
        if following is not None:
            following.ring()

    def _take(self, ticket: Ticket) -> None:
        self._mine.inside, self._mine.holds = True, ticket.holds

    def _give_up(self) -> Ticket | None:
        """Leave the place to who is next; to be rung by the caller."""
        self._mine.inside = False
        if not self._mine.holds:
            return None
        with self._lock:
            if not self._queue or self._inside > self._places:
                self._inside -= 1
                return None
            following = self._queue.popleft()
            following.state = _State.CALLED
        return following

    def _queue_up(self, ticket: Ticket) -> None:
        ticket.state = _State.QUEUED
        self._queue.append(ticket)
        if not self._crowded.is_set():
            self._crowded.set()
        if self._guard is None:
            guard = threading.Thread(target=self._keep_moving, daemon=True)
            # Without a thread to be had, the next one who queues up tries again.
            with suppress(RuntimeError):
                guard.start()
                self._guard = guard

    def _keep_moving(self) -> None:
        """While some wait: see to it that the process computes, and that the first one moves."""
        while True:
            self._crowded.wait()
            first, since = None, 0.0
            while self._crowded.is_set():
                begun, computed = time.monotonic(), time.process_time()
                time.sleep(LOOK_SECONDS)
                now = time.monotonic()
                part = (time.process_time() - computed) / (now - begun)
                with self._lock:
                    called = self._look(part)
                    if not self._queue:
                        self._crowded.clear()
                        self._places = self._least
                    elif self._queue[0] is not first:
                        first, since = self._queue[0], now
                    elif now - since >= PATIENCE:
                        called += self._let_all_in()
                for ticket in called:
                    ticket.ring()

    def _look(self, part: float) -> list[Ticket]:
        """Add or take places after a time of which `part` was computed; gives who goes in now."""
        if part < IDLE:
            self._places = min(MOST, 2 * self._places)
        elif part > BUSY:
            self._places = max(self._least, self._places - 1)
        called = []
        while self._queue and self._inside < self._places:
            self._inside += 1
            called.append(self._queue.popleft())
            called[-1].state = _State.CALLED
        return called

    def _let_all_in(self) -> list[Ticket]:
        stuck = list(self._queue)
        self._queue.clear()
        for ticket in stuck:
            ticket.state, ticket.holds = _State.CALLED, False
        return stuck


# Entered and left around every wait: as generators, both would cost twice as much.


class _Inside:
    __slots__ = ("_entered", "_turnstile")

    def __init__(self, turnstile: Turnstile) -> None:
        self._turnstile = turnstile

    def __enter__(self) -> None:
        self._entered = not self._turnstile.is_inside
        if self._entered:
            self._turnstile._enter()  # noqa: SLF001 - the two are one thing

    def __exit__(self, *_: object) -> None:
        if self._entered:
            self._turnstile._leave()  # noqa: SLF001 - the two are one thing


class _Outside:
    __slots__ = ("_left", "_turnstile")

    def __init__(self, turnstile: Turnstile) -> None:
        self._turnstile = turnstile

    def __enter__(self) -> None:
        self._left = self._turnstile._leave()  # noqa: SLF001 - the two are one thing

    def __exit__(self, *_: object) -> None:
        if self._left:
            self._turnstile._enter()  # noqa: SLF001 - the two are one thing


turnstile = Turnstile()
"""The one of this process."""
