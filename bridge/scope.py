"""What one request may use, and what it has used.

A scope is made when a request arrives and is current (`current_scope`) in every thread that works
for it. Whoever is about to wait or to spend asks it first. `stop` may come from any thread; it
breaks the waits that registered themselves and makes every later check raise `Stopped`, which is
a BaseException because DSPy swallows ordinary ones.
"""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from protocol.errors import BridgeError, BudgetExceeded, DeadlineExceeded, HostError, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from bridge.hostlink import HostLink
    from bridge.stream import Stream

__all__ = [
    "FARTHEST_DEADLINE_MS",
    "Budget",
    "ModuleCall",
    "Scope",
    "Stopped",
    "Usage",
    "current_attempt",
    "current_module",
    "current_scope",
    "current_tally",
]


FARTHEST_DEADLINE_MS = 366 * 24 * 3600 * 1000
"""A year: a later deadline is none, and an integer of any size may come."""


class Stopped(BaseException):
    """The request has been stopped; `error` is its answer."""

    def __init__(self, error: BridgeError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Budget:
    """What a request may spend; None is no bound."""

    lm_calls: int | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None


UNBOUNDED = Budget()


@dataclass(slots=True)
class Usage:
    """Calls, tokens and US dollars; `cost` stays None while no call had a known price."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    cached_calls: int = 0

    def add(self, other: Usage) -> None:
        """Count `other` in."""
        self.calls += other.calls
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cached_calls += other.cached_calls
        if other.cost is not None:
            self.cost = (self.cost or 0.0) + other.cost

    def since(self, earlier: Usage) -> Usage:
        """What has been added to `earlier` to make this."""
        return Usage(
            self.calls - earlier.calls,
            self.input_tokens - earlier.input_tokens,
            self.output_tokens - earlier.output_tokens,
            None if self.cost is None else self.cost - (earlier.cost or 0.0),
            self.cached_calls - earlier.cached_calls,
        )

    def to_wire(self) -> dict[str, Any]:
        """``{calls, input_tokens, output_tokens, cost, cached_calls}``."""
        return {
            "calls": self.calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost": self.cost,
            "cached_calls": self.cached_calls,
        }


@dataclass(slots=True)
class ModuleCall:
    """One call of a host's module, which history rows point to; outputs come when it returns."""

    module_id: str | None
    inputs: dict[str, Any]
    outputs: dict[str, Any] | None = None


@dataclass(slots=True, eq=False)
class Scope:
    """One request's limits and counters. Times are `time.monotonic` seconds.

    `record` may answer LM calls from an earlier run, and keeps those of this one; `on_lm` hears of
    each LM call's end, with its error or None. `progress` tells the host, under the request's id
    while it has no answer, or under none with ``detached=True``. A scope with a `parent` is a
    request that the host sent while it answers a call of the parent's: what it spends is spent
    there as well, and it ends with it. `stream` takes what a streamed request tells its host
    meanwhile; None where nobody asked.
    """

    request_id: int | str | None = None
    tenant: str | None = None
    program_id: str | None = None
    lm: Any = None
    lms: Any = None
    adapter: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    traceparent: str | None = None
    keep_rows: bool = False
    record: Any = None
    on_lm: Callable[[BaseException | None], None] | None = None
    progress: Callable[..., None] = lambda _, detached=False: None  # noqa: ARG005
    host: HostLink | None = None
    parent: Scope | None = None
    stream: Stream | None = None
    seconds: float | None = None
    deadline: float | None = None
    budget: Budget = UNBOUNDED
    started: float = field(default_factory=time.monotonic)
    usage: dict[str, Usage] = field(default_factory=dict)
    rows: list[Any] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _error: BridgeError | None = None
    _calls: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _aborts: dict[int, Callable[[], None]] = field(default_factory=dict)
    _asked: dict[int, str] = field(default_factory=dict)

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._error is not None

    @property
    def error(self) -> BridgeError | None:
        """What `stop` was called with."""
        return self._error

    def stop(self, error: BridgeError) -> None:
        """End this request with `error`; only the first call counts. Any thread."""
        with self._lock:
            if self._error is not None:
                return
            self._error = error
            aborts = list(self._aborts.values())
        for abort in aborts:
            abort()

    def check(self) -> None:
        """Raise Stopped if the request was stopped or its time is over."""
        if self.parent is not None:
            self.parent.check()
        if self._error is None:
            if self.deadline is None or time.monotonic() < self.deadline:
                return
            self.stop(self.out_of_time())
        raise Stopped(self._error or DeadlineExceeded("the request was stopped"))

    def out_of_time(self) -> BridgeError:
        """The answer once `deadline` has passed: whichever of deadline and budget set it.

        When the request waits for the host by then, it is the host that was too late.
        """
        bound, deadline = self.budget.seconds, self.deadline or self.started
        asked = next(iter(self._asked.values()), None)
        if asked is not None:
            return HostError(
                f"the host did not answer {asked} within the request's "
                f"{1000 * (deadline - self.started):.0f} ms"
            )
        if bound is not None and deadline >= self.started + bound:
            return BudgetExceeded(
                f"the budget of {bound:g} seconds is used up",
                budget="seconds",
                limit=bound,
                used=time.monotonic() - self.started,
            )
        return DeadlineExceeded(f"not done within {1000 * (deadline - self.started):.0f} ms")

    def remaining(self, at_most: float) -> float:
        """Seconds that a wait may still take, never more than `at_most`."""
        if self.deadline is None:
            return at_most
        return max(0.0, min(at_most, self.deadline - time.monotonic()))

    def abortable(self, abort: Callable[[], None]) -> AbstractContextManager[None]:
        """While inside, `stop` calls `abort` (from its own thread) to break the wait."""
        return _Abortable(self, abort)

    def on_stop(self, abort: Callable[[], None]) -> None:
        """Let `stop` call `abort`, however long this scope lives; at once if it was stopped."""
        with self._lock:
            if self._error is None:
                self._aborts[id(abort)] = abort
                return
        abort()

    def ask_host(
        self,
        target: str,
        name: str,
        args: dict[str, Any],
        *,
        on_chunk: Callable[[str], None] | None = None,
        seconds: float | None = None,
    ) -> Any:
        """The host's answer to a call; waits for it.

        Args:
            target: one of `protocol.HOST_CALL_TARGETS`.
            name: which of the host's functions.
            args: plain values.
            on_chunk: hears the pieces of text that the host sends before it answers.
            seconds: how long the host may take; `host_call_ms` when left out.

        Raises:
            Unsupported: this connection takes no host calls.
            HostError: the host failed, or did not answer in time.
            Stopped: the request was stopped meanwhile; the host's call is withdrawn.
        """
        if self.host is None:
            raise Unsupported(f"{target} {name!r} is the host's, and there is no host to ask here")
        self.check()
        what = f"{target} {name!r}"
        key = id(what)
        self._asked[key] = what
        try:
            return self.host.ask(self, target, name, args, on_chunk=on_chunk, seconds=seconds)
        finally:
            self._asked.pop(key, None)

    def within(self, request_id: int | str | None) -> Scope:
        """The scope of a request that the host sends while it answers a call of this one."""
        return Scope(
            request_id=request_id,
            tenant=self.tenant,
            program_id=self.program_id,
            lm=self.lm,
            lms=self.lms,
            adapter=self.adapter,
            traceparent=self.traceparent,
            keep_rows=self.keep_rows,
            record=self.record,
            on_lm=self.on_lm,
            host=self.host,
            parent=self,
            deadline=self.deadline,
        )

    def keep(self, row: Any) -> None:
        """Remember an LM call for the trace, here and where this request came from."""
        if self.keep_rows:
            self.rows.append(row)
        if self.parent is not None:
            self.parent.keep(row)

    def spend_call(self) -> None:
        """Ask for one LM call; raise Stopped if the budget has none left."""
        self.check()
        if self.parent is not None:
            self.parent.spend_call()
        with self._lock:
            fault = self._overspent()
            if fault is None:
                self._calls += 1
                return
        self.stop(fault)
        raise Stopped(fault)

    def _overspent(self) -> BudgetExceeded | None:
        budget = self.budget
        if budget is UNBOUNDED:
            return None
        spent = {
            "lm_calls": (self._calls, budget.lm_calls),
            "tokens": (
                sum(u.input_tokens + u.output_tokens for u in self.usage.values()),
                budget.tokens,
            ),
            "cost_usd": (sum(u.cost or 0.0 for u in self.usage.values()), budget.cost_usd),
            "seconds": (time.monotonic() - self.started, budget.seconds),
        }
        for name, (used, bound) in spent.items():
            if bound is not None and used >= bound:
                return BudgetExceeded(
                    f"the budget of {bound} {name} is used up", budget=name, limit=bound, used=used
                )
        return None

    def count(self, model: str, usage: Usage) -> None:
        """Add one call's usage under the model's name."""
        tally = current_tally.get()
        with self._lock:
            if tally is not None:
                tally.setdefault(model, Usage()).add(usage)
        self._add(model, usage)

    def _add(self, model: str, usage: Usage) -> None:
        with self._lock:
            self.usage.setdefault(model, Usage()).add(usage)
        if self.parent is not None:
            self.parent._add(model, usage)  # noqa: SLF001 - the same class

    def warn(self, text: str) -> None:
        """A note for `_meta.warnings`; at most 50, each once."""
        if text not in self.warnings and len(self.warnings) < 50:
            self.warnings.append(text)


class _Abortable:
    """Around every wait for an LM: as a generator, it would cost twice as much."""

    __slots__ = ("_abort", "_scope")

    def __init__(self, scope: Scope, abort: Callable[[], None]) -> None:
        self._scope = scope
        self._abort = abort

    def __enter__(self) -> None:
        scope = self._scope
        with scope._lock:  # noqa: SLF001 - the two are one thing
            if scope._error is None:  # noqa: SLF001
                scope._aborts[id(self)] = self._abort  # noqa: SLF001
        try:
            scope.check()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        with self._scope._lock:  # noqa: SLF001 - the two are one thing
            self._scope._aborts.pop(id(self), None)  # noqa: SLF001


current_scope: ContextVar[Scope] = ContextVar("current_scope")
current_module: ContextVar[ModuleCall | None] = ContextVar("current_module", default=None)
current_attempt: ContextVar[int] = ContextVar("current_attempt", default=0)
"""Which sample of one prompt is being taken: equal requests of two attempts are not one answer."""
current_tally: ContextVar[dict[str, Usage] | None] = ContextVar("current_tally", default=None)
"""Where usage is counted a second time, for whoever wants that of one part of a request."""
