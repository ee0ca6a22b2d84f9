"""One daemon from start to exit.

Startup: claim the descriptors, open the loop, read. DSPy's import begins with the first answer, or
shortly after when the host says nothing. Shutdown, each step bounded:

1. let requests in flight finish, at most `drain_ms`: the host is heard meanwhile, because they may
   wait for its answers, but what it asks for anew is refused;
2. cancel the rest, which answers them; all of them at once when the input is broken;
3. read no more;
4. let the host take what is written, at most `FLUSH_SECONDS`;
5. restore the pipe's flags, end what was started, and `os._exit`: a thread stuck in a call must not
   keep us.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from bridge.log import Log
from bridge.secrets import Secrets
from bridge.serving.children import end_children
from bridge.serving.daemon import EXIT_FRAMING, Daemon
from bridge.serving.descriptors import Ends, claim
from bridge.serving.loop import Loop
from bridge.serving.reading import Reading
from bridge.turnstile import turnstile
from protocol.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.settings import Settings

__all__ = ["serve"]

IMPORT_DELAY = 0.05
"""Seconds for the host's `hello` to arrive and be answered before the import takes the CPU."""

FLUSH_SECONDS = 5.0
"""How long a host may take to read our last words."""

LOOK_SECONDS = 0.2
"""While it drains, how often the daemon looks whether the host is still there."""

SECRET_NAMES = ("_API_KEY", "_TOKEN", "_SECRET", "_PASSWORD", "_SECRET_KEY", "_ACCESS_KEY")
"""Ends of the names of environment variables that DSPy and litellm find keys in."""

SWITCH_SECONDS = 5e-4
"""How long a busy thread keeps the loop waiting; Python's 5 ms is what a ping would wait."""


def serve(settings: Settings) -> None:
    """Run the daemon until its end; never returns."""
    secrets = Secrets()
    for name, value in os.environ.items():
        if name.endswith(SECRET_NAMES):
            secrets.add(value, for_good=True)
    parent = os.getppid()
    ends = claim(settings.fds, secrets)
    if settings.worker and settings.log_level != "debug":
        # What optimizers print is for a person at a terminal, and there is none.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for good, without pathlib
    sys.setswitchinterval(SWITCH_SECONDS)
    _raise_file_limit()
    log = Log(settings.log_level)
    status = os.EX_SOFTWARE
    try:
        status = _Life(settings, ends, secrets, log, parent).run()
    except BaseException as error:  # noqa: BLE001 - whatever it was, nothing may keep us
        log.tell = None
        log.error("daemon_failed", error=f"{type(error).__name__}: {error}")  # noqa: TRY400 - not logging's log
    ends.restore()
    end_children()
    os._exit(status)


def _raise_file_limit() -> None:
    """As many descriptors as we may have: each LM call in flight is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Life:
    """What happens between start and exit."""

    def __init__(
        self, settings: Settings, ends: Ends, secrets: Secrets, log: Log, parent: int
    ) -> None:
        self._settings = settings
        self._ends = ends
        self._secrets = secrets
        self._log = log
        self._parent = parent
        self._lock = threading.Lock()
        self._paused = False

    def run(self) -> int:
        """Serve, then shut down; the exit status."""
        loop = self._loop = Loop(self._on_fault)
        daemon = Daemon(self._settings, self._ends.writer, loop, self._secrets, self._log)
        reading = Reading(
            self._ends.reader, daemon.workers, self._on_data, self._on_end, self._on_failure
        )
        self._daemon, self._reading = daemon, reading
        daemon.listen, daemon.nudge = reading.listen, reading.nudge
        turnstile.between_jobs = reading.look
        daemon.connection.outbox.on_drained = self._on_drained
        daemon.connection.outbox.on_broken = self._on_gone
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        reading.begin()
        loop.call_later(IMPORT_DELAY, daemon.loading.begin)
        loop.call_later(IMPORT_DELAY, self._watch_parent)
        loop.run_until(lambda: daemon.status is not None)
        if daemon.status != EXIT_FRAMING:
            self._drain(daemon)
        daemon.stop_all(Cancelled("the daemon is shutting down"))
        reading.stop()
        self._flush(daemon)
        return daemon.status or os.EX_OK

    # Signs of the end

    def _on_data(self, data: bytes) -> tuple[list[Callable[[], None]], bool]:
        return self._pause_if_congested(self._daemon.receive(data))

    def _pause_if_congested(
        self, jobs: list[Callable[[], None]]
    ) -> tuple[list[Callable[[], None]], bool]:
        """`jobs` and whether to read on; if not, `_on_drained` will."""
        daemon = self._daemon
        while daemon.congested:
            self._paused = True
            if daemon.connection.outbox.pending or not self._unpause():
                return jobs, False
            # It drained before the flag was up: nobody else would go on.
            jobs = [*jobs, *daemon.resume()]
        return jobs, True

    def _on_drained(self) -> None:
        if not self._unpause():
            return
        jobs, more = self._pause_if_congested(self._daemon.resume())
        for job in jobs:
            self._daemon.workers.in_turn(job)
        if more:
            self._reading.resume()

    def _unpause(self) -> bool:
        with self._lock:
            was, self._paused = self._paused, False
            return was

    def _on_end(self) -> None:
        for job in self._daemon.receive_eof():
            self._daemon.workers.in_turn(job)

    def _on_failure(self, error: BaseException) -> None:
        self._log.error("reading_failed", error=f"{type(error).__name__}: {error}")
        self._daemon.end(os.EX_SOFTWARE)

    def _on_fault(self, error: Exception) -> None:
        self._log.error("loop_fault", error=f"{type(error).__name__}: {error}")

    def _on_gone(self) -> None:
        """Nobody is left to answer: leave at once."""
        self._ends.restore()
        end_children()
        os._exit(os.EX_OK)

    def _on_signal(self) -> None:
        if self._daemon.status is not None:
            # Asked twice: somebody is waiting.
            end_children()
            os._exit(128 + signal.SIGTERM)
        self._daemon.end(os.EX_OK)

    def _watch_parent(self) -> None:
        from bridge.serving.parent import watch_parent  # noqa: PLC0415 - ctypes costs 10 ms

        watch_parent(self._loop, self._parent, self._on_gone)

    # Steps of the shutdown

    def _drain(self, daemon: Daemon) -> None:
        begun = time.monotonic()
        while daemon.unanswered:
            # Asked each time: a second `shutdown` may be in more of a hurry.
            left = begun + daemon.settings.limits.drain_ms / 1000 - time.monotonic()
            if left <= 0 or _hung_up(self._ends.writer):
                return
            self._loop.run_until(lambda: not daemon.unanswered, min(LOOK_SECONDS, left))

    def _flush(self, daemon: Daemon) -> None:
        # What is said from here on would come after the last words.
        self._log.tell = None
        outbox = daemon.connection.outbox
        outbox.on_drained = lambda: None
        # An answer may be on its way there: a large one takes time to be written down.
        self._loop.run_until(lambda: not (daemon.unanswered or outbox.pending), FLUSH_SECONDS)
        if outbox.pending:
            self._log.warning("unread_output", bytes=outbox.pending)


def _hung_up(fd: int) -> bool:
    """Whether the host has closed its end of our output."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
