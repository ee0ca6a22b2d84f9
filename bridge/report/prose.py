"""Values of a run as a person reads them: short ones whole, long ones folded, lists as lists.

Text keeps its own direction and its line breaks, and cannot change the direction of what is
around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.report.figures import count
from bridge.report.markup import Html, el
from bridge.report.reading import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["fields", "folded", "plain_value", "value_block"]

SHOWN = 320
"""Characters before the fold: about five lines of a card."""

MOST = 20_000
"""Characters of one value in all; a page with more would not open."""

MOST_ITEMS = 40
"""Items of one list, fields of one map."""


def folded(text: str, before: int = SHOWN) -> Html:
    """The text; what is after the fold in an element that opens."""
    if len(text) <= before + before // 4:
        return el("div", text, class_="prose", dir="auto")
    cut = max(text.rfind(" ", before // 2, before), text.rfind("\n", before // 2, before)) + 1
    cut = cut or before
    rest = text[cut:MOST]
    left = len(text) - len(rest) - cut
    return el(
        "div",
        el("div", f"{text[:cut].rstrip()} …", class_="prose", dir="auto"),
        el(
            "details",
            el("summary", f"{count(len(text) - cut)} more characters"),
            el("div", rest, class_="prose", dir="auto"),
            el("p", f"{count(left)} more are not in this page.", class_="note") if left else None,
            class_="more",
        ),
    )


def plain_value(value: Any) -> bool:
    """Whether a value is one text or number, and no structure."""
    return not isinstance(value, dict | list)


def value_block(value: Any) -> Html:
    """A value of any type; a list of texts as a list."""
    if isinstance(value, list) and value and all(map(plain_value, value)):
        items = [el("li", folded(shown(item))) for item in value[:MOST_ITEMS]]
        return el("div", el("ul", *items, class_="values"), _left_out(len(value), "items"))
    if value is None or value == "":
        return el("span", "empty", class_="empty")
    return folded(shown(value))


def fields(values: Mapping[str, Any]) -> Html:
    """Named values."""
    pairs = list(values.items())[:MOST_ITEMS]
    rows = [
        el("div", el("dt", key[:200], dir="auto"), el("dd", value_block(value)))
        for key, value in pairs
    ]
    return el("div", el("dl", *rows, class_="fields"), _left_out(len(values), "fields"))


def _left_out(total: int, noun: str) -> Html | None:
    if total <= MOST_ITEMS:
        return None
    return el("p", f"{count(total - MOST_ITEMS)} more {noun} are not in this page.", class_="note")
