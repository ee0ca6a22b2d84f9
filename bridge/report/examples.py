"""The program on each example, before and after, those that changed first.

A row is right with a score of 1 or more, as `evaluate` counts it; a row that failed scores 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from bridge.report.figures import count, plural
from bridge.report.figures import score as score_text
from bridge.report.markup import Html, el, join
from bridge.report.prose import fields, folded, plain_value, value_block
from bridge.report.reading import listing, mapping, number, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Change", "Pair", "example_section", "pair_rows"]

MOST_ROWS = 500
"""Rows of one table."""

OPEN_UP_TO = 12
"""Rows that stayed the same are folded away when there are more."""

Json = dict[str, Any]


class Change(Enum):
    """What became of an example, in the order that a reader wants: its text and its sign."""

    FIXED = ("Fixed", "\N{BLACK UP-POINTING TRIANGLE}")
    BROKEN = ("Broken", "\N{BLACK DOWN-POINTING TRIANGLE}")
    BETTER = ("Better", "\N{WHITE UP-POINTING TRIANGLE}")
    WORSE = ("Worse", "\N{WHITE DOWN-POINTING TRIANGLE}")
    STILL_WRONG = ("Still wrong", "=")
    STILL_RIGHT = ("Still right", "=")
    UNPAIRED = ("Only once", "\N{EN DASH}")

    @property
    def text(self) -> str:
        """What a person reads."""
        return self.value[0]

    @property
    def css(self) -> str:
        """The class of its tag."""
        return self.name.lower().replace("_", "-")


CHANGED = (Change.FIXED, Change.BROKEN, Change.BETTER, Change.WORSE)
ORDER = list(Change)


@dataclass(frozen=True, slots=True)
class Pair:
    """One example's rows; None where there is none."""

    name: str
    before: Json | None
    after: Json | None
    change: Change


def pair_rows(rows: Any) -> list[Pair]:
    """An example's two rows each, in the order of `Change`.

    Args:
        rows: ``[{index, example, before, after}]``, one side null where it was not run; or
            ``{before: [{index, example, …}], after: […]}``, paired by `index`, else by place.
    """
    before, after = (_by_name(_side(rows, side)) for side in ("before", "after"))
    pairs = [
        Pair(name, before.get(name), after.get(name), _change(before.get(name), after.get(name)))
        for name in dict.fromkeys([*before, *after])
    ]
    return sorted(pairs, key=lambda pair: ORDER.index(pair.change))


def example_section(pairs: Sequence[Pair]) -> Html | None:
    """Counts, the changed examples, and the others; None without examples."""
    if not pairs:
        return None
    columns = _Columns.of(pairs)
    changed = [pair for pair in pairs if pair.change in CHANGED]
    same = [pair for pair in pairs if pair.change not in CHANGED]
    if not columns.both:
        return join([_summary(pairs, columns), _table(pairs, columns, "The examples")])
    parts = [_summary(pairs, columns)]
    if changed:
        parts.append(_table(changed, columns, "Examples that changed"))
    if same:
        folding = el("summary", f"{plural(len(same), 'example')} with the same score")
        table = _table(same, columns, "Examples with the same score")
        parts.append(el("details", folding, table, open=not changed or len(same) <= OPEN_UP_TO))
    return join(parts)


def _side(rows: Any, side: str) -> list[Any]:
    """One side's rows, each with its index and its example."""
    if isinstance(rows, dict):
        return listing(rows.get(side))
    found = []
    for place, row in enumerate(map(mapping, listing(rows))):
        shared = {"index": row.get("index", place), "example": row.get("example")}
        if row.get(side) is not None:
            found.append({**mapping(row[side]), **shared})
    return found


def _by_name(rows: list[Any]) -> dict[str, Json]:
    """Rows by their `index`, or by their place where it is none or is taken."""
    named: dict[str, Json] = {}
    for place, row in enumerate(map(mapping, rows)):
        index = number(row.get("index"))
        name = str(place) if index is None or not index.is_integer() else str(int(index))
        named[name if name not in named else f"{place} (again)"] = row
    return named


def _score(row: Json) -> float | None:
    found = number(row.get("score"))
    return 0.0 if found is None and row.get("error") is not None else found


def _right(row: Json | None) -> bool:
    return row is not None and (_score(row) or 0.0) >= 1.0


def _change(before: Json | None, after: Json | None) -> Change:
    if before is None or after is None:
        return Change.UNPAIRED
    was, now = _score(before) or 0.0, _score(after) or 0.0
    if _right(before) != _right(after):
        return Change.FIXED if _right(after) else Change.BROKEN
    if was != now:
        return Change.BETTER if now > was else Change.WORSE
    return Change.STILL_RIGHT if _right(after) else Change.STILL_WRONG


def _summary(pairs: Sequence[Pair], columns: _Columns) -> Html:
    sides = []
    if columns.before:
        sides.append(f"{sum(_right(pair.before) for pair in pairs)} right before")
    if columns.after:
        sides.append(f"{sum(_right(pair.after) for pair in pairs)} right after")
    told = el("p", f"{plural(len(pairs), 'example')}: {', '.join(sides)}.")
    if not columns.both:
        return told
    totals = {kind: sum(pair.change is kind for pair in pairs) for kind in Change}
    items = [
        el("li", _tag(kind), el("strong", count(total))) for kind, total in totals.items() if total
    ]
    return join([told, el("ul", *items, class_="tally")])


