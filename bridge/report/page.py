"""The page: what came of the run first, then how, then every part that a reader may check.

Law: the same run gives the same bytes. There is no clock in it, and nothing of this machine.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from bridge.report import figures
from bridge.report.charts import Frame, score_chart, spending_chart
from bridge.report.examples import example_section, pair_rows
from bridge.report.facts import Facts, read_facts
from bridge.report.markup import Html, document, el, inline_css, join
from bridge.report.modules import module_section, read_learners
from bridge.report.prose import fields, folded
from bridge.report.reading import listing, mapping, named, number, shown
from bridge.report.style import CSS
from bridge.report.trials import Spending, Trial, read_trials, sizes_apart, spending, thinned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["page"]

MOST_TRIALS = 240
"""Marks of a chart: more are less than three pixels apart."""

MOST_WARNINGS = 100

FRAMES = (("wide", 980.0, 16), ("narrow", 340.0, 6))
"""The charts' widths, and how many names of trials fit under them."""

SPENT = {
    "cost": ("Cost per trial", figures.money, "$"),
    "tokens": ("Tokens per trial", figures.count, ""),
    "lm_calls": ("LM calls per trial", figures.count, ""),
}
"""The title of a chart of each unit, how its values are said, and its sign."""

STATUSES = {
    "completed": "\N{CHECK MARK}",
    "stopped": "\N{BLACK SQUARE}",
    "running": "\N{HORIZONTAL ELLIPSIS}",
    "failed": "\N{MULTIPLICATION X}",
    "cancelled": "\N{MULTIPLICATION X}",
}
"""Signs of the statuses that a run can have."""


@dataclass(frozen=True, slots=True)
class _Section:
    anchor: str
    title: str
    content: Html


def page(run: Mapping[str, Any]) -> str:
    """One HTML document about a run.

    Args:
        run: what `run_get` answers; any part of it may be missing or of another type.
    """
    facts = read_facts(run)
    result = mapping(run.get("result"))
    trials = read_trials(run.get("history") or result.get("history"), result.get("trials"))
    pairs = pair_rows(result.get("rows"))
    apart = sizes_apart(result.get("trials"), len(pairs))
    made = [
        ("trials", "Score over trials", _trials(trials, facts.before, apart)),
        ("cost", "Cost", _cost(trials, _usage_of(run, result))),
        ("modules", "Modules", module_section(read_learners(result))),
        ("examples", "Examples", example_section(pairs)),
        ("run", "The run", _named_facts(facts)),
    ]
    sections = [
        _Section(anchor, title, content) for anchor, title, content in made if content is not None
    ]
    body = el(
        "body",
        el("a", "Skip to the result", href="#result", class_="skip"),
        _header(facts),
        el(
            "main",
            _result(facts),
            _failure(facts),
            _warnings(listing(result.get("warnings"))),
            _contents(sections),
            *map(_section, sections),
        ),
        el(
            "footer",
            el("p", "Written by dspy-bridge. The page holds prompts and examples of the run."),
        ),
    )
    return document(_head(f"{facts.title} · optimizer run"), body, lang="en")


