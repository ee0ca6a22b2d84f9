"""`optimize`, `evaluate` and the runs they make: `run_list`, `run_get`, `run_stop`, `put_dataset`.

A daemon checks an `optimize` and has a child process do it; the child is the same daemon, told so
at its start, and does it in place. What was learned is put into the registry by the daemon.
"""

from __future__ import annotations

import secrets as randomness
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bridge.commands.command import Command, Invocation, Work
from bridge.commands.creating import hide_keys
from bridge.metrics import parse_metric
from bridge.runs.child import Orders
from bridge.runs.table import Run
from bridge.scope import Budget, Scope
from bridge.specs.checking import Args, checked
from bridge.specs.lms import LMSpec
from bridge.specs.modules import HostId
from bridge.specs.optimizers import check_available, find_row, split_config
from bridge.specs.programs import parse_program
from bridge.specs.runs import EvaluatePlan, OptimizePlan
from bridge.turnstile import turnstile
from protocol.errors import BridgeError, InvalidArgs

if TYPE_CHECKING:
    from bridge.engine.runtime import Engine
    from bridge.registry import Runnable
    from bridge.settings import AdapterChoice

__all__ = ["COMMANDS"]

MOST_INLINE = 100_000
"""Examples in one request; more belong into a dataset, sent piece by piece."""

Rows = Annotated[list[dict[str, Any]], Field(max_length=MOST_INLINE)]
Examples = Annotated[
    Rows | HostId, Field(description="maps of inputs and labels, or the id of a dataset")
]
RunId = Annotated[str, Field(min_length=1, max_length=256)]


class WhatToRun(Args):
    """One of these names the program."""

    program: Annotated[
        dict[str, Any] | HostId | None, Field(description="a whole program spec, or an id")
    ] = None
    program_id: HostId | None = None
    module_id: Annotated[HostId | None, Field(description="a module by itself")] = None


class OptimizeArgs(WhatToRun):
    """Arguments of `optimize`. With `resume`, what is left out is what the run had."""

    optimizer: Annotated[str | None, Field(description="a name of `hello`'s `optimizers`")] = None
    trainset: Examples | None = None
    valset: Annotated[Examples | None, Field(description="the trainset when left out")] = None
    metric: Annotated[Any, Field(description="a name of `hello`'s `metrics`, or a map")] = None
    config: Annotated[dict[str, Any] | None, Field(description="the optimizer's own keys")] = None
    run_id: Annotated[RunId | None, Field(description="one is made when left out")] = None
    detach: Annotated[bool, Field(description="answer at once; `run_get` tells the rest")] = False
    resume: Annotated[RunId | None, Field(description="a run to go on with")] = None
    seed: int = 0
    keep: Annotated[
        Literal["replace", "new"],
        Field(description="replace: the program has learned; new: only the result says what"),
    ] = "replace"
    max_metric_errors: Annotated[int, Field(ge=0)] = 0
    max_concurrency: Annotated[int, Field(ge=1, le=64)] = 8


class WorkerArgs(OptimizeArgs):
    """What a daemon tells its child besides: hosts cannot say this."""

    record: str
    seconds: float | None = None
    budget: dict[str, Any] = Field(default_factory=dict)


class EvaluateArgs(WhatToRun):
    """Arguments of `evaluate`."""

    devset: Examples
    metric: Annotated[Any, Field(description="a name of `hello`'s `metrics`, or a map")]
    max_concurrency: Annotated[int, Field(ge=1)] = 16
    max_errors: Annotated[int | None, Field(ge=0, description="all when left out")] = None
    max_metric_errors: Annotated[int, Field(ge=0)] = 0


class RunListArgs(Args):
    """Arguments of `run_list`: none."""


class RunArgs(Args):
    """Arguments of `run_get` and `run_stop`."""

    run_id: RunId


class PutDatasetArgs(Args):
    """Arguments of `put_dataset`."""

    id: HostId
    examples: Rows
    append: Annotated[bool, Field(description="after the examples that are there")] = False


def optimize(args: OptimizeArgs, invocation: Invocation) -> Work:
    """Teach a program by examples and a metric; the result is what it has learned."""
    if invocation.services.worker:
        return _optimize_here(args, invocation)
    request, args = _resumed(args, invocation)
    kind, key, found = _program(args, invocation)
    run_id = args.resume or args.run_id or randomness.token_hex(8)
    plan = _plan(args, found, invocation, run_id)
    run = Run(run_id, invocation.scope.tenant, plan.row.name, str(key), request)
    orders = _orders(args, plan, kind, key, invocation)
    return Work(lambda _: _run(run, orders, args, invocation))


