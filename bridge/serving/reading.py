"""The way in. Whoever reads a request does it, so that no second thread has to be woken for it.

A few of the workers' threads stand at the pipe. The kernel wakes one of them for what arrives; it
reads, takes all that is in there to the daemon (in order: one turn at a time), lets the next one
watch, and then runs one of the resulting jobs itself if nothing computes at the moment; the
others get a thread when their turn comes. Waking a thread costs as much as a quarter of a DSPy
call, and this way it happens beside the call, not before it. There is always one more thread at
the pipe, so a ping never waits behind a job.

Where there is no epoll, one thread reads and every job goes to a worker.
"""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING

from bridge.turnstile import turnstile

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.serving.workers import Workers

__all__ = ["Reading"]

CHUNK = 256 * 1024
"""Bytes of one read: enough that a large frame is few reads, little enough to be fair."""

STANDING = 2
"""Threads at the pipe while nothing happens: one to take the next request, one to remain."""


if hasattr(select, "epoll"):
    ONE_THREAD = select.EPOLLIN | select.EPOLLONESHOT


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
        self._ended = False
        self._gate = _Epoll(fd) if hasattr(select, "epoll") else _Poll(fd)
        self._fd = self._gate.fd
        self._waiting = select.poll()
        self._waiting.register(self._fd, select.POLLIN)

    def begin(self) -> None:
        """Put the first threads at the pipe."""
        for _ in range(STANDING if self._gate.shared else 1):
            self._stand_another()

    def resume(self) -> None:
        """Read on after `on_data` asked for a pause. Any thread."""
        self._gate.arm()

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
                worked = readable and self._do(self._read())
            except BaseException as error:  # noqa: BLE001 - a daemon that does not read is deaf
                self._on_failure(error)
                return
            with self._lock:
                if worked and self._standing >= STANDING:
                    return
                self._standing += 1

    def _read(self) -> list[Callable[[], None]]:
        """One turn: read and hand over all there is, then let the next thread watch.

        Gives the jobs of the last read. Those before it are for others at once: in a burst, this
        thread's place is at the pipe.
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
                return []
            jobs, wanted = self._on_data(data)
            if not wanted:
                return jobs
            more = bool(self._waiting.poll(0))
        self._gate.arm()
        return jobs

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

    def wait(self) -> bool:
        """Wait for a turn; whether there is something to read."""
        return any(fd == self.fd for fd, _ in self._epoll.poll(maxevents=1))

    def arm(self) -> None:
        """Let one thread be woken for what there is to read."""
        self._epoll.modify(self.fd, ONE_THREAD)

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