def _head(title: str) -> Html:
    # Nothing may be loaded and no script may run, whatever a reader's browser makes of the page.
    digest = base64.b64encode(sha256(CSS.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        inline_css(CSS),
    )


# What came of it


def _header(facts: Facts) -> Html:
    status = facts.status or "unknown"
    known = status if status in STATUSES else "unknown"
    sign = el("span", STATUSES.get(status, "?"), aria_hidden="true")
    return el(
        "header",
        el(
            "p",
            el("span", "Optimizer run"),
            el("span", facts.run_id, class_="code", dir="auto") if facts.run_id else None,
            el("span", sign, " ", status[:40], class_=f"status {known}"),
            class_="eyebrow",
        ),
        el("h1", facts.title, dir="auto"),
        el("p", facts.sentence, class_="lead"),
    )


def _result(facts: Facts) -> Html:
    parts = []
    if facts.before is not None:
        parts += [_big("Before", facts.before, "was")]
    if facts.before is not None and facts.after is not None:
        parts += [el("span", "\N{RIGHTWARDS ARROW}", class_="arrow", aria_hidden="true")]
    if facts.after is not None:
        parts += [_big("After" if facts.ended else "Best so far", facts.after, "now")]
    if facts.gain is not None:
        kind = "up" if facts.gain > 0 else "down" if facts.gain < 0 else "level"
        parts += [el("p", figures.signed(facts.gain), class_=f"gain {kind}")]
    stats = [
        el(
            "div",
            el("dt", name),
            el("dd", value, class_=None if value[:1].isdigit() or value[:1] == "$" else "words"),
        )
        for name, value in facts.stats
    ]
    return el(
        "section",
        el("h2", "Result", class_="hidden"),
        el("div", *parts, class_="scores") if parts else None,
        el("dl", *stats, class_="stats") if stats else None,
        id="result",
        class_="card result",
    )


def _big(label: str, value: float, kind: str) -> Html:
    return el(
        "p",
        el("span", label, class_="label"),
        el("span", figures.score(value), class_="big"),
        class_=kind,
    )


def _failure(facts: Facts) -> Html | None:
    if facts.error is None:
        return None
    given = mapping(facts.error)
    code = named(given.get("code"))
    message = given.get("message", facts.error)
    # The run's own id stands among its facts.
    told = mapping(given.get("details"))
    details = {name: value for name, value in told.items() if name != "run_id"}
    return el(
        "section",
        el("h2", "Error"),
        el("p", el("strong", code[:80], class_="code")) if code else None,
        folded(shown(message), 2_000),
        fields(details) if details else None,
        class_="callout bad",
    )


def _warnings(warnings: Sequence[Any]) -> Html | None:
    if not warnings:
        return None
    said = [shown(mapping(warning).get("message", warning)) for warning in warnings[:MOST_WARNINGS]]
    left = len(warnings) - len(said)
    return el(
        "section",
        el("h2", "Warnings" if len(warnings) > 1 else "Warning"),
        el("ul", *(el("li", folded(text, 600)) for text in said)),
        el("p", f"{left} more are not in this page.") if left else None,
        class_="callout warn",
    )


def _contents(sections: Sequence[_Section]) -> Html | None:
    if len(sections) < 2:
        return None
    links = [el("li", el("a", each.title, href=f"#{each.anchor}")) for each in sections]
    return el("nav", el("ul", *links), aria_label="On this page")


def _section(section: _Section) -> Html:
    return el(
        "section",
        el("h2", section.title, id=f"{section.anchor}-title"),
        section.content,
        id=section.anchor,
        aria_labelledby=f"{section.anchor}-title",
    )


# How it came to it


def _trials(
    trials: Sequence[Trial], baseline: float | None, apart: tuple[int, int] | None
) -> Html | None:
    if not trials:
        return None
    if len(trials) == 1:
        return el("p", f"One candidate was scored: {figures.score(trials[0].score)}.")
    drawn = thinned(trials, MOST_TRIALS)
    baseline = baseline if apart is None else None
    legend = [el("li", el("span", class_="key score"), "score of the trial")]
    legend += [el("li", el("span", class_="key best"), "best so far")]
    if baseline is not None:
        legend += [el("li", el("span", class_="key baseline"), "before the run")]
    if any(trial.partial for trial in drawn):
        legend += [el("li", el("span", class_="key partial"), "scored on fewer examples")]
    charts = [
        score_chart(
            drawn, baseline, Frame(f"trials-{name}", width, 300 if name == "wide" else 230, marks)
        )
        for name, width, marks in FRAMES
    ]
    notes = []
    if apart is not None:
        notes.append(
            f"Trials were scored on {figures.plural(apart[0], 'example')} and the result on "
            f"{apart[1]}: these scores do not compare with those above."
        )
    if len(drawn) < len(trials):
        notes.append(f"{len(drawn)} of {len(trials)} trials are drawn.")
    return el(
        "figure",
        el("figcaption", el("ul", *legend, class_="legend")),
        *charts,
        *(el("p", note, class_="note") for note in notes),
        _numbers(drawn),
        class_="card",
    )


def _numbers(trials: Sequence[Trial]) -> Html:
    heads = el("tr", *(el("th", text, scope="col") for text in ("Trial", "Score", "Best so far")))
    rows = [
        el(
            "tr",
            el("th", trial.name[:40], scope="row"),
            el("td", figures.score(trial.score)),
            el("td", figures.score(trial.best)),
        )
        for trial in trials
    ]
    table = el(
        "table",
        el("caption", "Score of each trial", class_="hidden"),
        el("thead", heads),
        el("tbody", *rows),
        class_="numbers",
    )
    return el("details", el("summary", "The numbers"), table, class_="more screen-only")


def _usage_of(run: Mapping[str, Any], result: Mapping[str, Any]) -> Mapping[str, Any]:
    """What each LM was asked; a run that failed has spent as well."""
    return mapping(mapping(result.get("stats")).get("usage")) or mapping(run.get("usage"))


def _cost(trials: Sequence[Trial], usage: Mapping[str, Any]) -> Html | None:
    drawn = thinned(trials, MOST_TRIALS)
    taken = spending(drawn) if len(drawn) > 1 else None
    parts = [_bars(drawn, taken)] if taken is not None else []
    table = _usage(usage)
    if table is not None:
        parts.append(table)
    return join(parts) if parts else None


def _bars(trials: Sequence[Trial], taken: Spending) -> Html:
    title, text, sign = SPENT[taken.unit]
    names = [trial.name for trial in trials]
    charts = [
        spending_chart(
            names,
            taken.values,
            Frame(f"cost-{name}", width, 140, marks),
            title=title,
            text=text,
            sign=sign,
        )
        for name, width, marks in FRAMES
    ]
    note = "The first includes what the run spent before it, such as scoring the original program."
    return el(
        "figure", el("figcaption", el("strong", title), el("span", note)), *charts, class_="card"
    )


USAGE: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("calls", "LM calls", figures.count),
    ("cached_calls", "From cache", figures.count),
    ("input_tokens", "Tokens in", figures.count),
    ("output_tokens", "Tokens out", figures.count),
    ("cost", "Cost", figures.money),
)
"""Columns of the table of LMs: the key, the head, and how a value is said."""


