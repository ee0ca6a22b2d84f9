"""Few workers for many programs: whoever waits lends its worker to whoever needs one.

A session keeps its worker while it waits for an LM, because it will need it again. When somebody
else needs a worker and none is free, the session that has waited longest is written down (about
10 KB), and its worker goes on; the session takes the next one that is free when its wait is over.
So thousands of programs wait on a handful of workers, a few programs never pay for that, and a
program within a program cannot wait for the worker that the outer one holds.

When many are in flight the engine is called on a few threads only: what it needs of a stack, 70 KB,
would stay with every thread that ever called it, and each program in flight has one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from bridge.turnstile import turnstile
from protocol.errors import Busy, Internal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bridge.sandbox.bounds import Bounds
    from bridge.sandbox.monty import Pool, Seat, Turn
    from bridge.settings import Limits

__all__ = ["Session", "Workers"]

T = TypeVar("T")

LOOK_SECONDS = 2.0
"""How often who waits for a worker looks whether its request is still wanted."""

FEW = 32
"""Sessions that call the engine on their own threads: a hand-over costs more than a small turn."""

PATIENCE_SECONDS = 60.0
"""How long to wait for a worker: many times what all the others may compute before."""


class Workers:
    """The places of the pool, and who has one. Any thread."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._pool: Pool | None = None
        self._free = limits.sandbox_workers
        self._live = 0
        self._threads = ThreadPoolExecutor(limits.sandbox_workers + 1, "sandbox")
        self._lent: OrderedDict[int, Session] = OrderedDict()
        self._waiting: deque[threading.Event] = deque()

    @contextmanager
    def session(
        self, bounds: Bounds, check: Callable[[], None], image: bytes | None = None
    ) -> Iterator[Session]:
        """A session of one's own, which begins where `image` was kept.

        Args:
            bounds: what it may use, in all its turns together.
            check: raises when the request is no longer wanted.
            image: what `Session.image` gave, with the same bounds.

        Raises:
            Busy: there was no worker in time.
        """
        session = Session(self, bounds, check, image)
        with self._lock:
            self._live += 1
        try:
            yield session
        finally:
            session.close()
            with self._lock:
                self._live -= 1

    @property
    def note(self) -> str | None:
        """Why workers are not locked in; None if they are, or none has started yet."""
        return None if self._pool is None else self._pool.note

    # For sessions

    def take(self, check: Callable[[], None]) -> None:
        """Get a place, from somebody who waits if none is free."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            lender = self._lent.popitem(last=False)[1] if self._lent else None
            if lender is None:
                mine = threading.Event()
                self._waiting.append(mine)
        if lender is not None:
            lender.park()
            return
        self._wait(mine, check)

    def _wait(self, mine: threading.Event, check: Callable[[], None]) -> None:
        try:
            _wait_for(mine, check)
        except BaseException:
            with self._lock:
                if not mine.is_set():
                    self._waiting.remove(mine)
                    raise
            # It came just now, and somebody else may have it.
            self.give_back()
            raise

    def give_back(self) -> None:
        """A place is free: whoever has waited longest has it."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1

    def lend(self, session: Session) -> bool:
        """Whether `session` may keep its place while it waits: nobody waits for one now."""
        with self._lock:
            if self._waiting:
                return False
            self._lent[id(session)] = session
            return True

    def take_again(self, session: Session) -> bool:
        """Whether `session` still has the place that it lent."""
        with self._lock:
            return self._lent.pop(id(session), None) is not None

    def call(self, work: Callable[[], T]) -> T:
        """What `work` gives, which calls the engine."""
        with turnstile.outside():
            if self._live <= FEW:
                return work()
            return self._threads.submit(work).result()

    def leave(self, seat: Seat | None) -> None:
        """Give a place back, once its worker has been left; does not wait for that."""

        def leave() -> None:
            try:
                if seat is not None:
                    seat.close()
            finally:
                self.give_back()

        self._threads.submit(leave)

    def seat(self, bounds: Bounds) -> Seat:
        """A worker, for somebody who has a place; within `call`."""
        if self._pool is None:
            with self._starting:
                if self._pool is None:
                    # Costs 100 ms and 15 MB, and a daemon without source never needs it.
                    from bridge.sandbox.monty import Pool  # noqa: PLC0415

                    self._pool = Pool(self._limits)
        return self._pool.seat(bounds)


