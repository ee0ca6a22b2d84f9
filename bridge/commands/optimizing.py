"""`optimize`, `evaluate` and the runs they make: `run_list`, `run_get`, `run_stop`, `put_dataset`.

A daemon checks an `optimize` and has a child process do it; the child is the same daemon, told so
at its start, and does it in place. What was learned is put into the registry by the daemon.
"""

from __future__ import annotations

import secrets as randomness
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.commands.attempts import Attempt, keep, orders_of, with_skipped
from bridge.commands.command import Command, Invocation, Work
from bridge.commands.creating import hide_keys
from bridge.commands.optimizing_models import (
    EvaluateArgs,
    OptimizeArgs,
    PutDatasetArgs,
    RunArgs,
    RunListArgs,
    WhatToRun,
    WorkerArgs,
)
from bridge.ensembles import ensemble_of
from bridge.runs.requests import keepable, kept_lm, repeated
from bridge.runs.table import Run
from bridge.scope import Budget
from bridge.scorers import HostMetric, Scorer, parse_scorer
from bridge.specs.checking import checked, nearest
from bridge.specs.lms import LMSpec, parse_lm
from bridge.specs.optimizers import check_available, find_row, split_config
from bridge.specs.programs import parse_program
from bridge.specs.runs import EvaluatePlan, OptimizePlan
from bridge.specs.source.functions import CodeSpec
from bridge.turnstile import turnstile
from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.engine.runtime import Engine
    from bridge.registry import Runnable
    from bridge.specs.modules import HostId

__all__ = ["COMMANDS"]

RESUMING = {"resume", "run_id", "detach"}
"""The arguments of an `optimize` that say how it is run and not what."""


def optimize(args: OptimizeArgs, invocation: Invocation) -> Work:
    """Teach a program by examples and a metric; the result is what it has learned."""
    if invocation.services.worker:
        return _optimize_here(args, invocation)
    done = _completed(args, invocation)
    if done is not None:
        return done
    request, args = _resumed(args, invocation)
    kind, key, found = _program(args, invocation)
    run_id = args.resume or args.run_id or randomness.token_hex(8)
    plan = _plan(args, found, invocation, run_id)
    services = invocation.services
    run = Run(
        run_id,
        invocation.scope.tenant,
        plan.row.name,
        str(key),
        request,
        services.secrets.mask_bytes,
    )
    orders = orders_of(args, plan, kind, key, invocation)
    return Work(lambda _: Attempt(run, orders, args, found, invocation).begin())


def evaluate(args: EvaluateArgs, invocation: Invocation) -> Work:
    """Score a program on examples; rows come in order, a failed one with its `error`."""
    _, _, found = _program(args, invocation)
    services, scope = invocation.services, invocation.scope
    run_id = args.run_id or randomness.token_hex(8)
    plan = EvaluatePlan(
        run_id=run_id,
        runnable=found,
        devset=_examples(args.devset, "devset", invocation),
        metric=_metric(args.metric, found),
        max_concurrency=min(args.max_concurrency, services.limits().max_batch_concurrency),
        max_errors=args.max_errors,
        max_metric_errors=args.max_metric_errors,
        budget=scope.budget,
        seconds=scope.seconds,
    )

    def report(progress: dict[str, Any]) -> None:
        # Only a run's own process has to tell what each LM has used.
        scope.progress({name: value for name, value in progress.items() if name != "usage"})

    def work(engine: Engine) -> dict[str, Any]:
        def stop() -> bool:
            return engine.stop_run(run_id, scope.tenant)

        with services.runs.evaluation(scope.tenant, run_id, stop), turnstile.outside():
            return engine.evaluate(plan, report)

    return Work(work)


def run_list(args: RunListArgs, invocation: Invocation) -> dict[str, Any]:  # noqa: ARG001
    """The tenant's runs, the newest first, in memory and on disk."""
    return {"runs": invocation.services.runs.list(invocation.scope.tenant)}


def run_get(args: RunArgs, invocation: Invocation) -> dict[str, Any]:
    """One run: status, progress, best score so far, and its result when it has one."""
    return invocation.services.runs.get(invocation.scope.tenant, args.run_id)


def run_stop(args: RunArgs, invocation: Invocation) -> dict[str, Any] | Work:
    """End a run early; its `optimize` or `evaluate` is answered with what it has so far."""
    if invocation.services.worker:
        return Work(lambda engine: {"stopping": engine.stop_run(args.run_id)})
    invocation.services.runs.stop(invocation.scope.tenant, args.run_id)
    return {"run_id": args.run_id, "status": "stopping"}


def put_dataset(args: PutDatasetArgs, invocation: Invocation) -> dict[str, Any]:
    """Keep examples under an id, which may then stand wherever examples may."""
    kept = invocation.services.registry.datasets.put(args.id, args.examples, append=args.append)
    return {"id": args.id, "count": len(kept.rows), "version": kept.version}


# What a run is made of


