"""Work that a command left, done: by a strand in a place of its own, or within a host call.

What comes of it is the request's answer, be it a result or an error; nothing is raised.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bridge.scope import current_scope
from bridge.strand import Strand, drive
from bridge.turnstile import turnstile

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.commands.command import Work
    from bridge.scope import Scope
    from bridge.serving.admission import Admission
    from bridge.serving.answering import Boundary
    from bridge.serving.inflight import Entry
    from bridge.serving.loading import Loading
    from bridge.serving.workers import Workers

    Job = Callable[[], None]

__all__ = ["Working"]


class Working:
    """Does work. Any thread.

    Args:
        admission: who gives the places.
        workers: who gives the threads.
        loading: who has the engine, once it is there.
        boundary: what makes an error of an exception.
        finish: answers an entry.
        tells_meta: whether the host wants to know what a request took.
    """

    def __init__(
        self,
        *,
        admission: Admission,
        workers: Workers,
        loading: Loading,
        boundary: Boundary,
        finish: Callable[[Entry, Any], None],
        tells_meta: Callable[[], bool],
    ) -> None:
        self._admission = admission
        self._workers = workers
        self._loading = loading
        self._boundary = boundary
        self._finish = finish
        self._tells_meta = tells_meta

    def admit(self, entry: Entry, work: Work) -> Job | None:
        """What to run now for `entry`; None when it has to wait for a place.

        Raises:
            Busy: too many wait.
        """
        return self._admission.admit(entry.scope, lambda: self._begin(entry, work), entry.size)

    def here(self, entry: Entry, work: Work) -> None:
        """Do it on this thread, in this thread's context, without a place."""
        with turnstile.inside():
            drive(self._answered(entry, work))

    def _begin(self, entry: Entry, work: Work) -> None:
        Strand(self._in_a_place(entry, work), self._workers.submit_or_tell).go_on()

    async def _in_a_place(self, entry: Entry, work: Work) -> None:
        try:
            await self._answered(entry, work)
        finally:
            following = self._admission.ended()
            if following is not None:
                self._workers.in_turn(following)

    async def _answered(self, entry: Entry, work: Work) -> None:
        scope = entry.scope
        current_scope.set(scope)
        try:
            if scope.stopped:
                return
            engine = self._loading.engine()
            scope.check()
            result: Any = work.run(engine)
            if not isinstance(result, dict):
                result = await result
            if self._tells_meta():
                result = {**result, "_meta": _meta(scope)}
        except BaseException as error:  # noqa: BLE001 - the boundary tells what it was
            result = self._boundary.error_of(error, command=entry.request.command)
        self._finish(entry, result)


def _meta(scope: Scope) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "usage": {model: used.to_wire() for model, used in scope.usage.items()},
        "latency_ms": round(1000 * (time.monotonic() - scope.started), 3),
    }
    if scope.keep_rows:
        meta["trace"] = [row.to_wire() for row in scope.rows]
    if scope.warnings:
        meta["warnings"] = scope.warnings
    return meta
