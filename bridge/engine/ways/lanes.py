"""Calls of a program beside one another, each with a trace of its own until it has ended."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Self, TypeVar

import dspy

from bridge.engine.parallel import in_parallel
from bridge.turnstile import turnstile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

__all__ = ["CallLanes", "parallel_map"]

T = TypeVar("T")
R = TypeVar("R")

MOST_PARALLEL = 8
"""Calls of one program at once; a program is one request among many."""

_is_parallel: ContextVar[bool] = ContextVar("is_parallel", default=False)


def parallel_map(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """``work`` over the items as `in_parallel` does it, and the trace as if one after the other.

    A stopped request ends its waits by itself, so nothing here waits for long then.
    """
    if len(items) <= 1 or _is_parallel.get():
        # Within one of many threads already: threads within threads would multiply.
        return [work(item) for item in items]
    results = []
    for result, trace in in_parallel(
        lambda item: _traced(lambda: work(item)), items, MOST_PARALLEL, "each"
    ):
        results.append(result)
        _extend_trace(trace)
    return results


class CallLanes:
    """Calls that a program begins and takes the results of later; for `with`."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._begun: dict[int, Future[tuple[Any, list[Any]]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            with turnstile.outside():
                self._pool.shutdown(wait=True, cancel_futures=True)

    def begin(self, number: int, work: Callable[[], Any]) -> None:
        """Begin a call; here and now if this is one of many threads already."""
        if _is_parallel.get():
            future: Future[tuple[Any, list[Any]]] = Future()
            try:
                future.set_result((work(), []))
            except Exception as error:  # noqa: BLE001 - `ended` has it
                future.set_exception(error)
        else:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(MOST_PARALLEL, "await")
            future = self._pool.submit(copy_context().run, _traced, work)
        self._begun[number] = future

    def ended(self) -> list[tuple[int, Any]]:
        """The numbers of calls that have ended, each with its value or exception; waits for one."""
        with turnstile.outside():
            done, _ = wait(self._begun.values(), return_when=FIRST_COMPLETED)
        found: list[tuple[int, Any]] = []
        for number, future in list(self._begun.items()):
            if future not in done:
                continue
            del self._begun[number]
            error = future.exception()
            if error is None:
                value, trace = future.result()
                _extend_trace(trace)
                found.append((number, value))
            else:
                found.append((number, error))
        return found


def _traced(work: Callable[[], T]) -> tuple[T, list[Any]]:
    _is_parallel.set(True)
    with turnstile.inside(), dspy.context(trace=[]):
        return work(), dspy.settings.trace


def _extend_trace(trace: list[Any]) -> None:
    if dspy.settings.trace is not None:
        dspy.settings.trace.extend(trace)
