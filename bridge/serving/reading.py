"""The way in. Whoever reads a request does it, so that no second thread has to be woken for it.

A few of the workers' threads stand at the pipe. The kernel wakes one of them for what arrives; it
reads, takes all that is in there to the daemon (in order: one turn at a time), lets the next one
watch, and then runs one of the resulting jobs itself if nothing computes at the moment; the
others get a thread when their turn comes. Waking a thread costs as much as a quarter of a DSPy
call, and this way it happens beside the call, not before it. There is always one more thread at
the pipe, so a ping never waits behind a job.

A thread that does one job after the other gives the interpreter away for moments only, too short
for another one to wake up: it looks at the pipe itself, between two jobs.

A thread that waits for the host's answer takes the pipe from them meanwhile (`listen`), and so
reads its own answer: handing it over from another thread would be half of a host call.

Where there is no epoll, one thread reads and every job goes to a worker.
"""

from __future__ import annotations

import math
import os
import select
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from bridge.turnstile import turnstile

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.serving.workers import Workers

__all__ = ["Reading", "next_of"]

T = TypeVar("T")

CHUNK = 256 * 1024
"""Bytes of one read: enough that a large frame is few reads, little enough to be fair."""

MUCH = 16 * 1024
"""Bytes of one read behind which more may be waiting already: less has emptied the pipe."""

LONGEST_WAIT = 3600.0
"""Seconds of one poll, which counts milliseconds in 32 bits."""

LOOK_SECONDS = 0.002
"""Between two looks at the pipe of a thread that computes: some jobs, and two system calls."""

STEP_ASIDE = 1e-4
"""Long enough for a thread to wake up, and then to have the interpreter while it reads."""

STANDING = 2
"""Threads at the pipe while nothing happens: one to take the next request, one to remain."""


if hasattr(select, "epoll"):
    ONE_THREAD = select.EPOLLIN | select.EPOLLONESHOT
    NO_THREAD = select.EPOLLONESHOT


