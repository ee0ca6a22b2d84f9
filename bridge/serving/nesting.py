"""Requests that the host sends while it answers a call: they run where the call came from.

A call of this process's own is answered in its thread's context, so that DSPy's trace, the LM and
the learned state in force are the asking program's. A call that was relayed for a child process
sends the request on to the child. Neither waits for a place: the asking request has one already.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from bridge.scope import FARTHEST_DEADLINE_MS, Scope, Stopped
from protocol.errors import (
    BridgeError,
    Busy,
    Cancelled,
    Internal,
    Unsupported,
    WorkerDied,
    error_from_wire,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from bridge.hostlink import Asker
    from bridge.serving.hostcalls import OpenCall
    from bridge.serving.inflight import Entry

__all__ = ["Nested"]

PASSED = ("budget", "lm", "trace")
"""What of the envelope goes on to a child as it is; the tenant is the run's."""


class Nested:
    """Runs and passes on such requests. Any thread.

    Args:
        finish: answers an entry.
        most: how many may run here at once.
    """

    def __init__(self, finish: Callable[[Entry, Any], None], most: Callable[[], int]) -> None:
        self._finish = finish
        self._most = most
        self._lock = threading.Lock()
        self._running = 0

    def within(self, entry: Entry, call: OpenCall, work: Callable[[], None]) -> Callable[[], None]:
        """The job that does `work` in the asking thread's context; it ends with the asking request.

        Raises:
            Busy: too many run.
        """
        with self._lock:
            if self._running >= self._most():
                raise Busy(f"{self._running} requests run within host calls; repeat later")
            self._running += 1

        def job() -> None:
            try:
                self._run(entry, call, work)
            finally:
                with self._lock:
                    self._running -= 1

        return job

    def _run(self, entry: Entry, call: OpenCall, work: Callable[[], None]) -> None:
        outer = call.scope
        assert outer is not None  # noqa: S101 - a call of our own has both
        assert call.context is not None  # noqa: S101 - a call of our own has both

        def stop() -> None:
            entry.scope.stop(outer.error or Cancelled("the request that asked has ended"))

        try:
            with outer.abortable(stop):
                call.context.copy().run(work)
        except Stopped as stopped:
            self._finish(entry, stopped.error)

    def pass_on(
        self,
        entry: Entry,
        call: OpenCall,
        asker: Asker,
        watch: Callable[[Entry, Scope], None],
    ) -> None:
        """Let the child that asked do the request, and answer with what it answers.

        Raises:
            Unsupported: it is to be streamed; a child's events are its run's.
        """
        request = entry.request
        if request.stream:
            raise Unsupported("stream: what runs within an optimizer's run is not streamed")
        scope = Scope(request.id, tenant=request.tenant)
        if request.deadline_ms is not None:
            scope.deadline = (
                time.monotonic() + min(request.deadline_ms, FARTHEST_DEADLINE_MS) / 1000
            )
        envelope = {
            name: value for name in PASSED if (value := getattr(request, name)) not in (None, False)
        }
        watch(entry, scope)
        done = asker.send(request.command, request.args, parent=call.asked_as, **envelope)
        scope.on_stop(lambda: _cancel(asker, done))
        done.add_done_callback(lambda future: self._finish(entry, _outcome(future)))


def _cancel(asker: Asker, done: Future[Any]) -> None:
    asker.send("cancel", {"request": done.request_id})  # type: ignore[attr-defined]


def _outcome(future: Future[Any]) -> Any:
    """What a child answered, as an answer of ours."""
    error = future.exception()
    if error is None:
        return future.result()
    told = getattr(error, "error", None)
    if told is not None:
        return error_from_wire(told)
    if isinstance(error, BridgeError):
        return error
    if hasattr(error, "status"):
        return WorkerDied("the run's process ended", status=error.status)
    return Internal(f"{type(error).__name__} between this process and the run's")
