"""SVG drawn by hand: scores over trials, and what each trial took, on one horizontal scale.

Charts come in two widths, because text in an SVG shrinks with it: a style sheet shows one of them.
Lines differ in shape as well as in colour. Every dot and bar tells its numbers when pointed at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.report.figures import score as score_text
from bridge.report.markup import Html, el, join

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bridge.report.trials import Trial

__all__ = ["Frame", "axis", "score_chart", "spending_chart"]

LETTERS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
"""What thousands are called where there is little room."""

MOST_DECIMALS = 5
"""Of a mark on an axis; smaller steps are told as powers of ten."""

MOST_DOTS = 80
"""More of them than this touch each other; the line says it alone."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The place of a chart: its size, and how many marks fit under it, in the SVG's own units."""

    name: str
    width: float
    height: float
    marks: int
    left: float = 56
    right: float = 16
    top: float = 20
    bottom: float = 28

    def x(self, at: float, total: int) -> float:
        """The middle of the `at`-th of `total` equal bands."""
        return self.left + (at + 0.5) * (self.width - self.left - self.right) / total

    def y(self, value: float, low: float, high: float) -> float:
        """The height of a value between the axis's ends."""
        share = (value - low) / (high - low)
        return self.top + (1 - share) * (self.height - self.top - self.bottom)


def axis(values: Iterable[float], marks: int = 4) -> list[float]:
    """Round values, evenly apart, from at or below the least to at or above the greatest."""
    given = list(values)
    low, high = min(given), max(given)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = max(abs(low) * 0.1, 0.1)
        low, high = (0.0, 1.0) if 0 <= low <= 1 else (low - margin, high + margin)
    rough = (high - low) / marks
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * many for many in (1, 2, 5, 10) if unit * many >= rough * 0.999)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [number * step for number in range(first, last + 1)]


def score_chart(trials: Sequence[Trial], baseline: float | None, frame: Frame) -> Html:
    """Each trial's score as dots on a line, the best so far as steps, the baseline dashed.

    Args:
        trials: two or more.
        baseline: the score before the run, if it is known.
        frame: where it is drawn.
    """
    scores = [trial.score for trial in trials]
    bests = [trial.best for trial in trials]
    values = [*scores, *bests, *([] if baseline is None else [baseline])]
    if 0 <= min(values) < max(values) / 2:
        # Where the axis would begin near zero it begins there: heights are then in proportion.
        values.append(0.0)
    marks = axis(values)
    low, high = marks[0], marks[-1]
    points = [
        (frame.x(at, len(trials)), frame.y(trial.score, low, high))
        for at, trial in enumerate(trials)
    ]
    steps = [(frame.x(at, len(trials)), frame.y(best, low, high)) for at, best in enumerate(bests)]
    parts = [*_grid(marks, frame, _mark_text(marks)), *_under([t.name for t in trials], frame)]
    if baseline is not None:
        y = frame.y(baseline, low, high)
        parts.append(_line(frame.left, y, frame.width - frame.right, y, "baseline"))
    parts += [
        el("path", class_="best", d=_stairs(steps, frame)),
        el("path", class_="score", d=_path(points)),
    ]
    if len(trials) <= MOST_DOTS:
        parts += [_dot(point, trial) for point, trial in zip(points, trials, strict=True)]
    parts.append(_summit(trials, steps, frame))
    told = (
        f"{len(trials)} scored trials, the first with {score_text(scores[0])}; "
        f"the best so far ends at {score_text(bests[-1])}"
    )
    if baseline is not None:
        told += f"; before the run it was {score_text(baseline)}"
    return _svg(frame, "Score over trials", told, parts)


def spending_chart(
    names: Sequence[str],
    values: Sequence[float],
    frame: Frame,
    *,
    title: str,
    text: Callable[[float], str],
    sign: str = "",
) -> Html:
    """A bar for each trial.

    Args:
        names: the trials'.
        values: as many, none below zero, one above it.
        frame: where it is drawn.
        title: what is counted.
        text: says a value.
        sign: stands before the values of the axis.
    """
    marks = axis([0.0, *values], 2)
    low, high = marks[0], marks[-1]
    band = (frame.width - frame.left - frame.right) / len(values)
    wide = max(1.0, min(band * 0.62, 36))
    floor = frame.y(0, low, high)
    bars = []
    for at, value in enumerate(values):
        y = frame.y(value, low, high)
        place = {"x": _n(frame.x(at, len(values)) - wide / 2), "y": _n(y), "width": _n(wide)}
        tip = el("title", f"Trial {names[at]}: {text(value)}")
        bars.append(el("rect", tip, class_="bar", height=_n(floor - y), rx=1.5, **place))
    parts = [*_grid(marks, frame, _mark_text(marks, sign)), *_under(names, frame), *bars]
    most = max(range(len(values)), key=values.__getitem__)
    told = f"The most, {text(values[most])}, was in trial {names[most]}"
    return _svg(frame, title, told, parts)


