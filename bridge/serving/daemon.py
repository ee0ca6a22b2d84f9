"""The daemon: bytes in, requests to commands, answers out.

The way of a request: `receive` → `Session.receive_data` → `take` → `_request` → `_start` (the
envelope and arguments checked, the command's function called) → `Admission` → `Working` (with DSPy)
→ `_finish`. All up to `_start` happens in one turn after another, whichever thread has it; so
whatever changes the registry takes effect in order of arrival, before any later request starts.
A request with a `parent` is part of that host call's work: it needs no place of its own.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from bridge.commands import greeting
from bridge.commands.command import Invocation, Services, Work
from bridge.commands.seed import as_the_seed_answers
from bridge.ledger import Ledger
from bridge.sandbox.sandbox import sandbox
from bridge.scope import Scope
from bridge.serving.admission import Admission
from bridge.serving.answering import Boundary
from bridge.serving.health import greeting_of, health_of, resident_bytes
from bridge.serving.hostcalls import HostCalls
from bridge.serving.inflight import Entry, InFlight
from bridge.serving.loading import Loading
from bridge.serving.nesting import Nested
from bridge.serving.outbox import Outbox
from bridge.serving.workers import Workers
from bridge.serving.working import Working
from bridge.stream import Stream
from protocol import Codec, DaemonSession, Received, Refused, Request
from protocol.errors import BridgeError, Busy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bridge.commands.desk import Desk
    from bridge.engine.runtime import Engine
    from bridge.log import Log
    from bridge.secrets import Secrets
    from bridge.serving.loop import Loop
    from bridge.settings import Settings

    Job = Callable[[], None]

__all__ = ["Daemon"]

GREETING = {"hello": greeting.hello, "ping": greeting.ping}
"""What is answered before pydantic is imported."""


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
        self.since = time.monotonic()
        self.session = DaemonSession(framing=settings.framing, max_frame=settings.limits.max_frame)
        self.outbox = Outbox(writer, loop, secrets.mask_bytes)
        self.inflight = InFlight(loop, self._refuse)
        self.workers = Workers()
        self.workers.on_starved = self._starved
        self.calls = HostCalls(
            self.session, self.outbox.send, lambda: self.settings.limits.host_call_ms / 1000
        )
        self.nested = Nested(self._finish, lambda: self.settings.limits.max_nested)
        self.admission = Admission(lambda: self.settings.limits)
        self.ledger = Ledger(rows=settings.limits.history_rows, text=settings.limits.history_bytes)
        self.loading = Loading(loop, self.ledger, settings)
        sandbox.limit(settings.limits)
        self.loading.on_desk = self._open_desk
        self.loading.on_engine = self._announce
        self.loading.on_failure = self._loading_failed
        self.status: int | None = None
        self._boundary = Boundary(log)
        self._working = Working(
            admission=self.admission,
            workers=self.workers,
            loading=self.loading,
            boundary=self._boundary,
            finish=self._finish,
            tells_meta=lambda: self.session.version > 1,
        )
        self._log = log
        log.tell = self._tell_line
        self._turn = threading.Lock()
        self._jobs: list[Job] = []
        self._ending = False
        self._put_off: deque[Received | Refused] = deque()
        self._desk: Desk | None = None
        self._held: deque[Entry] = deque()
        self._held_bytes = 0
        self._hello_codec = Codec.JSON
        self._tells_events = True
        self._services = Services(
            ledger=self.ledger,
            secrets=secrets,
            limits=lambda: self.settings.limits,
            change_limits=self._change_limits,
            set_log_level=log.set_level,
            set_cache=self._set_cache,
            cancel=self.inflight.cancel,
            shutdown=self._shutdown,
            health=self._health,
            greet=self._greet,
            in_turn=self._in_turn,
            host=lambda: self.calls.link(None, self._hello_codec),
            worker=settings.worker,
            tells_events=lambda: self._tells_events,
        )
        self._cache_settings: Mapping[str, Any] = {}

    # In

    def receive(self, data: bytes) -> list[Job]:
        """Take bytes of the connection; give the jobs to run now.

        Raises:
            FramingError: the connection cannot go on.
        """
        with self._turn:
            return self._take(self.session.receive_data(data))

    def receive_eof(self) -> list[Job]:
        """The end of input; the same, for what was left."""
        with self._turn:
            return self._take(self.session.receive_eof())

    def resume(self) -> list[Job]:
        """Take what was put off while the host did not read; the same."""
        with self._turn:
            return self._take(())

    @property
    def congested(self) -> bool:
        """Whether the host reads too slowly for more of its requests to be taken."""
        return bool(self._put_off) or self._overfull()

    def _overfull(self) -> bool:
        return self.outbox.pending > self.settings.limits.max_pending_output

    def _take(self, items: Iterable[Received | Refused]) -> list[Job]:
        self._put_off.extend(items)
        self._jobs = []
        self.outbox.cork()
        try:
            # Item by item: a few bytes of request may ask for megabytes of answer.
            while self._put_off and not self._overfull():
                self._take_one(self._put_off.popleft())
        finally:
            self.outbox.uncork()
        self._end_if_asked()
        return self._jobs

    def _end_if_asked(self) -> None:
        """After a turn, not in it: a shutdown must not cancel the request that asks for it."""
        if self._ending:
            self.end(os.EX_OK)

    def _take_one(self, item: Received | Refused) -> None:
        if isinstance(item, Refused):
            if item.call is not None:
                self.calls.broken(item.call, item.error)
            self._send_error(item.id, item.error, item.codec)
        elif isinstance(item.message, Request):
            self._request(item.message, item.codec, item.size)
        elif not self.calls.answered(item.message):
            self._log.debug("late_answer", call=str(item.message.call)[:100])

    def _request(self, request: Request, codec: Codec, size: int) -> None:
        quick = GREETING.get(request.command)
        if quick is not None and not self.inflight.has(request.id):
            invocation = Invocation(self._services, Scope(request.id))
            try:
                result = quick(request.args, invocation)
            except BridgeError as error:
                self.session.stay()
                self._send_error(request.id, error, codec)
                return
            if request.command == "hello":
                result["protocol"] = self.session.upgrade(result["protocol"], codec)
                self._hello_codec = codec
                accepts = request.args.get("accepts")
                self._tells_events = accepts is None or "events" in accepts
                self.calls.accepted = accepts is None or "calls" in accepts
            self.outbox.send(self.session.encode_reply(request.id, result, codec))
            return
        entry = Entry(request, codec, Scope(request.id), size=size)
        try:
            self.inflight.add(entry)
        except BridgeError as error:
            self._send_error(request.id, error, codec)
            return
        if self._desk is None:
            self.loading.begin()
            self._hold(entry)
        else:
            self._start(entry, self._desk)

    def _hold(self, entry: Entry) -> None:
        limits = self.settings.limits
        too_large = self._held and self._held_bytes + entry.size > limits.max_queued_bytes
        if too_large or len(self._held) >= limits.max_queued:
            self._finish(entry, Busy("the daemon is still starting; repeat later"))
        else:
            self._held.append(entry)
            self._held_bytes += entry.size

    def _start(self, entry: Entry, desk: Desk) -> None:
        request = entry.request
        try:
            call = None if request.parent is None else self.calls.find(request.parent)
            if call is not None and call.asker is not None and desk.runs_within(request):
                self.nested.pass_on(entry, call, call.asker, self.inflight.watch)
                return
            scope = desk.scope_of(request, self._services, None if call is None else call.scope)
            scope.host = self.calls.link(request.id, entry.codec)
            scope.progress = partial(self._tell_progress, request.id, entry.order, entry.codec)
            if request.stream:
                scope.stream = self._stream_of(request.id, entry.codec)
            self.inflight.watch(entry, scope)
            hear = None if call is None else call.hear
            result = desk.run(request, Invocation(self._services, scope, hear))
            if isinstance(result, Work):
                if call is not None and call.context is not None:
                    self._jobs.append(
                        self.nested.within(entry, call, lambda: self._working.here(entry, result))
                    )
                    return
                job = self._working.admit(entry, result)
                if job is not None:
                    self._jobs.append(job)
                return
        except BaseException as error:  # noqa: BLE001 - the boundary tells what it was
            self._finish(entry, self._boundary.error_of(error, command=request.command))
            return
        self._finish(entry, result)

    # What a scope holds must not hold its entry: a cycle would keep each request's arguments until
    # the garbage collector comes by.

    def _stream_of(self, request_id: int | str, codec: Codec) -> Stream:
        return Stream(
            lambda name, data: self._send_event(name, request_id, data, codec),
            self.outbox,
            self._services.secrets.safe,
            self.settings.limits.max_frame,
        )

    # Out, from any thread

    def _finish(self, entry: Entry, outcome: Any) -> None:
        """Answer `entry`, unless it has been answered. Any thread."""
        if not self.inflight.claim(entry):
            return
        _end_stream(entry)
        try:
            self.ledger.answered(entry.scope.tenant, time.monotonic() - entry.arrived)
            self.outbox.send(self._frame_of(entry, outcome))
        finally:
            self.inflight.sent()

    def _frame_of(self, entry: Entry, outcome: Any) -> bytes:
        request = entry.request
        if isinstance(outcome, BridgeError):
            return self.session.encode_error(request.id, outcome, entry.codec)
        if self.session.version == 1:
            outcome = as_the_seed_answers(request.command, outcome)
        return self.session.encode_reply(request.id, outcome, entry.codec)

    def _send_event(
        self, name: str, request_id: int | str | None, data: dict[str, Any], codec: Codec
    ) -> None:
        """Tell the host something, if it speaks version 2 and wants to hear. Any thread."""
        if self._hears_events():
            frame = self.session.encode_event(name, request_id, data, codec)
            if frame is not None:
                self.outbox.send(frame)

    def _hears_events(self) -> bool:
        return self.session.version > 1 and self._tells_events

    def _tell_line(self, line: dict[str, Any]) -> bool:
        """Tell the host a line of the log; False leaves it for standard error. Any thread."""
        if self._overfull() or not self._hears_events():
            return False
        self._send_event("log", None, line, self._hello_codec)
        return True

    def _tell_progress(
        self,
        request_id: int | str,
        order: int,
        codec: Codec,
        data: dict[str, Any],
        *,
        detached: bool = False,
    ) -> None:
        """Tell how a request goes; a detached run has no request any more. Any thread."""
        if detached:
            self._send_event("progress", None, data, codec)
        elif self.inflight.holds(request_id, order):
            # Once answered, its id may be another request's.
            self._send_event("progress", request_id, data, codec)

    def _refuse(self, entry: Entry, error: BridgeError) -> None:
        self.admission.withdraw(entry.scope)
        _end_stream(entry)
        self.ledger.answered(entry.scope.tenant, time.monotonic() - entry.arrived)
        self._send_error(entry.request.id, error, entry.codec)

    def _send_error(self, request_id: int | str | None, error: BridgeError, codec: Codec) -> None:
        self.outbox.send(self.session.encode_error(request_id, error, codec))

    # Life

    def _open_desk(self, desk: Desk) -> None:
        with self._turn:
            self._desk = desk
            desk.runs.log = self._log
            self._services.registry, self._services.runs = desk.registry, desk.runs
            self._jobs = []
            while self._held:
                entry = self._held.popleft()
                if self.inflight.holds(entry.request.id, entry.order):
                    self._start(entry, desk)
            jobs = self._jobs
        self._end_if_asked()
        for job in jobs:
            self.workers.in_turn(job)

    def _announce(self, engine: Engine) -> None:
        with self._turn:
            engine.set_cache(self._cache_settings)
            self._boundary.explain = engine.explain
            self.loading.settle(engine)
            data = {"seconds": self.loading.seconds, "rss": resident_bytes()}
            self._send_event("ready", None, data, self._hello_codec)

    def _loading_failed(self, error: BaseException) -> None:
        self._log.error("dspy_cannot_be_imported", error=f"{type(error).__name__}: {error}")
        for entry in self.inflight:
            self._finish(entry, self._boundary.error_of(error))
        self.end(70)

    def _starved(self, error: RuntimeError) -> None:
        self._log.error("no_thread", error=str(error))
        self.end(os.EX_SOFTWARE)

    def _shutdown(self, grace_ms: int) -> None:
        self.settings = self.settings.with_limits(drain_ms=grace_ms)
        self._ending = True

    def end(self, status: int) -> None:
        """Begin the shutdown, with the exit status; only the first call counts. Any thread."""

        def set_status() -> None:
            if self.status is None:
                self.status = status

        self._loop.call_soon_threadsafe(set_status)

    # What commands may do to the daemon

    def _in_turn(self, change: Callable[[], Any]) -> Any:
        """Change the registry from a worker's thread, between two requests."""
        with self._turn:
            return change()

    def _greet(self, protocol: int) -> dict[str, Any]:
        return greeting_of(protocol, self.loading, self.settings.limits)

    def _health(self) -> dict[str, Any]:
        registry = self._services.registry if self._desk else None
        return {
            **health_of(
                since=self.since,
                loading=self.loading,
                inflight=self.inflight,
                admission=self.admission,
                workers=self.workers,
            ),
            "modules": len(registry.modules()) if registry else 0,
            "programs": len(registry.programs()) if registry else 0,
            "pending_output": self.outbox.pending,
            "host_calls": len(self.calls),
        }

    def _change_limits(self, changed: Mapping[str, int]) -> None:
        self.settings = self.settings.with_limits(**changed)
        sandbox.limit(self.settings.limits)
        self._jobs += self.admission.refill()

    def _set_cache(self, settings: Mapping[str, Any]) -> None:
        self._cache_settings = settings
        if self.loading.ready:
            self.loading.engine().set_cache(settings)


def _end_stream(entry: Entry) -> None:
    """No event of a request comes behind its reply."""
    if entry.scope.stream is not None:
        entry.scope.stream.close()
