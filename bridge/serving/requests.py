"""Requests to answers, from the moment that the commands are there.

The way of a request: `start` (the envelope and arguments checked, the command's function called) →
`Admission` → `Working` (with DSPy) → `_finish`. `start` happens in the daemon's turn, one request
after another; so whatever changes the registry takes effect in order of arrival, before any later
request starts. A request with a `parent` is part of that host call's work: it needs no place of
its own. Everything behind the turn is for any thread.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from bridge.commands.command import Invocation, Services, Work
from bridge.commands.seed import as_the_seed_answers
from bridge.sandbox.sandbox import sandbox
from bridge.scope import Scope
from bridge.serving.admission import Admission
from bridge.serving.answering import Boundary
from bridge.serving.health import health_of, resident_bytes
from bridge.serving.hostcalls import HostCalls
from bridge.serving.inflight import Entry, InFlight
from bridge.serving.nesting import Nested
from bridge.serving.working import Working
from bridge.stream import Stream
from protocol.errors import BridgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.commands.desk import Desk
    from bridge.engine.runtime import Engine
    from bridge.log import Log
    from bridge.secrets import Secrets
    from bridge.serving.connection import Connection
    from bridge.serving.loading import Loading
    from bridge.serving.loop import Loop
    from bridge.serving.workers import Workers
    from bridge.settings import Limits
    from protocol import Codec, Id, Request

    Job = Callable[[], None]

__all__ = ["Requests"]


class Requests:
    """The requests of one connection.

    Args:
        desk: checks them, and holds what commands work on.
        connection: where the answers go.
        loop: for deadlines.
        workers: whose threads work.
        loading: who has the engine, once it is there.
        secrets: what is masked.
        log: the daemon's.
        limits: gives the bounds in force.
        change_limits: changes some of them.
        shutdown: begins the end of the daemon; takes milliseconds.
        in_turn: changes the registry from a worker's thread, between two requests.
        worker: whether this process is a run of another daemon.
        since: when the daemon was started, in `time.monotonic` seconds.
    """

    def __init__(
        self,
        desk: Desk,
        *,
        connection: Connection,
        loop: Loop,
        workers: Workers,
        loading: Loading,
        secrets: Secrets,
        log: Log,
        limits: Callable[[], Limits],
        change_limits: Callable[[Mapping[str, int]], None],
        shutdown: Callable[[int], None],
        in_turn: Callable[[Callable[[], Any]], Any],
        worker: bool,
        since: float,
    ) -> None:
        self._desk = desk
        self._connection = connection
        self._workers = workers
        self._loading = loading
        self._limits = limits
        self._tell_limits = change_limits
        self._since = since
        self._cache_settings: Mapping[str, Any] = {}
        self._jobs: list[Job] = []
        self.inflight = InFlight(loop, self._refuse)
        self.calls = HostCalls(connection, lambda: limits().host_call_ms / 1000)
        self._nested = Nested(self._finish, lambda: limits().max_nested)
        self._admission = Admission(limits)
        self._boundary = Boundary(log)
        self._working = Working(
            admission=self._admission,
            workers=workers,
            loading=loading,
            boundary=self._boundary,
            finish=self._finish,
            tells_meta=lambda: connection.speaks_2,
        )
        self._services = Services(
            registry=desk.registry,
            runs=desk.runs,
            ledger=desk.ledger,
            secrets=secrets,
            limits=limits,
            change_limits=self._change_limits,
            set_log_level=log.set_level,
            set_cache=self._set_cache,
            cancel=self.inflight.cancel,
            shutdown=shutdown,
            health=self._health,
            in_turn=in_turn,
            host=lambda: self.calls.link(None, connection.codec),
            worker=worker,
            hears_events=lambda: connection.hears_events,
        )
        desk.runs.log = log
        sandbox.limit(limits())

    # In, in the daemon's turn

    def start(self, request: Request, codec: Codec, size: int, arrived: float) -> None:
        """Take a request in and begin it. What comes of it is its answer, or a job.

        Args:
            request: the request.
            codec: for its answer, and for all that it causes.
            size: of its frame, in bytes.
            arrived: when it came, in `time.monotonic` seconds.
        """
        entry = Entry(request, codec, Scope(request.id), arrived, size)
        try:
            self.inflight.add(entry)
        except BridgeError as error:
            self._connection.send_error(request.id, error, codec)
            return
        try:
            result = self._run(entry)
        except BaseException as error:  # noqa: BLE001 - the boundary tells what it was
            result = self._boundary.error_of(error, command=request.command)
        if result is not None:
            self._finish(entry, result)

    def collect(self) -> list[Job]:
        """The jobs that have come since the last time: each is to run once, on any thread."""
        jobs, self._jobs = self._jobs, []
        return jobs

    def _run(self, entry: Entry) -> Any:
        """Call the command; its result, or None where somebody else will answer."""
        request, desk = entry.request, self._desk
        call = None if request.parent is None else self.calls.find(request.parent)
        if call is not None and call.asker is not None and desk.runs_within(request):
            self._nested.pass_on(entry, call, call.asker, self.inflight.watch)
            return None
        scope = desk.scope_of(
            request, self._services, entry.arrived, None if call is None else call.scope
        )
        scope.host = self.calls.link(request.id, entry.codec)
        scope.progress = partial(self._tell_progress, request.id, entry.order, entry.codec)
        if request.stream:
            scope.stream = self._stream_of(request.id, entry.codec)
        self.inflight.watch(entry, scope)
        hear = None if call is None else call.hear
        result = desk.run(request, Invocation(self._services, scope, hear))
        if not isinstance(result, Work):
            return result
        if call is not None and call.context is not None:
            job: Job | None = self._nested.within(
                entry, call, lambda: self._working.here(entry, result)
            )
        else:
            job = self._working.admit(entry, result)
        if job is not None:
            self._jobs.append(job)
        return None

    # What a scope holds must not hold its entry: a cycle would keep each request's arguments until
    # the garbage collector comes by.

    def _stream_of(self, request_id: Id, codec: Codec) -> Stream:
        connection = self._connection
        return Stream(
            lambda name, data: connection.send_event(name, request_id, data, codec),
            connection.outbox,
            self._services.secrets.safe,
            self._limits().max_frame,
        )

    # Out

    def _finish(self, entry: Entry, outcome: Any) -> None:
        """Answer `entry`, unless it has been answered."""
        if not self.inflight.claim(entry):
            return
        _end_stream(entry)
        try:
            self._count(entry)
            self._answer(entry, outcome)
        finally:
            self.inflight.sent()

    def _answer(self, entry: Entry, outcome: Any) -> None:
        request = entry.request
        if isinstance(outcome, BridgeError):
            self._connection.send_error(request.id, outcome, entry.codec)
            return
        if not self._connection.speaks_2:
            outcome = as_the_seed_answers(request.command, outcome)
        self._connection.send_reply(request.id, outcome, entry.codec)

    def _refuse(self, entry: Entry, error: BridgeError) -> None:
        """Answer a claimed `entry` that was stopped."""
        self._admission.withdraw(entry.scope)
        _end_stream(entry)
        self._count(entry)
        self._connection.send_error(entry.request.id, error, entry.codec)

    def _count(self, entry: Entry) -> None:
        self._services.ledger.answered(entry.scope.tenant, time.monotonic() - entry.arrived)

    def _tell_progress(
        self,
        request_id: Id,
        order: int,
        codec: Codec,
        data: dict[str, Any],
        *,
        detached: bool = False,
    ) -> None:
        """Tell how a request goes; a detached run has no request any more."""
        if detached:
            self._connection.send_event("progress", None, data, codec)
        elif self.inflight.holds(request_id, order):
            # Once answered, its id may be another request's.
            self._connection.send_event("progress", request_id, data, codec)

    # Life

    def begin_working(self, engine: Engine) -> None:
        """Give the work that waits its engine. In the daemon's turn."""
        engine.set_cache(self._cache_settings)
        self._boundary.explain = engine.explain
        self._loading.settle(engine)
        data = {"seconds": self._loading.seconds, "rss": resident_bytes()}
        self._connection.send_event("ready", None, data)

    def stop_all(self, error: BridgeError) -> None:
        """Answer whatever is in flight with `error`."""
        for entry in self.inflight:
            self.inflight.stop(entry, error)

    # What commands may do to the daemon

    def _change_limits(self, changed: Mapping[str, int]) -> None:
        self._tell_limits(changed)
        sandbox.limit(self._limits())
        self._jobs += self._admission.refill()

    def _set_cache(self, settings: Mapping[str, Any]) -> None:
        self._cache_settings = settings
        if self._loading.ready:
            self._loading.engine().set_cache(settings)

    def _health(self) -> dict[str, Any]:
        registry = self._desk.registry
        return {
            **health_of(
                since=self._since,
                loading=self._loading,
                inflight=self.inflight,
                admission=self._admission,
                workers=self._workers,
            ),
            "modules": len(registry.modules()),
            "programs": len(registry.programs()),
            "pending_output": self._connection.outbox.pending,
            "host_calls": len(self.calls),
        }


def _end_stream(entry: Entry) -> None:
    """No event of a request comes behind its reply."""
    if entry.scope.stream is not None:
        entry.scope.stream.close()
