"""BetterTogether: optimizers one after another, each on what the last one learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspy.teleprompt import BetterTogether

from bridge.engine.optimizers.job import Job, Prepared
from bridge.specs.optimizers import ROWS, check_available
from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from dspy.teleprompt.teleprompt import Teleprompter

__all__ = ["build"]


def build(job: Job, settings: dict[str, Any], compiled: dict[str, Any]) -> Prepared:
    """BetterTogether; a random search alone when no optimizers are named.

    DSPy's default includes fine-tuning, which gives no state.
    """
    named = settings.get("optimizers") or {
        "p": (ROWS["BootstrapFewShotWithRandomSearch"], {}, {}),
    }
    strategy = compiled.setdefault("strategy", " -> ".join(named))
    for step in strategy.split(" -> "):
        if step not in named:
            raise InvalidArgs.at(
                "config.strategy",
                f"{step!r} is none of the optimizers ({', '.join(named)}); "
                "steps are joined by ' -> '",
            )
    steps: dict[str, Teleprompter] = {}
    arguments: dict[str, dict[str, Any]] = {}
    prepared: list[Prepared] = []
    for name, (row, constructor, own) in named.items():
        check_available(row)
        ready = job.prepare(job, row, constructor, own)
        steps[name], arguments[name] = ready.optimizer, ready.compile
        prepared.append(ready)
    compiled.setdefault("num_threads", job.max_concurrency)
    compiled.setdefault("seed", job.seed)
    compiled["optimizer_compile_args"] = arguments
    return Prepared(
        LoudBetterTogether(job, steps),
        compiled,
        takes_valset=True,
        own_signatures=any(ready.own_signatures for ready in prepared),
    )


class LoudBetterTogether(BetterTogether):  # type: ignore[misc]
    """BetterTogether that says why a step failed; DSPy's gives back what it has and a flag."""

    def __init__(self, job: Job, steps: dict[str, Teleprompter]) -> None:
        super().__init__(metric=job.metric, **steps)
        self._lm = job.lm()
        self._step_failure: Exception | None = None

    def compile(self, student: Any, **arguments: Any) -> Any:
        """The best program of all steps; raise what made a step fail."""
        student.set_lm(self._lm)
        compiled = super().compile(student, **arguments)
        if self._step_failure is not None:
            raise self._step_failure
        return compiled

    def _run_and_evaluate_step(self, *arguments: Any) -> Any:
        try:
            return super()._run_and_evaluate_step(*arguments)
        except Exception as error:
            self._step_failure = error
            raise
