"""The daemon: bytes in, messages to whom they concern, and the end.

The way of a message: `receive` → `Connection.session` → `_take_one` → a greeting answered here, a
host's answer to whoever waits for it, or a request to `Requests`. All of it happens in one turn
after another, whichever thread has it. What is imported before the first answer is imported by this
file and what it names; all that a request needs beyond a greeting comes with the desk, in the
background, and until then requests are held.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from bridge.commands import greeting
from bridge.serving.connection import Connection
from bridge.serving.health import greeting_of
from bridge.serving.loading import Loading
from bridge.serving.outbox import Outbox
from bridge.serving.reading import next_of
from bridge.serving.workers import Workers
from protocol import Received, Refused, Request
from protocol.errors import BridgeError, Busy, DuplicateId, FramingError, Internal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from queue import SimpleQueue

    from bridge.commands.desk import Desk
    from bridge.engine.runtime import Engine
    from bridge.log import Log
    from bridge.secrets import Secrets
    from bridge.serving.loop import Loop
    from bridge.serving.requests import Requests
    from bridge.settings import Settings
    from protocol import Codec, Id

    Job = Callable[[], None]

__all__ = ["EXIT_FRAMING", "Daemon"]

EXIT_FRAMING = 65
"""EX_DATAERR: what came in was not a frame."""

GREETING = {"hello": greeting.hello, "ping": greeting.ping}
"""What is answered before pydantic is imported."""

WHILE_DRAINING = frozenset({"cancel", "shutdown", "stats"})
"""Commands that a daemon still takes when its end has begun, beside those within a host call."""


class Daemon:
    """One connection's daemon. `receive`, `receive_eof` and the loading's news take turns."""

    def __init__(
        self,
        settings: Settings,
        writer: int,
        loop: Loop,
        secrets: Secrets,
        log: Log,
    ) -> None:
        self.settings = settings
        self._loop = loop
        self._secrets = secrets
        self._log = log
        self._since = time.monotonic()
        self.connection = Connection(settings, Outbox(writer, loop, secrets.mask_bytes))
        log.tell = self.connection.tell_line
        self.workers = Workers()
        self.workers.on_starved = self._starved
        self.loading = Loading(loop, settings)
        self.loading.on_desk = self._open_desk
        self.loading.on_engine = self._announce
        self.loading.on_failure = self._loading_failed
        self.listen: Callable[[SimpleQueue[Any], float], Any] = next_of
        """Waits for what is heard; the reader's, which then reads it on the thread that waits."""
        self.nudge: Callable[[], None] = lambda: None
        """Has it look, whatever was heard otherwise."""
        self.status: int | None = None
        self._turn = threading.Lock()
        self._ending = False
        self._broken = False
        self._input_ended = False
        self._held: dict[Id, tuple[Request, Codec, int, float]] = {}
        self._held_bytes = 0
        self._requests: Requests | None = None

    # In

    def receive(self, data: bytes) -> list[Job]:
        """Take bytes of the connection; give the jobs to run now."""
        with self._turn:
            self.connection.session.receive_data(data)
            return self._take()

    def receive_eof(self) -> list[Job]:
        """The end of input, which begins the daemon's; the same, for what was left."""
        with self._turn:
            self.connection.session.receive_eof()
            jobs = self._take()
            self._input_ended = True
            if self._requests is not None:
                self._requests.calls.close()
        self.end(os.EX_OK)
        return jobs

    def resume(self) -> list[Job]:
        """Take what was put off while the host did not read; the same."""
        with self._turn:
            return self._take()

    @property
    def congested(self) -> bool:
        """Whether the host reads too slowly for more of its requests to be taken."""
        return self.connection.session.pending or self.connection.overfull

    def _take(self) -> list[Job]:
        connection = self.connection
        connection.outbox.cork()
        try:
            # Item by item: a few bytes of request may ask for megabytes of answer.
            while not connection.overfull:
                item = connection.session.next_message()
                if item is None:
                    break
                self._take_one(item)
        except FramingError as error:
            self._break_off(error)
        finally:
            connection.outbox.uncork()
        self._end_if_asked()
        return [] if self._requests is None else self._requests.collect()

    def _end_if_asked(self) -> None:
        """After a turn, not in it: a shutdown must not cancel the request that asks for it."""
        if self._ending:
            self.end(os.EX_OK)

    def _take_one(self, item: Received | Refused) -> None:
        requests = self._requests
        if isinstance(item, Refused):
            if item.call is not None and requests is not None:
                requests.calls.broken(item.call, item.error)
            self.connection.send_error(item.id, item.error, item.codec)
        elif isinstance(item.message, Request):
            self._take_request(item.message, item.codec, item.size)
        elif requests is None or not requests.calls.answered(item.message):
            self._log.debug("late_answer", call=str(item.message.call)[:100])

    def _take_request(self, request: Request, codec: Codec, size: int) -> None:
        requests = self._requests
        if request.command in GREETING and self._has(request.id):
            self.connection.send_error(request.id, _in_flight(request), codec)
        elif request.command in GREETING:
            self._greet(request, codec)
        elif self._drains and request.parent is None and request.command not in WHILE_DRAINING:
            error = Busy("the daemon is shutting down; send this to the next one")
            self.connection.send_error(request.id, error, codec)
        elif requests is not None:
            requests.start(request, codec, size, time.monotonic())
        else:
            self.loading.begin()
            self._hold(request, codec, size)

    def _has(self, request_id: Id) -> bool:
        if self._requests is None:
            return request_id in self._held
        return self._requests.inflight.has(request_id)

    def _greet(self, request: Request, codec: Codec) -> None:
        try:
            result = GREETING[request.command](request.args, self._greeting)
        except BridgeError as error:
            self.connection.send_error(request.id, error, codec)
            return
        if request.command == "hello":
            agreed = self.connection.agree(result["protocol"], request.args, codec)
            result["protocol"] = agreed
        self.connection.send_reply(request.id, result, codec)

    def _greeting(self, protocol: int) -> dict[str, Any]:
        return greeting_of(protocol, self.loading, self.settings.limits)

    # Until the commands are there

    def _hold(self, request: Request, codec: Codec, size: int) -> None:
        limits = self.settings.limits
        too_large = self._held and self._held_bytes + size > limits.max_queued_bytes
        error: BridgeError
        if request.id in self._held:
            error = _in_flight(request)
        elif too_large or len(self._held) >= limits.max_queued:
            error = Busy("the daemon is still starting; repeat later")
        else:
            self._held[request.id] = (request, codec, size, time.monotonic())
            self._held_bytes += size
            return
        self.connection.send_error(request.id, error, codec)

    def _open_desk(self, desk: Desk, requests_type: type[Requests]) -> None:
        with self._turn:
            requests = requests_type(
                desk,
                connection=self.connection,
                loop=self._loop,
                workers=self.workers,
                loading=self.loading,
                secrets=self._secrets,
                log=self._log,
                limits=lambda: self.settings.limits,
                change_limits=self._change_limits,
                shutdown=self._shutdown,
                in_turn=self._in_turn,
                worker=self.settings.worker,
                since=self._since,
            )
            requests.calls.listen, requests.calls.nudge = self.listen, self.nudge
            requests.inflight.on_empty = self._wake_to_end
            if self._input_ended:
                requests.calls.close()
            self._requests = requests
            held, self._held = self._held, {}
            for request, codec, size, arrived in held.values():
                requests.start(request, codec, size, arrived)
            jobs = requests.collect()
        self._end_if_asked()
        for job in jobs:
            self.workers.in_turn(job)

    def _announce(self, engine: Engine) -> None:
        with self._turn:
            assert self._requests is not None  # noqa: S101 - the desk came before the engine
            self._requests.begin_working(engine)

    def _loading_failed(self, error: BaseException) -> None:
        reason = f"{type(error).__name__}: {error}"
        self._log.error("dspy_cannot_be_imported", error=reason)
        self.stop_all(Internal(f"DSPy cannot be imported: {reason}"))
        self.end(os.EX_SOFTWARE)

    # The end

    @property
    def _drains(self) -> bool:
        """Whether the end has begun: what is there may finish, and nothing new begins."""
        return self._ending or self.status is not None

    def _break_off(self, error: FramingError) -> None:
        """The host's stream cannot be read on: nothing that it asked for has a use."""
        if not self._broken:
            self._broken = True
            sys.stderr.write(f"dspy-bridge: {error}\n")
            self.end(EXIT_FRAMING)

    @property
    def unanswered(self) -> int:
        """Requests without an answer. The loop's thread."""
        return len(self._held) if self._requests is None else len(self._requests.inflight)

    def stop_all(self, error: BridgeError) -> None:
        """Answer all that has no answer yet with `error`. The loop's thread."""
        with self._turn:
            held, self._held = self._held, {}
            for request, codec, _, _ in held.values():
                self.connection.send_error(request.id, error, codec)
        if self._requests is not None:
            self._requests.stop_all(error)

    def end(self, status: int) -> None:
        """Begin the shutdown, with the exit status; only the first call counts. Any thread."""

        def set_status() -> None:
            if self.status is None:
                self.status = status

        self._loop.call_soon_threadsafe(set_status)

    def _wake_to_end(self) -> None:
        """The last request has its answer; a daemon that waits for it goes on. Any thread."""
        if self.status is not None:
            self._loop.call_soon_threadsafe(lambda: None)

    def _starved(self, error: RuntimeError) -> None:
        self._log.error("no_thread", error=str(error))
        self.end(os.EX_SOFTWARE)

    # What commands may do to the daemon

    def _change_limits(self, changed: Mapping[str, int]) -> None:
        self.settings = self.settings.with_limits(**changed)

    def _shutdown(self, grace_ms: int) -> None:
        self._change_limits({"drain_ms": grace_ms})
        self._ending = True

    def _in_turn(self, change: Callable[[], Any]) -> Any:
        with self._turn:
            return change()


def _in_flight(request: Request) -> DuplicateId:
    return DuplicateId(f"request {request.id!r} is still in flight")
