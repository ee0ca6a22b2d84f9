"""What a run's progress says of its trials: each one's score, the best so far, and its price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bridge.report.reading import listing, mapping, named, number

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Spending", "Trial", "read_trials", "spending", "thinned"]

Unit = Literal["cost", "tokens", "lm_calls"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial that was scored. `spent` is the run's total by then, by unit, where known."""

    name: str
    phase: str
    score: float
    best: float
    spent: dict[Unit, float]


@dataclass(frozen=True, slots=True)
class Spending:
    """What each trial took, in the unit that says most of those that are known for all."""

    unit: Unit
    values: tuple[float, ...]


def read_trials(history: Any) -> list[Trial]:
    """The scored trials of a run's history, in order; of several scores of one trial, the last.

    A score without `best_score` beside it counts towards the best so far by itself.
    """
    trials: list[Trial] = []
    best: float | None = None
    for position, row in enumerate(map(mapping, listing(history)), 1):
        score = number(row.get("score"))
        if score is None:
            continue
        said = number(row.get("best_score"))
        best = said if said is not None else max(score, score if best is None else best)
        name = named(row.get("trial")) or str(position)
        spent = {
            unit: value
            for unit in ("cost", "tokens", "lm_calls")
            if (value := number(row.get(unit))) is not None
        }
        trial = Trial(name, named(row.get("phase")) or "", score, best, spent)  # type: ignore[arg-type]
        if trials and trials[-1].name == name:
            trials[-1] = trial
        else:
            trials.append(trial)
    return trials


def spending(trials: Sequence[Trial]) -> Spending | None:
    """The price of each trial: the difference of the totals; None when no total is known for all.

    The first trial's includes what was spent before it.
    """
    units: tuple[Unit, ...] = ("cost", "tokens", "lm_calls")
    for unit in units:
        totals = [trial.spent[unit] for trial in trials if unit in trial.spent]
        if len(totals) == len(trials) and any(total > 0 for total in totals):
            steps = zip([0.0, *totals], totals, strict=False)
            return Spending(unit, tuple(max(0.0, after - before) for before, after in steps))
    return None


def thinned(trials: Sequence[Trial], most: int) -> list[Trial]:
    """At most `most` of the trials: every n-th, and the last."""
    step = -(-len(trials) // most)
    if step <= 1:
        return list(trials)
    return [trial for at, trial in enumerate(trials, 1) if at % step == 0 or at == len(trials)]
