"""One `optimize` on its way in the daemon: told to a child, counted, and learned from.

Law: when a run has ended, for whoever asks or is told, the registry has learned and what the run
spent is counted, each call once; also where it failed, was cancelled or was killed.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bridge.registry import modules_of
from bridge.runs.child import Orders
from bridge.scope import Scope, Usage
from bridge.settings import CONFIGURABLE
from bridge.specs.lms import LMSpec
from bridge.specs.programs import parse_program
from bridge.turnstile import turnstile
from protocol.errors import BridgeError, InvalidArgs, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bridge.commands.command import Invocation
    from bridge.commands.optimizing_models import OptimizeArgs
    from bridge.registry import Registry, Runnable
    from bridge.runs.table import Run
    from bridge.settings import AdapterChoice, Limits
    from bridge.specs.modules import HostId
    from bridge.specs.runs import OptimizePlan

__all__ = ["Attempt", "keep", "orders_of", "with_skipped"]


def orders_of(
    args: OptimizeArgs, plan: OptimizePlan, kind: str, key: HostId, invocation: Invocation
) -> Orders:
    """What the child of a run is told."""
    services, scope = invocation.services, invocation.scope
    ids: dict[str, list[HostId]] = {"modules": [], "programs": []}
    ids[f"{kind}s"].append(key)
    if plan.ensemble is not None:
        ids["modules"] += plan.ensemble.modules
        ids["programs"] += plan.ensemble.programs
    budget = {
        name: bound
        for name in ("lm_calls", "tokens", "cost_usd")
        if (bound := getattr(scope.budget, name)) is not None
    }
    return Orders(
        lms=scope.lms,
        lm=scope.lm,
        adapter=_adapter(scope.adapter),
        specs=services.registry.export(**ids, keys=True),
        arguments={
            "optimizer": plan.row.name,
            f"{kind}_id": key,
            "trainset": list(plan.trainset) or None,
            "valset": list(plan.valset) or None,
            "metric": args.metric,
            "config": args.config,
            "run_id": plan.run_id,
            "seed": plan.seed,
            "max_metric_errors": plan.max_metric_errors,
            "max_concurrency": plan.max_concurrency,
            "record": str(services.runs.record(scope.tenant, plan.run_id)),
            "budget": budget,
        },
        limits=_limits(services.limits()),
        host=services.host() if args.detach else scope.host or services.host(),
        ends=None if plan.seconds is None else scope.started + plan.seconds,
        ends_by="budget" if plan.seconds == scope.budget.seconds else "deadline",
    )


def _limits(limits: Limits) -> dict[str, int]:
    """The bounds that hold in a child as well."""
    names = [name for name in CONFIGURABLE if name.startswith("sandbox_")]
    return {name: getattr(limits, name) for name in ["host_call_ms", *names]}


def _adapter(choice: AdapterChoice) -> dict[str, Any]:
    """The adapter in force as a child's `configure` takes it."""
    if choice.name != "two_step":
        return {"adapter": choice.name}
    lm = choice.extraction_lm
    whole = lm.whole() if isinstance(lm, LMSpec) else lm
    return {"adapter": {"name": "two_step", "extraction_lm": whole}}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run: begun, carried out by a child, and learned from."""

    run: Run
    orders: Orders
    args: OptimizeArgs
    runnable: Runnable
    invocation: Invocation
    _counted: dict[str, Usage] = field(default_factory=dict)

    def begin(self) -> dict[str, Any]:
        """The run's result; that it is running, when it is detached."""
        with turnstile.outside():
            self.invocation.services.runs.begin(self.run, fresh=self.args.resume is None)
            if not self.args.detach:
                return self._carry_out(self.invocation.scope)
        threading.Thread(target=self._carry_out_alone, name="run", daemon=True).start()
        return {"run_id": self.run.run_id, "status": "running"}

    def _carry_out_alone(self) -> None:
        try:
            self._carry_out(Scope(tenant=self.invocation.scope.tenant))
        except BridgeError:
            # The run's own row says what it was; nobody waits for an answer.
            return

    def _carry_out(self, scope: Scope) -> dict[str, Any]:
        runs = self.invocation.services.runs
        try:
            return runs.carry_out(self.run, self.orders, scope, self._hear, self._learn)
        finally:
            self._count()
            self._tell(self.run.last_word())

    def _hear(self, progress: dict[str, Any]) -> None:
        self._count()
        # Its child is done, but the run has not ended before the registry has learned.
        if progress["phase"] != "done":
            self._tell(progress)

    def _tell(self, progress: dict[str, Any]) -> None:
        self.invocation.scope.progress(progress, detached=self.args.detach)

    def _count(self) -> None:
        """Count what the run has spent since this was last called."""
        ledger, scope = self.invocation.services.ledger, self.invocation.scope
        for model, counts in self.run.usage.items():
            used = Usage(**counts)
            ledger.add_run(
                scope,
                self.run.program_id,
                model,
                used.since(self._counted.get(model, Usage())),
            )
            self._counted[model] = used

    def _learn(self, result: dict[str, Any]) -> dict[str, Any]:
        """Let the registry learn; the result with what there is to say of that."""
        if self.args.keep == "new":
            return result
        services, program = self.invocation.services, result["optimized_program"]
        skipped = services.in_turn(lambda: keep(services.registry, program, self.runnable))
        return with_skipped(result, skipped)


def keep(
    registry: Registry, program: Mapping[str, Any], started: Runnable | None = None
) -> list[str]:
    """Put an `optimized_program` into the registry, and give the ids that are others by now."""
    if "program" not in program:
        began = None if started is None else modules_of(started)
        return registry.learn(program["modules"], began)
    try:
        now = registry.program(program["id"]).version
        if started is not None and now != started.spec.version:
            return [str(program["id"])]
        registry.put_program(parse_program(program["program"]))
    except (InvalidArgs, NotFound):
        return [str(program["id"])]
    return []


def with_skipped(result: dict[str, Any], skipped: Sequence[str]) -> dict[str, Any]:
    """The result, saying which modules of the registry have not learned."""
    if not skipped:
        return result
    text = (
        f"the registry's {', '.join(skipped)} did not learn: deleted or replaced since the run "
        "began; the state is in this result"
    )
    return {**result, "warnings": [*result["warnings"], text]}
