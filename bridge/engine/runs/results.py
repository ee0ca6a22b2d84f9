"""What a run tells of itself when it has ended: one map, for every optimizer the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.engine.runs.student import states_of, taught

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.engine.runs.evaluation import Evaluated
    from bridge.engine.runs.running import Run
    from bridge.engine.runs.student import Learned
    from bridge.registry import Runnable
    from bridge.specs.runs import OptimizePlan

__all__ = ["result_of"]


def result_of(
    run: Run,
    plan: OptimizePlan,
    found: Learned,
    *,
    original: Learned,
    status: str,
    scores: Mapping[str, float | None],
    baseline_score: float | None,
    baseline: Evaluated,
    final: Evaluated | None,
) -> dict[str, Any]:
    """The result of an optimizer run.

    Args:
        run: what was spent, tried and warned of.
        plan: what was asked for.
        found: what was learned.
        original: what the program knew before.
        status: completed or stopped.
        scores: ``{train, val}``; where val is null the train score is the run's.
        baseline_score: what the program scored before, on the same examples; null without any.
        baseline: the rows before.
        final: the rows after; None where the run ended before.
    """
    states = states_of(found)
    # A run that ended before leaves the program as it was.
    ensemble = plan.ensemble if status == "completed" else None
    runnable = taught(plan.runnable, states) if ensemble is None else ensemble.runnable
    score = scores["val"] if scores["val"] is not None else scores["train"]
    return {
        "run_id": plan.run_id,
        "status": status,
        "ended_by": run.ended_by(),
        "optimizer": plan.row.name,
        "score": score,
        "baseline_score": baseline_score,
        "scores": dict(scores),
        "optimized_program": {
            "id": plan.runnable.spec.id,
            "version": runnable.version,
            "modules": _modules(runnable, states),
            "metrics": {"training_score": score},
            **({} if ensemble is None else {"program": ensemble.wire}),
        },
        "module_instructions": {key: state["instructions"] for key, state in states.items()},
        "original": states_of(original),
        "module_demos": {key: state["demos"] for key, state in states.items()},
        "stats": run.stats(),
        "trials": run.board.trials,
        "rows": _compared(baseline, final),
        "traces": run.traces(),
        "warnings": list(run.scope.warnings),
    }


def _modules(
    runnable: Runnable, states: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """``{module id: {instructions, demos, config, predictors?}}`` of every module that learns."""
    found: dict[str, dict[str, Any]] = {}
    parts = getattr(runnable, "parts", None)
    if parts is not None:
        for part in parts.values():
            found.update(_modules(part, states))
        return found
    spec: Any = runnable.spec
    state = states.get(str(spec.id))
    if state is not None:
        found[str(spec.id)] = {**state, "config": spec.config.model_dump(exclude_none=True)}
    return found


def _compared(baseline: Evaluated, final: Evaluated | None) -> list[dict[str, Any]]:
    """``[{index, example, before, after}]``; `after` is null where it was not scored."""
    rows = []
    for number, before in enumerate(baseline.rows):
        after = None if final is None else _outcome(final.rows[number])
        rows.append(
            {
                "index": number,
                "example": before["example"],
                "before": _outcome(before),
                "after": after,
            }
        )
    return rows


def _outcome(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("prediction", "score", "error")}
