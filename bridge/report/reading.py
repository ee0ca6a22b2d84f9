"""A run's JSON, read without trust: each part as the type that it should have, or as nothing.

`read_run` alone says no. Everything else takes any JSON value and never raises, because a page
about half a run is worth more than none.
"""

from __future__ import annotations

import codecs
import math
from typing import Any

import orjson

__all__ = ["NotARunError", "listing", "mapping", "named", "number", "read_run", "shown"]

LARGEST = 1e15
"""Numbers beyond this are no score, count or time, and would overflow a chart's arithmetic."""

TELLING = ("run_id", "status", "result", "optimizer", "history", "progress")
"""Keys of a run; a map with none of them is something else."""

RESULT_KEYS = ("optimized_program", "module_instructions", "module_demos")
"""Keys of what `optimize` answers, which is a run's `result`."""

Json = dict[str, Any]


class NotARunError(ValueError):
    """The file holds no run; the text says what it holds and what would be right."""


def read_run(data: bytes) -> Json:
    """The run in a file.

    Args:
        data: JSON: what `run_get` answers; or what `optimize` answers; or a whole reply,
            ``{id, result}``, around one of these.

    Returns:
        The run, as `run_get` answers it.

    Raises:
        NotARunError: the file holds something else.
    """
    try:
        found = orjson.loads(data.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        raise NotARunError(f"is not JSON: {error}") from error
    if not isinstance(found, dict):
        kind = "a list" if isinstance(found, list) else "a single value"
        raise NotARunError(f"holds {kind}; save the map that `run_get` answers")
    inner = found.get("result")
    if "id" in found and "run_id" not in found and isinstance(inner, dict):
        found = inner
    if any(key in found for key in RESULT_KEYS):
        return {**{key: found.get(key) for key in ("run_id", "status", "score")}, "result": found}
    if "runs" in found:
        raise NotARunError("holds the answer of `run_list`; save what `run_get` answers for one")
    if "error" in found and not any(key in found for key in TELLING):
        raise NotARunError("holds an error; save what `run_get` answers")
    if not any(key in found for key in TELLING):
        keys = ", ".join(list(found)[:5]) or "none"
        raise NotARunError(f"holds no run (its keys: {keys:.200}); save what `run_get` answers")
    return found


def mapping(value: Any) -> Json:
    """The value if it is a map, else an empty one."""
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def number(value: Any) -> float | None:
    """The value if it is a number that can be drawn; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return float(value) if -LARGEST < value < LARGEST else None


def named(value: Any) -> str | None:
    """The value as a name: a text that is not blank, or a whole number; else None."""
    if isinstance(value, bool):
        return None
    text = str(value) if isinstance(value, int) and abs(value) < 2**64 else value
    return text if isinstance(text, str) and text.strip() else None


def shown(value: Any) -> str:
    """Any value as text: a text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except TypeError:
        return "(cannot be shown)"