def _completed(args: OptimizeArgs, invocation: Invocation) -> Work | None:
    """The result of a run that is resumed, when it has one and nothing is asked of it anew.

    So a host that lost the answer, its daemon or itself, gets it without paying twice.
    """
    if args.resume is None or args.model_fields_set - {"resume", "detach"}:
        return None
    services = invocation.services
    run = services.runs.get(invocation.scope.tenant, args.resume)
    result = run["result"]
    if run["status"] != "completed" or result is None:
        return None
    kept = services.runs.stored(invocation.scope.tenant, args.resume)
    if kept.get("keep") != "new":
        skipped = keep(services.registry, result["optimized_program"])
        result = with_skipped(result, skipped)
    return Work(lambda _: result)


def _resumed(args: OptimizeArgs, invocation: Invocation) -> tuple[dict[str, Any], OptimizeArgs]:
    """The request as it can be repeated, and its arguments with what a resume leaves out.

    A request's own LM belongs to it: another one would make another run of it, silently.
    """
    scope = invocation.scope
    # Not `model_dump`: it would copy the examples on the loop's thread.
    given = {name: getattr(args, name) for name in args.model_fields_set - RESUMING}
    if args.resume is not None:
        if args.run_id not in (None, args.resume):
            raise InvalidArgs.at("run_id", "a resumed run keeps its id; leave this out")
        kept = invocation.services.runs.stored(scope.tenant, args.resume)
        if scope.lm is None:
            lm = kept_lm(kept)
            scope.lm = None if lm is None else parse_lm(lm, "lm")
        given = repeated(kept, given)
        args = checked(OptimizeArgs, {**given, "resume": args.resume, "detach": args.detach})
    lm = scope.lm.whole() if isinstance(scope.lm, LMSpec) else scope.lm
    return keepable(given, lm), args


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
    for spec in _lms_in([constructor, compile_keys]):
        if spec.key is not None:
            invocation.services.secrets.add(spec.key)
    needed = row.trainset or args.trainset is not None
    trainset = _examples(args.trainset, "trainset", invocation) if needed else ()
    valset = () if args.valset is None else _examples(args.valset, "valset", invocation)
    metric = args.metric
    if metric is None:
        # What asks for no score is scored all the same, before and after.
        outputs = found.shape.outputs or ("answer",)
        if row.metric != "none" or ("answer" not in outputs and (trainset or valset)):
            raise InvalidArgs.at("metric", "is missing")
        field = "answer" if "answer" in outputs else outputs[-1]
        metric = {"name": "exact_match", "field": field}
    ensemble = None
    if row.name == "Ensemble":
        ensemble = ensemble_of(
            invocation.services.registry, found, **constructor, **compile_keys, seed=args.seed
        )
    scope = invocation.scope
    return OptimizePlan(
        run_id=run_id,
        row=row,
        constructor=constructor,
        compile=compile_keys,
        runnable=found,
        trainset=trainset,
        valset=valset,
        metric=_metric(metric, found),
        seed=args.seed,
        max_metric_errors=args.max_metric_errors,
        budget=scope.budget,
        seconds=scope.seconds,
        max_concurrency=args.max_concurrency,
        ensemble=ensemble,
    )


def _metric(given: Any, runnable: Runnable) -> Scorer:
    """The metric; one that looks at one field must find it in the program. Raise InvalidArgs."""
    metric = parse_scorer(given)
    if isinstance(metric, HostMetric | CodeSpec):
        return metric
    outputs = runnable.shape.outputs
    if not runnable.shape.has_output(metric.field):
        close = nearest(metric.field, outputs)
        hint = f"did you mean {close!r}?" if close else f"it has: {', '.join(outputs)}"
        more = {"nearest": close} if close else {}
        raise InvalidArgs.at(
            "metric.field", f"the program has no output {metric.field!r}; {hint}", **more
        )
    return metric


def _examples(
    given: list[dict[str, Any]] | HostId | None, path: str, invocation: Invocation
) -> tuple[dict[str, Any], ...]:
    if given is None:
        raise InvalidArgs.at(path, "is missing")
    rows = (
        given if isinstance(given, list) else invocation.services.registry.datasets.get(given).rows
    )
    if not rows:
        raise InvalidArgs.at(path, "is empty: give at least one example")
    return tuple(rows)


def _lms_in(value: Any) -> Iterator[LMSpec]:
    """The LMs that a config brings with it."""
    if isinstance(value, LMSpec):
        yield value
    elif isinstance(value, dict):
        yield from _lms_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _lms_in(item)


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
            "mask": invocation.services.secrets.mask_bytes,
        }
    )
    report = invocation.scope.progress

    def work(engine: Engine) -> dict[str, Any]:
        with turnstile.outside():
            return engine.optimize(plan, report)

    return Work(work)


COMMANDS = (
    Command(
        "optimize",
        OptimizeArgs,
        optimize,
        worker_args=WorkerArgs,
        ends_itself=True,
        open_ended=True,
    ),
    Command("evaluate", EvaluateArgs, evaluate, ends_itself=True),
    Command("run_list", RunListArgs, run_list),
    Command("run_get", RunArgs, run_get),
    Command("run_stop", RunArgs, run_stop),
    Command("put_dataset", PutDatasetArgs, put_dataset),
)
