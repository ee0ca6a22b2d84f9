"""What an optimizer is given, and what it is made into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dspy

    from bridge.engine.runs.running import Run
    from bridge.engine.runs.student import Student
    from bridge.engine.scoring.metrics import RunMetric
    from bridge.specs.optimizers import OptimizerRow

__all__ = ["Job", "Prepared", "to_size"]


@dataclass(frozen=True, slots=True)
class Job:
    """A program that is to learn, and from what.

    Attributes:
        student: never compiled itself; optimizers work on copies.
        run: what is around it.
        trainset: examples as DSPy has them.
        valset: those that candidates are scored on; empty when the host gave none.
        metric: in every shape that DSPy calls it.
        seed: everything random starts from it.
        max_concurrency: program runs at once.
        prepare: makes another optimizer ready, for those that are made of several.
    """

    student: Student
    run: Run
    trainset: Sequence[dspy.Example]
    valset: Sequence[dspy.Example]
    metric: RunMetric
    seed: int
    max_concurrency: int
    prepare: Callable[[Job, OptimizerRow, Any, Any], Prepared]

    def lm(self) -> Any:
        """The run's own LM; raise NotConfigured when there is none."""
        return self.run.lm(None)

    def warn(self, text: str) -> None:
        """A note for the result's `warnings`."""
        self.run.scope.warn(text)


@dataclass(slots=True)
class Prepared:
    """An optimizer ready to compile.

    Attributes:
        optimizer: DSPy's.
        compile: what its `compile` takes beside the student and the examples.
        trials: how many candidates it will evaluate, where that is known.
        takes_valset: whether `compile` has a `valset`.
        tries_candidates: whether it compares programs by their scores.
        candidate_size: examples that make one trial, where DSPy has no evaluation of its own.
        own_signatures: whether it writes into signature classes, which copies must not share then.
    """

    optimizer: Any
    compile: dict[str, Any] = field(default_factory=dict)
    trials: int | None = None
    takes_valset: bool = False
    tries_candidates: bool = False
    candidate_size: int | None = None
    own_signatures: bool = False

    def run(self, job: Job) -> Any:
        """The compiled program."""
        datasets: dict[str, Any] = {"trainset": list(job.trainset)}
        if self.takes_valset and job.valset:
            datasets["valset"] = list(job.valset)
        return self.optimizer.compile(job.student.deepcopy(), **datasets, **self.compile)


def to_size(job: Job, settings: dict[str, Any], key: str, default: int, most: int) -> None:
    """Put `key` down to `most` where it is above; say so when it was the host's own number."""
    wanted = settings.get(key, default)
    if wanted > most:
        if key in settings:
            job.warn(f"config.{key}: {wanted} is more than the {most} examples there are")
        settings[key] = most