def _svg(frame: Frame, title: str, told: str, parts: Sequence[Html]) -> Html:
    ids = {"title": f"{frame.name}-title", "desc": f"{frame.name}-desc"}
    return el(
        "svg",
        el("title", title, id=ids["title"]),
        el("desc", f"{told}.", id=ids["desc"]),
        *parts,
        class_=f"chart {frame.name.rpartition('-')[2]}",
        viewBox=f"0 0 {_n(frame.width)} {_n(frame.height)}",
        role="img",
        aria_labelledby=f"{ids['title']} {ids['desc']}",
    )


def _grid(marks: Sequence[float], frame: Frame, text: Callable[[float], str]) -> list[Html]:
    drawn = []
    for mark in marks:
        y = frame.y(mark, marks[0], marks[-1])
        kind = "floor" if mark == marks[0] else "grid"
        drawn.append(_line(frame.left, y, frame.width - frame.right, y, kind))
        drawn.append(_text(frame.left - 8, y + 4, text(mark), "end"))
    return drawn


def _under(names: Sequence[str], frame: Frame) -> list[Html]:
    """Names of trials, as many as fit."""
    step = -(-len(names) // frame.marks)
    y = frame.height - frame.bottom + 18
    return [
        _text(frame.x(at, len(names)), y, names[at][:12], "middle")
        for at in range(0, len(names), step)
    ]


def _mark_text(marks: Sequence[float], sign: str = "") -> Callable[[float], str]:
    """As many decimals as tell two marks apart; thousands and more by their letter."""
    step = marks[1] - marks[0]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    top = max(map(abs, marks))
    unit, letter = next((pair for pair in LETTERS if top >= 10 * pair[0]), (1.0, ""))
    if unit > 1:
        digits = max(0, -math.floor(math.log10(step / unit) + 1e-9))
    if digits > MOST_DECIMALS:
        return lambda mark: f"{sign}{mark:.0e}"
    return lambda mark: f"{sign}{mark / unit + 0.0:.{digits}f}{letter if mark else ''}"


def _summit(trials: Sequence[Trial], steps: Sequence[tuple[float, float]], frame: Frame) -> Html:
    """The trial that first reached the best, ringed and named."""
    best = trials[-1].best
    at = next(at for at, trial in enumerate(trials) if trial.best == best)
    x, y = steps[at]
    anchor = "end" if x > frame.width * 0.8 else "start" if x < frame.width * 0.2 else "middle"
    above = y - 10 if y - 10 > 9 else y + 20
    ring = el("circle", class_="summit", cx=_n(x), cy=_n(y), r=6)
    return join([ring, _text(x, above, score_text(best), anchor, "value")])


def _dot(point: tuple[float, float], trial: Trial) -> Html:
    tip = f"Trial {trial.name}: {score_text(trial.score)}, best so far {score_text(trial.best)}"
    kind = "dot partial" if trial.partial else "dot"
    return el("circle", el("title", tip), class_=kind, cx=_n(point[0]), cy=_n(point[1]), r=3)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{_n(x)} {_n(y)}" for x, y in points)


def _stairs(points: Sequence[tuple[float, float]], frame: Frame) -> str:
    """Level until the next trial, then up; level to the end."""
    drawn = f"M{_n(points[0][0])} {_n(points[0][1])}"
    for x, y in points[1:]:
        drawn += f" H{_n(x)} V{_n(y)}"
    return f"{drawn} H{_n(frame.width - frame.right)}"


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    return el("line", class_=kind, x1=_n(x1), y1=_n(y1), x2=_n(x2), y2=_n(y2))


def _text(x: float, y: float, text: str, anchor: str, kind: str | None = None) -> Html:
    return el("text", text, class_=kind, x=_n(x), y=_n(y), text_anchor=anchor)


def _n(value: float) -> str:
    """A coordinate, to a hundredth."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