class Reading:
    """Reads the reader's end on the workers' threads.

    Args:
        fd: the end; non-blocking if it is a pipe or a socket.
        workers: whose threads read.
        on_data: takes bytes, gives jobs and whether to read on; never called by two threads at
            once. When it says no, `resume` is what reads on.
        on_end: called once, at the end of input.
        on_failure: called when a thread at the pipe fails, which none should.
    """

    def __init__(
        self,
        fd: int,
        workers: Workers,
        on_data: Callable[[bytes], tuple[list[Callable[[], None]], bool]],
        on_end: Callable[[], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._workers = workers
        self._on_data = on_data
        self._on_end = on_end
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._standing = 0
        # Whether those who stand at the pipe watch it; if not, somebody has it to itself.
        self._watched = True
        self._ended = False
        self._gate = _Epoll(fd) if hasattr(select, "epoll") else _Poll(fd)
        self._fd = self._gate.fd
        self._look_next = 0.0
        self._reading = False
        self._waiting = select.poll()
        self._waiting.register(self._fd, select.POLLIN)

    def begin(self) -> None:
        """Put the first threads at the pipe."""
        for _ in range(STANDING if self._gate.shared else 1):
            self._stand_another()

    def resume(self) -> None:
        """Read on after `on_data` asked for a pause. Any thread."""
        self._watch()

    def listen(self, inbox: SimpleQueue[T], seconds: float) -> T | None:
        """The next of `inbox`, or None after `seconds`; reads the pipe meanwhile if it is free.

        What `on_data` itself puts into `inbox` needs no other thread then. Whoever else puts
        something there says `nudge`. Any thread, outside of the turnstile.
        """
        gate = self._gate
        if not isinstance(gate, _Epoll) or not self._take_pipe():
            return next_of(inbox, seconds)
        gate.disarm()
        ends = time.monotonic() + seconds
        mine = True
        try:
            while mine:
                try:
                    return inbox.get_nowait()
                except Empty:
                    left = ends - time.monotonic()
                if left <= 0:
                    return None
                mine = not gate.wait_alone(left) or self._read_for_others()
        finally:
            if mine:
                self._watch()
        return next_of(inbox, ends - time.monotonic())

    def look(self) -> None:
        """Read what is there, without waiting. Any thread; does it at most once in `LOOK_SECONDS`.

        Unlike those who stand at the pipe, whoever computes has the interpreter already.
        """
        now = time.monotonic()
        if now < self._look_next or not self._gate.shared:
            return
        self._look_next = now + LOOK_SECONDS
        if self._reading:
            # Somebody is at it, and most likely waits for the interpreter.
            time.sleep(STEP_ASIDE)
        elif self._take_pipe() and (not self._readable() or self._read_for_others()):
            self._watch()

    def _readable(self) -> bool:
        return bool(self._waiting.poll(0))

    def nudge(self) -> None:
        """Have whoever listens look into its inbox. Any thread."""
        if not self._watched and isinstance(self._gate, _Epoll):
            self._gate.nudge()

    def stop(self) -> None:
        """Read no more. Any thread."""
        self._ended = True
        self._gate.open()

    def _stand_another(self) -> None:
        with self._lock:
            self._standing += 1
        self._workers.submit(self._stand)

    def _stand(self) -> None:
        """A thread's time at the pipe; it leaves when enough others stand there."""
        while True:
            readable = self._gate.wait()
            with self._lock:
                self._standing -= 1
            if self._ended:
                return
            try:
                worked = readable and self._take_pipe() and self._read_and_work()
            except BaseException as error:  # noqa: BLE001 - a daemon that does not read is deaf
                self._on_failure(error)
                return
            with self._lock:
                if worked and self._standing >= STANDING:
                    return
                self._standing += 1

    def _take_pipe(self) -> bool:
        """Have the pipe to oneself, until `_watch`; False if somebody else has it."""
        with self._lock:
            taken, self._watched = self._watched, False
        return taken

    def _watch(self) -> None:
        """Let those who stand at the pipe watch it."""
        with self._lock:
            self._watched = True
            self._gate.arm()

    def _read_for_others(self) -> bool:
        """Read all there is on the thread that listens; whether the pipe is still its own."""
        try:
            jobs, more = self._read()
        except BaseException as error:  # noqa: BLE001 - it is not this request's failure
            self._on_failure(error)
            return False
        for job in jobs:
            self._workers.in_turn(job)
        return more and not self._ended

    def _read_and_work(self) -> bool:
        self._reading = True
        try:
            jobs, more = self._read()
            if more:
                self._watch()
        finally:
            self._reading = False
        return self._do(jobs)

    def _read(self) -> tuple[list[Callable[[], None]], bool]:
        """One turn: read and hand over all there is.

        Gives the jobs of the last read, and whether to watch for more. The jobs before those are
        for others at once: in a burst, this thread's place is at the pipe.
        """
        jobs: list[Callable[[], None]] = []
        more = True
        while more and not self._ended:
            for job in jobs:
                self._workers.in_turn(job)
            try:
                data = os.read(self._fd, CHUNK)
            except (BlockingIOError, InterruptedError):
                jobs = []
                break
            except OSError:
                data = b""
            if not data:
                self.stop()
                self._on_end()
                return [], False
            jobs, wanted = self._on_data(data)
            if not wanted:
                return jobs, False
            more = len(data) >= MUCH and self._readable()
        return jobs, True

    def _do(self, jobs: list[Callable[[], None]]) -> bool:
        """See to it that the jobs run; whether this thread ran one."""
        mine = jobs.pop(0) if jobs and self._gate.shared and not turnstile.occupied else None
        for job in jobs:
            self._workers.in_turn(job)
        if mine is None:
            return False
        with self._lock:
            alone = self._standing == 0
        if alone:
            self._stand_another()
        mine()
        return True


class _Epoll:
    """The pipe as one event for one of many threads."""

    shared = True

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._epoll = select.epoll()
        try:
            self._epoll.register(fd, ONE_THREAD)
        except PermissionError:
            # A regular file or /dev/null is always readable, so epoll refuses it: pump it.
            self.fd = _pumped(fd)
            self._epoll.register(self.fd, ONE_THREAD)
        self._stop, self._stopper = os.pipe()
        self._epoll.register(self._stop, select.EPOLLIN)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._alone = select.poll()
        for watched in (self.fd, self._stop, self._bell):
            self._alone.register(watched, select.POLLIN)

    def wait(self) -> bool:
        """Wait for a turn; whether there is something to read."""
        return any(fd == self.fd for fd, _ in self._epoll.poll(maxevents=1))

    def arm(self) -> None:
        """Let one thread be woken for what there is to read."""
        self._epoll.modify(self.fd, ONE_THREAD)

    def disarm(self) -> None:
        """Let no thread be woken for it. One that just was may still come."""
        self._epoll.modify(self.fd, NO_THREAD)

    def wait_alone(self, seconds: float) -> bool:
        """Wait for input or a `nudge`, while disarmed; whether there is input.

        Waits at most so long, or less. The end of the daemon counts as input. For one thread at a
        time.
        """
        came = [fd for fd, _ in self._alone.poll(math.ceil(1000 * min(seconds, LONGEST_WAIT)))]
        if self._bell in came:
            os.eventfd_read(self._bell)
        return self.fd in came or self._stop in came

    def nudge(self) -> None:
        """End `wait_alone`. Any thread."""
        os.eventfd_write(self._bell, 1)

    def open(self) -> None:
        """Wake everybody, for good: the byte is never read."""
        os.write(self._stopper, b"x")


class _Poll:
    """The pipe for one thread."""

    shared = False

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._stop, self._stopper = os.pipe()
        self._armed = threading.Event()
        self._armed.set()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._poll.register(self._stop, select.POLLIN)

    def wait(self) -> bool:
        """Wait for a turn; whether there is something to read."""
        self._armed.wait()
        self._armed.clear()
        return any(fd == self.fd for fd, _ in self._poll.poll())

    def arm(self) -> None:
        """Let the thread read on."""
        self._armed.set()

    def open(self) -> None:
        """Wake the thread, for good."""
        os.write(self._stopper, b"x")
        self._armed.set()


def next_of(inbox: SimpleQueue[T], seconds: float) -> T | None:
    """The next of `inbox`, or None when there is none after `seconds`."""
    try:
        return inbox.get(timeout=max(0.0, seconds))
    except Empty:
        return None


def _pumped(fd: int) -> int:
    """A pipe that a thread fills from `fd`; the pipe's own size is the bound."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)

    def pump() -> None:
        try:
            while data := os.read(fd, 64 * 1024):
                view = memoryview(data)
                while view:
                    view = view[os.write(writer, view) :]
        except OSError:
            pass
        finally:
            os.close(writer)

    threading.Thread(target=pump, name="pump", daemon=True).start()
    return reader