def evaluate(args: EvaluateArgs, invocation: Invocation) -> Work:
    """Score a program on examples; rows come in order, a failed one with its `error`."""
    _, _, found = _program(args, invocation)
    plan = EvaluatePlan(
        run_id=randomness.token_hex(8),
        runnable=found,
        devset=_examples(args.devset, "devset", invocation),
        metric=parse_metric(args.metric),
        max_concurrency=min(
            args.max_concurrency, invocation.services.limits().max_batch_concurrency
        ),
        max_errors=args.max_errors,
        max_metric_errors=args.max_metric_errors,
    )
    report = invocation.scope.progress

    def work(engine: Engine) -> dict[str, Any]:
        with turnstile.outside():
            return engine.evaluate(plan, report)

    return Work(work)


def run_list(args: RunListArgs, invocation: Invocation) -> dict[str, Any]:  # noqa: ARG001
    """The tenant's runs, the newest first, in memory and on disk."""
    return {"runs": invocation.services.runs.list(invocation.scope.tenant)}


def run_get(args: RunArgs, invocation: Invocation) -> dict[str, Any]:
    """One run: status, progress, best score so far, and its result when it has one."""
    return invocation.services.runs.get(invocation.scope.tenant, args.run_id)


def run_stop(args: RunArgs, invocation: Invocation) -> dict[str, Any] | Work:
    """End a run early and keep its best so far: its `optimize` is answered with that."""
    if invocation.services.worker:
        return Work(lambda engine: {"stopping": engine.stop_run(args.run_id)})
    run = invocation.services.runs.stop(invocation.scope.tenant, args.run_id)
    return {"run_id": run.run_id, "status": "stopping"}


def put_dataset(args: PutDatasetArgs, invocation: Invocation) -> dict[str, Any]:
    """Keep examples under an id, which may then stand wherever examples may."""
    kept = invocation.services.registry.put_dataset(args.id, args.examples, append=args.append)
    return {"id": args.id, "count": len(kept.rows), "version": kept.version}


# What a run is made of


def _resumed(args: OptimizeArgs, invocation: Invocation) -> tuple[dict[str, Any], OptimizeArgs]:
    """The request as it can be kept and repeated, and its arguments with what a resume leaves."""
    given = args.model_dump(exclude_unset=True, exclude={"resume", "run_id", "detach"})
    if args.resume is not None:
        stored = invocation.services.runs.stored(invocation.scope.tenant, args.resume)
        given = {**stored["request"], **given}
    whole = checked(
        OptimizeArgs, {**given, "resume": args.resume, "run_id": args.run_id, "detach": args.detach}
    )
    return given, whole


def _program(args: WhatToRun, invocation: Invocation) -> tuple[str, HostId, Runnable]:
    named = [key for key in (args.program, args.program_id, args.module_id) if key is not None]
    if len(named) != 1:
        raise InvalidArgs.at("program", "name one of program, program_id and module_id")
    registry = invocation.services.registry
    if args.module_id is not None:
        return "module", args.module_id, registry.runnable("module", args.module_id)
    if isinstance(args.program, dict):
        spec = parse_program(args.program, "program")
        hide_keys(spec.given, invocation)
        registry.put_program(spec, "program")
        return "program", spec.id, registry.runnable("program", spec.id)
    key = args.program if args.program_id is None else args.program_id
    assert key is not None  # noqa: S101 - one of the three is named
    return "program", key, registry.runnable("program", key)


def _plan(args: OptimizeArgs, found: Runnable, invocation: Invocation, run_id: str) -> OptimizePlan:
    if args.optimizer is None:
        raise InvalidArgs.at("optimizer", "is missing")
    row = find_row(args.optimizer)
    check_available(row)
    constructor, compile_keys = split_config(row, args.config or {}, "config")
    if args.metric is None and row.metric != "none":
        raise InvalidArgs.at("metric", "is missing")
    scope = invocation.scope
    return OptimizePlan(
        run_id=run_id,
        row=row,
        constructor=constructor,
        compile=compile_keys,
        runnable=found,
        trainset=_examples(args.trainset, "trainset", invocation),
        valset=() if args.valset is None else _examples(args.valset, "valset", invocation),
        metric=parse_metric(args.metric if args.metric is not None else "exact_match"),
        seed=args.seed,
        max_metric_errors=args.max_metric_errors,
        budget=scope.budget,
        seconds=scope.seconds,
        max_concurrency=args.max_concurrency,
    )


