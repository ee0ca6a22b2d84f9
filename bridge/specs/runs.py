"""What a run is given: an optimizer or an evaluation with everything it needs, as one value.

The program is a `bridge.registry.Runnable` and the budget a `bridge.scope.Budget`; this package
knows neither, so they are not named as types here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bridge.scorers import Scorer
    from bridge.specs.optimizers import OptimizerRow

__all__ = ["EvaluatePlan", "OptimizePlan"]


@dataclass(frozen=True, slots=True)
class OptimizePlan:
    """One optimizer run.

    Attributes:
        run_id: the host's name for it.
        row: the optimizer.
        constructor: what of its config goes to the constructor, as `split_config` gave it.
        compile: what goes to `compile`.
        runnable: the program or module that is to learn.
        trainset: examples, inputs and labels in one map each.
        valset: examples that candidates are scored on; empty means the trainset.
        metric: what scores a prediction.
        seed: everything random starts from it.
        max_metric_errors: examples whose metric may fail before the run does.
        budget: what the run may spend; None is no bound.
        seconds: how long it may take.
        record: the file of LM responses that a resumed run replays.
        mask: takes the secrets out of what goes into that file; None lets all pass.
        max_concurrency: program runs at once.
        ensemble: the `bridge.ensembles.Ensemble` that takes the program's place, where nothing
            learns.
    """

    run_id: str
    row: OptimizerRow
    constructor: Mapping[str, Any]
    compile: Mapping[str, Any]
    runnable: Any
    trainset: tuple[Mapping[str, Any], ...]
    metric: Scorer
    valset: tuple[Mapping[str, Any], ...] = ()
    seed: int = 0
    max_metric_errors: int = 0
    budget: Any = None
    seconds: float | None = None
    record: Path | None = None
    mask: Callable[[bytes], bytes] | None = None
    max_concurrency: int = 8
    ensemble: Any = None


@dataclass(frozen=True, slots=True)
class EvaluatePlan:
    """One evaluation.

    Attributes:
        run_id: the host's name for it.
        runnable: the program or module that is scored.
        devset: examples, inputs and labels in one map each.
        metric: what scores a prediction.
        max_errors: rows that may fail before the rest is not begun; None is no bound.
        options: generation options for this evaluation only.

    The others are those of `OptimizePlan`.
    """

    run_id: str
    runnable: Any
    devset: tuple[Mapping[str, Any], ...]
    metric: Scorer
    max_concurrency: int = 8
    max_errors: int | None = None
    max_metric_errors: int = 0
    budget: Any = None
    seconds: float | None = None
    record: Path | None = None
    mask: Callable[[bytes], bytes] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
