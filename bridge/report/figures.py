"""Numbers as a person reads them: scores, counts, money, times."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from bridge.report.reading import named, number

__all__ = ["MINUS", "count", "duration", "moment", "money", "plural", "score", "signed"]

MINUS = "\N{MINUS SIGN}"


def score(value: float) -> str:
    """A score in its own unit: three decimals, fewer for large ones."""
    size = abs(value)
    form = ".1e" if 0 < size < 0.0005 else ".3f" if size < 10 else ",.1f"
    return format(value, form).replace("-", MINUS)


def signed(value: float) -> str:
    """A difference of scores, with its sign."""
    return f"+{score(value)}" if value > 0 else score(value)


def count(value: float) -> str:
    """A whole number with thousands marked."""
    return f"{round(value):,}".replace("-", MINUS)


def plural(value: float, one: str, many: str | None = None) -> str:
    """A count and its noun."""
    return f"{count(value)} {one if round(value) == 1 else many or one + 's'}"


def money(dollars: float | None) -> str:
    """US dollars: cents where they count, two significant figures below; None has no price."""
    if dollars is None:
        return "no known price"
    if dollars == 0 or abs(dollars) >= 1:
        return f"${dollars:,.2f}"
    digits = max(2, 1 - math.floor(math.log10(abs(dollars))))
    return f"${dollars:.{min(digits, 8)}f}"


def duration(seconds: float) -> str:
    """A time span in the unit that suits it."""
    if seconds < 0:
        return f"{seconds:,.1f} s".replace("-", MINUS)
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def moment(value: Any) -> str | None:
    """A point in time: seconds since 1970 as UTC, a text as it is."""
    seconds = number(value)
    if seconds is None:
        return named(value)
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%-d %B %Y, %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return None