def _examples(
    given: list[dict[str, Any]] | HostId | None, path: str, invocation: Invocation
) -> tuple[dict[str, Any], ...]:
    if given is None:
        raise InvalidArgs.at(path, "is missing")
    rows = given if isinstance(given, list) else invocation.services.registry.dataset(given).rows
    if not rows:
        raise InvalidArgs.at(path, "is empty; nothing can be learned from no examples")
    return tuple(rows)


# In the daemon


def _orders(
    args: OptimizeArgs, plan: OptimizePlan, kind: str, key: HostId, invocation: Invocation
) -> Orders:
    services, scope = invocation.services, invocation.scope
    ids: dict[str, Any] = {"modules": None, "programs": None, f"{kind}s": [key]}
    record = services.runs.record(scope.tenant, plan.run_id, fresh=args.resume is None)
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
            "trainset": list(plan.trainset),
            "valset": list(plan.valset) or None,
            "metric": args.metric,
            "config": args.config,
            "run_id": plan.run_id,
            "seed": plan.seed,
            "max_metric_errors": plan.max_metric_errors,
            "max_concurrency": plan.max_concurrency,
            "record": str(record),
            "seconds": plan.seconds,
            "budget": budget,
        },
    )


def _adapter(choice: AdapterChoice) -> dict[str, Any]:
    """The adapter in force as a child's `configure` takes it."""
    if choice.name != "two_step":
        return {"adapter": choice.name}
    lm = choice.extraction_lm
    whole = lm.whole() if isinstance(lm, LMSpec) else lm
    return {"adapter": {"name": "two_step", "extraction_lm": whole}}


def _run(run: Run, orders: Orders, args: OptimizeArgs, invocation: Invocation) -> dict[str, Any]:
    services = invocation.services
    services.runs.begin(run)
    if not args.detach:
        with turnstile.outside():
            result = services.runs.carry_out(
                run, orders, invocation.scope, invocation.scope.progress
            )
        return _learned(result, args, invocation)
    detached = Scope(tenant=invocation.scope.tenant)

    def carry_out() -> None:
        try:
            result = services.runs.carry_out(run, orders, detached, invocation.scope.progress)
            _learned(result, args, invocation)
        except BridgeError:
            # The run's own record says what it was; nobody waits for an answer.
            return

    threading.Thread(target=carry_out, name="run", daemon=True).start()
    return {"run_id": run.run_id, "status": "running"}


def _learned(result: dict[str, Any], args: OptimizeArgs, invocation: Invocation) -> dict[str, Any]:
    """Count what the run used, and put what it learned into the registry."""
    services = invocation.services
    program = result["optimized_program"]
    services.ledger.add_run(
        invocation.scope, str(program["id"]), result["stats"].get("usage") or {}
    )
    if args.keep == "replace":
        services.in_turn(lambda: services.registry.learn(program["modules"]))
    return result


# In the child


def _optimize_here(args: Any, invocation: Invocation) -> Work:
    _, _, found = _program(args, invocation)
    run_id = args.run_id or ""
    drawn = _plan(args, found, invocation, run_id)
    plan = OptimizePlan(
        **{
            **{name: getattr(drawn, name) for name in OptimizePlan.__slots__},
            "budget": Budget(**args.budget),
            "seconds": args.seconds,
            "record": Path(args.record),
        }
    )
    report = invocation.scope.progress

    def work(engine: Engine) -> dict[str, Any]:
        with turnstile.outside():
            return engine.optimize(plan, report)

    return Work(work)


COMMANDS = (
    Command("optimize", OptimizeArgs, optimize, worker_args=WorkerArgs, ends_itself=True),
    Command("evaluate", EvaluateArgs, evaluate),
    Command("run_list", RunListArgs, run_list),
    Command("run_get", RunArgs, run_get),
    Command("run_stop", RunArgs, run_stop),
    Command("put_dataset", PutDatasetArgs, put_dataset),
)
