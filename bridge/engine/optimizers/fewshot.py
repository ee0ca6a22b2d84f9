"""Demonstrations: taken from labels, bootstrapped from runs, or searched for among those."""

from __future__ import annotations

from typing import Any

from dspy.evaluate.evaluate import Evaluate
from dspy.teleprompt import (
    BootstrapFewShot,
    BootstrapFewShotWithRandomSearch,
    LabeledFewShot,
)
from dspy.teleprompt.teleprompt import Teleprompter

from bridge.engine.optimizers.job import Job, Prepared
from protocol.errors import InvalidArgs

__all__ = ["bootstrap", "labeled", "optuna_search", "random_search"]


def labeled(job: Job, settings: dict[str, Any], compiled: dict[str, Any]) -> Prepared:  # noqa: ARG001
    """LabeledFewShot: no LM is asked."""
    return Prepared(LabeledFewShot(**settings), compiled)


def bootstrap(job: Job, settings: dict[str, Any], compiled: dict[str, Any]) -> Prepared:
    """BootstrapFewShot."""
    return Prepared(BootstrapFewShot(metric=job.metric, **settings), compiled)


def random_search(job: Job, settings: dict[str, Any], compiled: dict[str, Any]) -> Prepared:
    """BootstrapFewShotWithRandomSearch."""
    if settings.get("max_bootstrapped_demos") == 0:
        raise InvalidArgs.at("config.max_bootstrapped_demos", "must be at least 1 to search")
    if "stop_at_score" in settings:
        # DSPy compares with a percentage; on the wire a score is a mean.
        settings["stop_at_score"] = 100 * settings["stop_at_score"]
    optimizer = BootstrapFewShotWithRandomSearch(metric=job.metric, **settings)
    seeds = range(-3, optimizer.num_candidate_sets)
    trials = len(set(seeds) & set(compiled["restrict"])) if "restrict" in compiled else len(seeds)
    if not trials:
        raise InvalidArgs.at("config.restrict", f"names no candidate from {seeds[0]} on")
    return Prepared(optimizer, compiled, trials=trials, takes_valset=True)


def optuna_search(job: Job, settings: dict[str, Any], compiled: dict[str, Any]) -> Prepared:
    """BootstrapFewShotWithOptuna."""
    optimizer = SeededOptunaSearch(job, settings, compiled.get("max_demos"))
    return Prepared(optimizer, trials=optimizer.candidates, takes_valset=True)


class SeededOptunaSearch(Teleprompter):  # type: ignore[misc]
    """DSPy's BootstrapFewShotWithOptuna with a seed.

    DSPy's own starts from fresh entropy each time, fails on a predictor without demonstrations, and
    cannot hand `max_errors` on. The search is the same: one demonstration for each predictor.
    """

    def __init__(self, job: Job, settings: dict[str, Any], max_demos: int | None) -> None:
        super().__init__()
        self.candidates: int = settings.pop("num_candidate_programs", 16)
        self._threads = settings.pop("num_threads", None)
        if max_demos is not None:
            settings["max_bootstrapped_demos"] = max_demos
        self._bootstrap = BootstrapFewShot(metric=job.metric, **settings)
        self._metric = job.metric
        self._seed = job.seed

    def compile(self, student: Any, *, trainset: Any, valset: Any = None) -> Any:
        """The candidate with the highest score on the valset, or on the trainset without one."""
        import optuna  # noqa: PLC0415 - an extra

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        source = self._bootstrap.compile(student, trainset=trainset)
        evaluate = Evaluate(
            devset=valset or trainset, metric=self._metric, num_threads=self._threads
        )
        programs: dict[int, Any] = {}

        def objective(trial: Any) -> float:
            candidate = student.reset_copy()
            pairs = zip(source.named_predictors(), candidate.named_predictors(), strict=True)
            for (name, taught), (_, learner) in pairs:
                if taught.demos:
                    number = trial.suggest_int(f"demo_index_for_{name}", 0, len(taught.demos) - 1)
                    learner.demos = [taught.demos[number]]
            programs[trial.number] = candidate
            score: float = evaluate(candidate).score
            return score

        sampler = optuna.samplers.TPESampler(seed=self._seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.optimize(objective, n_trials=self.candidates)
        return programs[study.best_trial.number]