def _tag(kind: Change) -> Html:
    sign = el("span", kind.value[1], aria_hidden="true")
    return el("span", sign, " ", kind.text, class_=f"tag {kind.css}")


# The table


@dataclass(frozen=True, slots=True)
class _Columns:
    """What the table shows: which sides there are, and which fields are labels."""

    before: bool
    after: bool
    labels: tuple[str, ...]

    @property
    def both(self) -> bool:
        return self.before and self.after

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> _Columns:
        """Labels are what an example and a prediction both have."""
        rows = [row for pair in pairs for row in (pair.before, pair.after) if row is not None]
        given = dict.fromkeys(key for row in rows for key in mapping(row.get("example")))
        said = {key for row in rows for key in mapping(row.get("prediction"))}
        return cls(
            any(pair.before is not None for pair in pairs),
            any(pair.after is not None for pair in pairs),
            tuple(key for key in given if key in said),
        )


def _table(pairs: Sequence[Pair], columns: _Columns, caption: str) -> Html:
    heads = ["Example"]
    heads += ["Expected"] if columns.labels else []
    heads += ["Before"] if columns.before else []
    heads += ["After"] if columns.after else []
    body = [_row(pair, columns) for pair in pairs[:MOST_ROWS]]
    left = len(pairs) - len(body)
    first = "Change" if columns.both else "Number"
    table = el(
        "table",
        el("caption", caption, class_="hidden"),
        el(
            "thead",
            # Roles are said because narrow screens lay the table out as blocks, which ends them.
            el("tr", *(_head(head) for head in [first, *heads]), role="row"),
            role="rowgroup",
        ),
        el("tbody", *body, role="rowgroup"),
        class_="examples",
        role="table",
    )
    note = f"{plural(left, 'more row is', 'more rows are')} not in this page."
    return join([table, el("p", note, class_="note") if left else None])


def _head(text: str) -> Html:
    return el("th", text, scope="col", role="columnheader", class_=text.lower())


def _row(pair: Pair, columns: _Columns) -> Html:
    example = mapping((pair.after or pair.before or {}).get("example"))
    asked = {key: value for key, value in example.items() if key not in columns.labels}
    labels = {key: example[key] for key in columns.labels if key in example}
    cells = [_cell("Example", _asked(asked))]
    if columns.labels:
        cells.append(_cell("Expected", _values(labels)))
    if columns.before:
        cells.append(_cell("Before", _answer(pair.before, columns)))
    if columns.after:
        cells.append(_cell("After", _answer(pair.after, columns)))
    name = el("span", f"#{pair.name}", class_="number")
    tag = _tag(pair.change) if columns.both else None
    return el("tr", el("th", tag, name, scope="row", role="rowheader"), *cells, role="row")


def _cell(label: str, content: Html) -> Html:
    return el("td", content, data_label=label, role="cell")


def _asked(values: Mapping[str, Any]) -> Html:
    """The inputs; structures among them, often a label's evidence, behind a fold."""
    plain = {key: value for key, value in values.items() if plain_value(value)}
    rest = {key: value for key, value in values.items() if key not in plain}
    return join([_values(plain), _more(rest)]) if plain else _values(rest)


def _answer(row: Json | None, columns: _Columns) -> Html:
    if row is None:
        return el("span", "none", class_="empty")
    said = row.get("prediction")
    given = mapping(said)
    main = {key: given[key] for key in columns.labels if key in given} or given
    rest = {key: value for key, value in given.items() if key not in main}
    content = value_block(said) if said and not given else _values(main) if main else None
    return join([_mark(row), content, _error(row.get("error")), _more(rest)])


def _mark(row: Json) -> Html | None:
    score = _score(row)
    if score is None:
        return None
    right = score >= 1.0
    sign = "\N{CHECK MARK}" if right else "\N{MULTIPLICATION X}"
    kind = "mark right" if right else "mark wrong"
    said = f"{score:.0f}" if score in {0.0, 1.0} else score_text(score)
    return el("p", el("span", sign, aria_hidden="true"), " score ", said, class_=kind)


def _error(error: Any) -> Html | None:
    if error is None:
        return None
    given = mapping(error)
    code, message = given.get("code"), given.get("message")
    text = ": ".join(shown(part) for part in (code, message) if part is not None)
    return el("div", folded(text or shown(error)), class_="error")


def _values(values: Mapping[str, Any]) -> Html:
    """One value as it is; several by name."""
    if len(values) == 1:
        return value_block(next(iter(values.values())))
    return fields(values) if values else el("span", "none", class_="empty")


def _more(values: Mapping[str, Any]) -> Html | None:
    if not values:
        return None
    names = ", ".join(key[:40] for key in list(values)[:4])
    return el(
        "details", el("summary", el("span", names, dir="auto")), fields(values), class_="more"
    )