def _usage(usage: Mapping[str, Any]) -> Html | None:
    rows = {name: mapping(row) for name, row in list(usage.items())[:200] if mapping(row)}
    columns = [column for column in USAGE if any(column[0] in row for row in rows.values())]
    if not columns:
        return None
    heads = [el("th", head, scope="col") for head in ("LM", *(head for _, head, _ in columns))]
    body = []
    for name, row in rows.items():
        cells = [el("td", _said(row, key, text)) for key, _, text in columns]
        body.append(el("tr", el("th", name[:120], scope="row", class_="code", dir="auto"), *cells))
    table = el(
        "table",
        el("caption", "What each LM was asked", class_="hidden"),
        el("thead", el("tr", *heads)),
        el("tbody", *body),
        class_="numbers",
    )
    return el(
        "div",
        table,
        class_="card scroll",
        tabindex=0,
        role="region",
        aria_label="What each LM was asked",
    )


def _said(row: Mapping[str, Any], key: str, text: Callable[[float], str]) -> str:
    value = number(row.get(key))
    if value is None:
        return "no known price" if key == "cost" and "cost" in row else "\N{EN DASH}"
    return text(value)


def _named_facts(facts: Facts) -> Html | None:
    if not facts.rows:
        return None
    rows = [
        el("div", el("dt", name), el("dd", folded(value), class_="code" if code else None))
        for name, value, code in facts.rows
    ]
    return el("dl", *rows, class_="card facts")