def _wait_for(mine: threading.Event, check: Callable[[], None]) -> None:
    for _ in range(round(PATIENCE_SECONDS / LOOK_SECONDS)):
        if mine.wait(LOOK_SECONDS):
            return
        check()
    raise Busy("the sandbox's workers are all at work; repeat later")


class Session:
    """A run of source: in a worker, or written down. One thread at a time, and `park` any."""

    def __init__(
        self, workers: Workers, bounds: Bounds, check: Callable[[], None], image: bytes | None
    ) -> None:
        self.bounds = bounds
        self._image = image
        self._workers = workers
        self._check = check
        self._seat: Seat | None = None
        self._placed = False
        self._kept: bytes | None = None
        self._parked = threading.Event()

    def close(self) -> None:
        """Give the worker back, if there is one."""
        seat, self._seat, self._kept = self._seat, None, None
        if self._placed:
            self._placed = False
            self._workers.leave(seat)

    def turn(self, step: Callable[[Seat], Turn]) -> Turn:
        """One step of the source, other threads computing meanwhile; raises as `Seat.start`."""
        if not self._placed:
            with turnstile.outside():
                self._workers.take(self._check)
            self._placed = True
        return self._workers.call(lambda: step(self._seated()))

    def start(self, source: str, inputs: Mapping[str, Any]) -> Turn:
        """Run source until it calls, waits or ends; raises as `Seat.start`."""
        return self.turn(lambda seat: seat.start(source, inputs))

    def image(self) -> bytes:
        """The session as it is between two pieces of source."""
        return self._workers.call(self._at_work().image)

    @property
    def printed(self) -> str:
        """What the source has printed since it was last in a worker."""
        return self._at_work().printed

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within, others may have the worker; afterwards there is one again."""
        if self._seat is None:
            # Written down already, and nobody has asked for it since.
            yield
            return
        self._parked.clear()
        if not self._workers.lend(self):
            self.park()
            self._workers.give_back()
        try:
            yield
        except BaseException:
            # Nobody goes on with this session; but somebody may be writing it down.
            self._return()
            raise
        if not self._return() and self._kept is None:
            raise Internal("a sandbox worker ended while its program waited", retriable=True)

    def _return(self) -> bool:
        """Whether the worker is still ours; if not, it has been left properly now."""
        if not self._parked.is_set() and self._workers.take_again(self):
            return True
        with turnstile.outside():
            self._parked.wait()
        return False

    def park(self) -> None:
        """Write the session down and leave its worker; the place is the caller's to give."""
        seat, self._seat = self._at_work(), None
        self._placed = False
        try:
            self._workers.call(lambda: self._keep(seat))
        finally:
            self._parked.set()

    def _keep(self, seat: Seat) -> None:
        try:
            self._kept = seat.parked()
        except Exception:  # noqa: BLE001 - the session's own thread says so, not the caller's
            self._kept = None
        finally:
            seat.close()

    def _seated(self) -> Seat:
        """A worker with the session in it; within `Workers.call`."""
        if self._seat is None:
            self._seat = self._workers.seat(self.bounds)
            kept, self._kept = self._kept, None
            if kept is not None:
                self._seat.unpark(kept)
            elif self._image is not None:
                self._seat.begin_with(self._image)
        return self._seat

    def _at_work(self) -> Seat:
        assert self._seat is not None, "the session has no worker"  # noqa: S101
        return self._seat
