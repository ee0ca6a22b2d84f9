"""What the keys of an envelope must hold, and how the person who got one wrong is told.

The law of this file: a check takes a value and gives what is wrong with it, or None, as the end of
the sentence "<key> …". A fault is ``{path, message, nearest?}``, as on the wire. Checks take exact
types: a decoded map holds no subclasses, and a boolean is not an integer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

from protocol.errors import InvalidMessage
from protocol.plain import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "MAX_ID_LENGTH",
    "Check",
    "Fault",
    "answer_error_fault",
    "bool_fault",
    "budget_fault",
    "deadline_fault",
    "fault",
    "faults_of",
    "id_fault",
    "is_id",
    "lm_fault",
    "map_fault",
    "refuse",
    "string_fault",
    "trace_fault",
    "unknown_keys",
]

MAX_ID_LENGTH = 1024
"""Characters of a string id: it comes back in every message about its request, and in the log."""

_MAX_FAULTS = 32
"""A message of a thousand unknown keys is one mistake, not a reply of a thousand faults."""

_MAX_COMPARED = 64
"""Characters of a key that is compared with the known ones, which takes quadratic time."""

_BUDGET_KEYS = ("lm_calls", "tokens", "cost_usd", "seconds")
_COUNTS = frozenset(["lm_calls", "tokens"])

_KINDS = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    dict: "a map",
    list: "a list",
    bytes: "bytes",
    type(None): "null",
}

Check: TypeAlias = "Callable[[Any], str | None]"
Fault: TypeAlias = dict[str, Any]


def refuse(faults: list[Fault]) -> None:
    """Raise what is wrong with a message, if anything is.

    Raises:
        InvalidMessage: the text has the first fault, ``details.faults`` all of them.
    """
    if not faults:
        return
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    raise InvalidMessage(
        f"{faults[0]['path']}: {faults[0]['message']}{more}", faults=faults[:_MAX_FAULTS]
    )


def fault(path: str, message: str) -> Fault:
    """One fault, without a nearest key."""
    return {"path": path, "message": message}


def faults_of(
    message: dict[str, Any], checks: Mapping[str, Check], *, required: bool = False
) -> list[Fault]:
    """The faults of the keys in ``checks``; null is the same as no key unless it is required."""
    faults = []
    for key, check in checks.items():
        value = message.get(key)
        if value is None and not required:
            continue
        text = check(value) if key in message else "is missing"
        if text:
            faults.append(fault(key, text))
    return faults


def unknown_keys(message: dict[str, Any], known: tuple[str, ...]) -> list[Fault]:
    """A fault for each key that is not known, with the nearest one that is."""
    return [_unknown(key, known) for key in message if key not in known]


def _unknown(key: str, known: tuple[str, ...]) -> Fault:
    from difflib import get_close_matches  # noqa: PLC0415 - most messages have no such key

    near = get_close_matches(key, known, 1) if len(key) <= _MAX_COMPARED else []
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
    found = fault(shortened(key), f"unknown key {shortened(key)!r}; {hint}")
    return {**found, "nearest": near[0]} if near else found


def _must_be(wanted: str, value: Any) -> str:
    return f"must be {wanted}, not {_KINDS.get(type(value), type(value).__name__)}"


def is_id(value: Any) -> bool:
    """Whether the value can identify a request or a call."""
    return type(value) is int or (type(value) is str and len(value) <= MAX_ID_LENGTH)


def id_fault(value: Any) -> str | None:
    """An integer of any size, or a string of at most `MAX_ID_LENGTH` characters."""
    if is_id(value):
        return None
    if type(value) is str:
        return f"must have at most {MAX_ID_LENGTH} characters, not {len(value)}"
    return _must_be("an integer or a string", value)


def string_fault(value: Any) -> str | None:
    """A string."""
    return None if type(value) is str else _must_be("a string", value)


def map_fault(value: Any) -> str | None:
    """A map."""
    return None if type(value) is dict else _must_be("a map", value)


def bool_fault(value: Any) -> str | None:
    """A boolean."""
    return None if type(value) is bool else _must_be("a boolean", value)


def deadline_fault(value: Any) -> str | None:
    """Whole milliseconds; 0 is a deadline that has passed."""
    if type(value) is not int:
        return _must_be("an integer of milliseconds", value)
    return None if value >= 0 else f"must be 0 or more milliseconds, not {value}"


def budget_fault(value: Any) -> str | None:
    """``{lm_calls?, tokens?, cost_usd?, seconds?}``; a misspelt limit would be no limit."""
    if type(value) is not dict:
        return _must_be("a map", value)
    for unknown in unknown_keys(value, _BUDGET_KEYS):
        return str(unknown["message"])
    for key, limit in value.items():
        if limit is None:
            continue
        kinds = (int,) if key in _COUNTS else (int, float)
        if type(limit) not in kinds:
            return f"{key} " + _must_be("an integer" if key in _COUNTS else "a number", limit)
        if not 0 <= limit < math.inf:
            return f"{key} must be 0 or more, not {limit}"
    return None


def lm_fault(value: Any) -> str | None:
    """A string or a map."""
    if type(value) in {str, dict}:
        return None
    return _must_be("the name of a configured LM or an LM map", value)


def trace_fault(value: Any) -> str | None:
    """A boolean or ``{traceparent: string}``."""
    if type(value) is bool:
        return None
    if type(value) is not dict:
        return _must_be('true, false or {"traceparent": string}', value)
    wrong = string_fault(value.get("traceparent"))
    return f"traceparent {wrong}" if wrong else None


def answer_error_fault(value: Any) -> str | None:
    """A string or ``{code: string, message: string}``, with whatever else it says."""
    if type(value) is str:
        return None
    if type(value) is not dict:
        return _must_be('a string or {"code": string, "message": string}', value)
    for key in ("code", "message"):
        if wrong := string_fault(value.get(key)):
            return f"{key} {wrong}"
    return None
