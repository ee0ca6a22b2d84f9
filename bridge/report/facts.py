"""The run in short: its names, scores and totals, and one sentence that says what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bridge.report import figures
from bridge.report.reading import listing, mapping, named, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Facts", "read_facts"]

ENDED_BY = {
    "budget": "its budget was used up",
    "deadline": "its time was over",
    "run_stop": "it was asked to stop",
    "max_errors": "too many examples failed",
}
"""Why a run ended early, by the word for it."""

SAME = 1e-9
"""Scores nearer to each other than this are the same mean, summed in another order."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the head of the page and its table of facts say.

    Attributes:
        title: the program's name, or the best other name.
        before: the score before the run; None when unknown.
        after: its score, or without a result the best that was seen.
        ended: whether there is a result.
        stats: totals, name and text.
        rows: the table: name, text, and whether that is an identifier.
    """

    title: str
    run_id: str | None
    optimizer: str | None
    status: str | None
    error: Any
    ended: bool
    before: float | None
    after: float | None
    sentence: str
    stats: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, str, bool], ...]

    @property
    def gain(self) -> float | None:
        """What the run added to the score."""
        if self.before is None or self.after is None:
            return None
        gain = self.after - self.before
        return 0.0 if abs(gain) < SAME else gain


def read_facts(run: Mapping[str, Any]) -> Facts:
    """The facts of a run; those that it lacks are None or left out."""
    result = mapping(run.get("result"))
    program = mapping(result.get("optimized_program"))
    name = named(run.get("program_id")) or named(program.get("id"))
    status = named(run.get("status")) or named(result.get("status"))
    optimizer = named(run.get("optimizer")) or named(result.get("optimizer"))
    before = number(result.get("baseline_score"))
    after = _first(result.get("score"), run.get("score"), run.get("best_score"))
    reason = named(result.get("ended_by"))
    stats = tuple(_stats(run, result))
    return Facts(
        title=(name or named(run.get("run_id")) or "A program")[:200],
        run_id=named(run.get("run_id")) or named(result.get("run_id")),
        optimizer=optimizer,
        status=status,
        error=run.get("error"),
        ended=bool(result),
        before=before,
        after=after,
        sentence=_sentence(optimizer, status, before, after, reason),
        stats=stats,
        rows=tuple(_rows(run, result, name, optimizer, status)),
    )


def _first(*values: Any) -> float | None:
    return next((found for found in map(number, values) if found is not None), None)


# The sentence


def _sentence(
    optimizer: str | None,
    status: str | None,
    before: float | None,
    after: float | None,
    reason: str | None,
) -> str:
    who = (optimizer or "The optimizer")[:100]
    if status in {"failed", "cancelled"}:
        end = "failed" if status == "failed" else "was cancelled"
        kept = "" if after is None else f" Its best score by then was {figures.score(after)}."
        return f"The run of {who} {end}.{kept}"
    if status == "running":
        kept = "" if after is None else f"; the best score so far is {figures.score(after)}"
        return f"{who} is still running{kept}."
    return f"{_outcome(who, before, after)}{_early(status, reason)}"


def _outcome(who: str, before: float | None, after: float | None) -> str:
    if after is None:
        return f"{who} told no score."
    if before is None:
        return f"{who} ended with a score of {figures.score(after)}."
    if abs(after - before) < SAME:
        return f"{who} left the score at {figures.score(after)}."
    moved = "raised" if after > before else "lowered"
    return f"{who} {moved} the score from {figures.score(before)} to {figures.score(after)}."


def _early(status: str | None, reason: str | None) -> str:
    if reason is None and status != "stopped":
        return ""
    why = ENDED_BY.get(reason or "")
    return f" It ended early{f', because {why}' if why else ''}; the best so far is kept."


# Totals


def _stats(run: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    stats, progress = mapping(result.get("stats")), _last_progress(run)
    trials = _first(stats.get("trials"), progress.get("trial"), run.get("trials"))
    if trials is not None:
        yield "Trials", figures.count(trials)
    calls = _first(stats.get("lm_calls"), progress.get("lm_calls"))
    if calls is not None:
        yield "LM calls", figures.count(calls)
    tokens = _first(_tokens(stats), progress.get("tokens"))
    if tokens is not None:
        yield "Tokens", figures.count(tokens)
    priced = stats if "cost" in stats else progress
    if "cost" in priced:
        yield "Cost", figures.money(number(priced.get("cost")))
    seconds = _seconds(run, stats, progress)
    if seconds is not None:
        yield "Time", figures.duration(seconds)


def _last_progress(run: Mapping[str, Any]) -> Mapping[str, Any]:
    now = mapping(run.get("progress"))
    return now or mapping((listing(run.get("history")) or [None])[-1])


def _tokens(stats: Mapping[str, Any]) -> float | None:
    counts = [
        number(mapping(row).get(key))
        for row in mapping(stats.get("usage")).values()
        for key in ("input_tokens", "output_tokens")
    ]
    known = [each for each in counts if each is not None]
    return number(sum(known)) if known else None


def _seconds(
    run: Mapping[str, Any], stats: Mapping[str, Any], progress: Mapping[str, Any]
) -> float | None:
    told = number(stats.get("seconds"))
    if told is not None:
        return told
    begun, ended = number(run.get("started_at")), number(run.get("ended_at"))
    if begun is not None and ended is not None and ended >= begun:
        return ended - begun
    elapsed = number(progress.get("elapsed_ms"))
    return None if elapsed is None else elapsed / 1000


# The table of facts


def _rows(
    run: Mapping[str, Any],
    result: Mapping[str, Any],
    program: str | None,
    optimizer: str | None,
    status: str | None,
) -> Iterator[tuple[str, str, bool]]:
    scores, stats = mapping(result.get("scores")), mapping(result.get("stats"))
    version = named(mapping(result.get("optimized_program")).get("version"))
    reason = named(result.get("ended_by"))
    identifiers = (
        ("Run", named(run.get("run_id")) or named(result.get("run_id"))),
        ("Program", program),
        ("Version", version),
        ("Optimizer", optimizer),
    )
    texts = (
        ("Status", status),
        ("Ended by", ENDED_BY.get(reason, reason) if reason else None),
        ("Started", figures.moment(run.get("started_at"))),
        ("Ended", figures.moment(run.get("ended_at"))),
        ("Score on the training examples", _score(scores.get("train"))),
        ("Score on the validation examples", _score(scores.get("val"))),
        ("Calls answered from cache", _count(stats.get("cached_calls"))),
        ("LM calls kept as traces", _count(len(listing(result.get("traces"))) or None)),
    )
    yield from ((name, text, True) for name, text in identifiers if text is not None)
    yield from ((name, text, False) for name, text in texts if text is not None)


def _score(value: Any) -> str | None:
    found = number(value)
    return None if found is None else figures.score(found)


def _count(value: Any) -> str | None:
    found = number(value)
    return None if found is None else figures.count(found)
