"""JSON for the report: any at all, and runs with some parts replaced by something else."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from tests.report.sample import two_hop_run

HOSTILE = (
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title></textarea></svg><img src=x onerror=alert(1)>",
    '" onload="alert(1)" x=\'',
    "' autofocus onfocus='alert(1)",
    "`><svg/onload=alert(1)>",
    "<!-- --!><iframe src=//example.com>",
    "]]><![CDATA[<script>",
    "<?xml-stylesheet href='//example.com'?>",
    "javascript:alert(1)",
    "&lt;script&gt;&#x3c;b&#x3e;&amp",
    "a\x00b\x1b[31m\x7f\x85",
    "\u202eLTR\u202c \u05de\u05e2\u05e0\u05d4 \u0627\u0644\u0633\u0624\u0627\u0644",
    "\u2028\u2029\ufeff\ufffe\U0010ffff",
    "x" * 200_000,
    "word " * 40_000,
)
"""Texts that break pages that do not escape them, or do not bound them."""

texts = st.text(max_size=30) | st.sampled_from([text for text in HOSTILE if len(text) < 1000])

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)

values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
"""Any JSON value."""


def places(value: Any) -> list[tuple[Any, ...]]:
    """The paths of everything in a JSON value, except the value itself."""
    found: list[tuple[Any, ...]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        found.append((key,))
        if isinstance(inner, dict | list):
            found += [(key, *rest) for rest in places(inner)]
    return found


PLACES = places(two_hop_run())


@st.composite
def damaged_runs(draw: st.DrawFn) -> dict[str, Any]:
    """The sample run with up to four of its parts replaced or taken out."""
    run = copy.deepcopy(two_hop_run())
    for path in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=4)):
        target: Any = run
        for key in path[:-1]:
            if not _has(target, key):
                break
            target = target[key]
        else:
            if _has(target, path[-1]):
                if draw(st.booleans()):
                    target[path[-1]] = draw(values)
                else:
                    del target[path[-1]]
    return run


def _has(target: Any, key: Any) -> bool:
    if isinstance(target, dict):
        return key in target
    return isinstance(target, list) and isinstance(key, int) and key < len(target)


def poisoned(value: Any, text: str) -> Any:
    """The value with `text` in place of every text."""
    if isinstance(value, dict):
        return {key: poisoned(inner, text) for key, inner in value.items()}
    if isinstance(value, list):
        return [poisoned(inner, text) for inner in value]
    return text if isinstance(value, str) else value
