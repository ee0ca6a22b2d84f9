"""What a run's progress says of its trials: each one's score, the best so far, and its price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bridge.report.reading import listing, mapping, named, number

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Spending", "Trial", "read_trials", "sizes_apart", "spending", "thinned"]

Unit = Literal["cost", "tokens", "lm_calls"]

UNITS: tuple[Unit, ...] = ("cost", "tokens", "lm_calls")
"""The one that says most first."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial that was scored.

    Attributes:
        name: its number, as a text.
        score: of the candidate.
        best: the best score by then.
        partial: whether it was scored on fewer examples than others were.
        spent: the run's total by then, by unit, where known.
    """

    name: str
    score: float
    best: float
    partial: bool
    spent: dict[Unit, float]


@dataclass(frozen=True, slots=True)
class Spending:
    """What each trial took, in the unit that says most of those that are known for all."""

    unit: Unit
    values: tuple[float, ...]


def read_trials(history: Any, told: Any = None) -> list[Trial]:
    """The scored trials of a run, in order; of several scores of one trial, the last.

    Args:
        history: the run's progress reports; those without a score are no trials.
        told: the result's ``[{trial, score, examples}]``, which says how many examples there were,
            and stands for the history where that has no scores.
    """
    rows = _scored(history) or _scored(told)
    sizes = {name: number(row.get("examples")) for name, row in _scored(told).items()}
    whole = max((size for size in sizes.values() if size is not None), default=None)
    trials: list[Trial] = []
    best: float | None = None
    for name, row in rows.items():
        score, size = row["score"], sizes.get(name)
        partial = whole is not None and size is not None and size < whole
        said = number(row.get("best_score"))
        if said is not None:
            best = said
        elif best is None or (score > best and not partial):
            best = score
        trials.append(Trial(name, float(score), best, partial, _spent(row)))
    return trials


def sizes_apart(told: Any, rows: int) -> tuple[int, int] | None:
    """How many examples the trials and the result were scored on, where that differs.

    Many optimizers try on the training examples, while a run's score is that of the validation
    examples; one must not be read as the other. None where nothing says that they differ.

    Args:
        told: the result's ``[{trial, score, examples}]``.
        rows: the examples that the result was scored on; 0 when unknown.
    """
    sizes = [number(row.get("examples")) for row in _scored(told).values()]
    whole = max((size for size in sizes if size is not None), default=None)
    if whole is None or rows in {0, whole}:
        return None
    return round(whole), rows


def _scored(rows: Any) -> dict[str, dict[str, Any]]:
    """Rows with a score by their trial, or by their place where they name none."""
    found: dict[str, dict[str, Any]] = {}
    for place, row in enumerate(map(mapping, listing(rows)), 1):
        if number(row.get("score")) is not None:
            found[named(row.get("trial")) or str(place)] = row
    return found


def _spent(row: dict[str, Any]) -> dict[Unit, float]:
    known = {unit: number(row.get(unit)) for unit in UNITS}
    return {unit: value for unit, value in known.items() if value is not None}


def spending(trials: Sequence[Trial]) -> Spending | None:
    """The price of each trial: the difference of the totals; None when no total is known for all.

    The first trial's includes what was spent before it.
    """
    for unit in UNITS:
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
