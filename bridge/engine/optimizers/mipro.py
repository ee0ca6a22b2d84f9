"""MIPROv2, whose settings exclude one another and whose minibatches must fit the examples."""

from __future__ import annotations

from typing import Any

from dspy.teleprompt import MIPROv2

from bridge.engine.optimizers.job import Job, Prepared, to_size
from protocol.errors import InvalidArgs

__all__ = ["build"]

DEFAULT_CANDIDATES = 10
"""What stands for `num_candidates` when only `num_trials` was given."""


def build(job: Job, settings: dict[str, Any], compiled: dict[str, Any]) -> Prepared:
    """MIPROv2: `auto`, or `num_candidates` and `num_trials`; the seed's Elixir sends the former."""
    job.lm()
    own = [key for key in ("num_candidates", "num_trials") if key in {**settings, **compiled}]
    if own and "auto" in settings:
        raise InvalidArgs.at(f"config.{own[0]}", "cannot stand beside `auto`, which sets it")
    _check_demos(settings)
    settings.setdefault("seed", job.seed)
    if own:
        settings["auto"] = None
        settings.setdefault("num_candidates", DEFAULT_CANDIDATES)
    optimizer = MIPROv2(metric=job.metric, **settings)
    if own and "num_trials" not in compiled:
        zero_shot = not (optimizer.max_bootstrapped_demos or optimizer.max_labeled_demos)
        compiled["num_trials"] = optimizer._set_num_trials_from_num_candidates(  # noqa: SLF001
            job.student, zero_shot, optimizer.num_candidates
        )
    _fit_minibatch(job, compiled, auto=not own)
    return Prepared(optimizer, compiled, trials=_trials(compiled), takes_valset=True)


def _check_demos(settings: dict[str, Any]) -> None:
    if settings.get("max_bootstrapped_demos") == 0 and settings.get("max_labeled_demos") != 0:
        raise InvalidArgs.at(
            "config.max_bootstrapped_demos",
            "can be 0 only together with max_labeled_demos, for instructions alone",
        )


def _fit_minibatch(job: Job, compiled: dict[str, Any], *, auto: bool) -> None:
    # Without a valset DSPy takes the last 80 % of the trainset.
    examples = len(job.valset) or min(1000, max(1, int(len(job.trainset) * 0.8)))
    if auto:
        to_size(job, compiled, "minibatch_size", 35, examples)
    elif compiled.get("minibatch", True) and compiled.get("minibatch_size", 35) >= examples:
        if {"minibatch", "minibatch_size"} & compiled.keys():
            job.warn(
                f"config.minibatch_size: candidates are scored on all {examples} examples, which "
                "are no more than a minibatch"
            )
        compiled["minibatch"] = False


def _trials(compiled: dict[str, Any]) -> int | None:
    trials = compiled.get("num_trials")
    if trials is None:
        return None
    # The program as it is comes first; between minibatches there are full evaluations.
    steps = compiled.get("minibatch_full_eval_steps", 5)
    full = trials // steps + 1 if compiled.get("minibatch", True) else 0
    return int(trials) + 1 + full
