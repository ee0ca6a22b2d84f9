"""Where requests become calls of commands: the envelope into a scope, the arguments into a model.

This is what needs pydantic, so the daemon imports it only after the handshake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from bridge.commands.table import COMMANDS
from bridge.ledger import Ledger
from bridge.registry import Registry
from bridge.runs.store import RunStore, default_directory
from bridge.runs.table import Runs
from bridge.scope import FARTHEST_DEADLINE_MS, Budget, Scope
from bridge.specs.checking import Args, checked, nearest
from bridge.specs.lms import LMSpec, parse_lm
from protocol.errors import UnknownCommand, Unsupported

if TYPE_CHECKING:
    from bridge.commands.command import Invocation, Services
    from bridge.settings import Settings
    from protocol import Request

__all__ = ["Desk"]

ENDING_SECONDS = 30.0
"""For a run to end by itself when its time is up: the LM calls it waits for, and its result."""


class BudgetArgs(Args):
    """The envelope's `budget`."""

    lm_calls: Annotated[int, Field(ge=0)] | None = None
    tokens: Annotated[int, Field(ge=0)] | None = None
    cost_usd: Annotated[float, Field(ge=0)] | None = None
    seconds: Annotated[float, Field(ge=0)] | None = None


class TraceArgs(Args):
    """The envelope's `trace`, when it is a map."""

    traceparent: Annotated[str, Field(max_length=256)]


class Desk:
    """Checks requests and calls their commands, one at a time: whoever calls has the turn.

    Attributes:
        registry: the specs that hosts have created.
        ledger: what was spent and said.
        runs: the optimizer runs.
    """

    def __init__(self, settings: Settings) -> None:
        self.registry = Registry()
        self.ledger = Ledger(rows=settings.limits.history_rows, text=settings.limits.history_bytes)
        directory = settings.state_dir or default_directory()
        self.runs = Runs(RunStore(directory), settings.log_level)

    def scope_of(
        self, request: Request, services: Services, arrived: float, outer: Scope | None = None
    ) -> Scope:
        """What `request` may use, from its envelope.

        Args:
            request: the request.
            services: the daemon's.
            arrived: when it came, in `time.monotonic` seconds; its deadline counts from then.
            outer: the scope that asks the host, when the host sends this while it answers.

        Raises:
            InvalidArgs: a part of the envelope is wrong, with its path.
            Unsupported: `stream`, of a command that has none, or of a host that takes no events.
        """
        if request.stream:
            _check_streamable(request, services)
        if outer is not None:
            scope = outer.within(request.id)
        else:
            scope = Scope(
                request_id=request.id,
                tenant=request.tenant,
                lms=self.registry.lms(request.tenant),
                adapter=self.registry.adapter(request.tenant),
                started=arrived,
            )
        if request.budget is not None:
            given = checked(BudgetArgs, request.budget, "budget")
            scope.budget = Budget(given.lm_calls, given.tokens, given.cost_usd, given.seconds)
        _limit_time(scope, request, services)
        if request.lm is not None:
            scope.lm = parse_lm(request.lm, "lm")
            if isinstance(scope.lm, LMSpec) and scope.lm.key is not None:
                services.secrets.add(scope.lm.key)
        if request.trace:
            scope.keep_rows = True
            if isinstance(request.trace, dict):
                scope.traceparent = checked(TraceArgs, request.trace, "trace").traceparent
        return scope

    def runs_within(self, request: Request) -> bool:
        """Whether the command works where the host call of its `parent` came from."""
        command = COMMANDS.get(request.command)
        return command is not None and command.within

    def run(self, request: Request, invocation: Invocation) -> Any:
        """Call the command; the result is the answer, or `Work` that is left.

        Raises:
            UnknownCommand: with the nearest name.
            InvalidArgs: every fault of the arguments.
            BridgeError: whatever else the command finds wrong.
        """
        command = COMMANDS.get(request.command)
        if command is None:
            close = nearest(request.command, COMMANDS)
            hint = f"did you mean {close!r}?" if close else f"known: {', '.join(COMMANDS)}"
            raise UnknownCommand(f"no command {request.command[:100]!r}; {hint}", nearest=close)
        model = command.args
        if invocation.services.worker and command.worker_args is not None:
            model = command.worker_args
        return command.run(checked(model, request.args), invocation)


def _check_streamable(request: Request, services: Services) -> None:
    command = COMMANDS.get(request.command)
    if command is not None and not command.streams:
        known = [name for name, each in COMMANDS.items() if each.streams]
        raise Unsupported(f"stream: {request.command!r} is not streamed; {', '.join(known)} are")
    if not services.hears_events():
        raise Unsupported("stream: the host's hello did not accept 'events'")


def _limit_time(scope: Scope, request: Request, services: Services) -> None:
    """The deadline, or for a command that ends itself the seconds that it is told."""
    asked = [
        seconds
        for seconds in (
            None
            if request.deadline_ms is None
            else min(request.deadline_ms, FARTHEST_DEADLINE_MS) / 1000,
            scope.budget.seconds,
        )
        if seconds is not None
    ]
    command = COMMANDS.get(request.command)
    if not asked:
        if command is not None and command.open_ended:
            return
        asked = [services.limits().default_deadline_ms / 1000]
    seconds = min(asked)
    outermost = scope.deadline
    scope.deadline = scope.started + seconds
    if command is not None and command.ends_itself:
        scope.seconds = seconds
        scope.deadline += ENDING_SECONDS
    if outermost is not None:
        scope.deadline = min(scope.deadline, outermost)
