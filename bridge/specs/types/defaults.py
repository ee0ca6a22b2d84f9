"""Defaults: plain JSON values that fit the type of their field.

A default is sent, stored and compared as JSON, so it must survive both codecs unchanged.
"""

from __future__ import annotations

import math
from typing import Any, Final

from bridge.specs.types.model import (
    MAX_DEPTH,
    MISSING,
    Array,
    Enum,
    Map,
    Media,
    Nullable,
    Object,
    Scalar,
    TypeSpec,
    Union,
)

__all__ = ["MAX_INTEGER", "MIN_INTEGER", "kind_of", "mismatch", "why_not_plain"]

# What MessagePack carries as an integer; beyond it a number would come back as a string.
MIN_INTEGER: Final = -(2**63)
MAX_INTEGER: Final = 2**64 - 1

_SCALAR_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "string": ("a string",),
    "integer": ("an integer",),
    "float": ("a float", "an integer"),
    "boolean": ("a boolean",),
    "date": ("a string",),
    "time": ("a string",),
    "datetime": ("a string",),
    "decimal": ("a string", "an integer", "a float"),
}


def kind_of(value: Any) -> str:
    """What a wire value is, in words: "a string", "a map", "null", ..."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    for kind, word in (
        (str, "a string"),
        (int, "an integer"),
        (float, "a float"),
        (dict, "a map"),
        (list | tuple, "a list"),
        (bytes | bytearray, "bytes"),
    ):
        if isinstance(value, kind):
            return word
    return "a value of no wire type"


def why_not_plain(value: Any, depth: int = MAX_DEPTH) -> str | None:  # noqa: PLR0911 - one per kind
    """Why a value is not a JSON value that both codecs carry unchanged; None if it is."""
    if value is None or isinstance(value, bool | str):
        return None
    if isinstance(value, int):
        return None if MIN_INTEGER <= value <= MAX_INTEGER else "an integer beyond 64 bits"
    if isinstance(value, float):
        return None if math.isfinite(value) else "not a finite number"
    if not isinstance(value, list | dict):
        return f"{kind_of(value)}, which JSON cannot carry"
    if depth == 0:
        return f"nested deeper than {MAX_DEPTH}"
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        return "a map with a key that is not a string"
    items = value.values() if isinstance(value, dict) else value
    return next((why for item in items if (why := why_not_plain(item, depth - 1))), None)


def mismatch(kind: TypeSpec, value: Any) -> str | None:  # noqa: PLR0911 - one for each type
    """Why a plain value does not fit a type, in words; None if it does.

    The text of dates and of media is not looked into.
    """
    match kind:
        case Scalar("any"):
            return None
        case Scalar(name):
            return _unless(kind_of(value) in _SCALAR_KINDS[name], name, value)
        case Media():
            return _unless(isinstance(value, str | dict), kind.name, value)
        case Nullable(of):
            return None if value is None else mismatch(of, value)
        case Union(of):
            return _unless(any(mismatch(each, value) is None for each in of), "union", value)
        case Enum():
            return None if value in kind else "is not one of the enum's values"
        case Array(of):
            if not isinstance(value, list):
                return _unless(False, "array", value)
            return next((why for item in value if (why := mismatch(of, item))), None)
        case Map(of):
            if not isinstance(value, dict):
                return _unless(False, "map", value)
            return next((why for item in value.values() if (why := mismatch(of, item))), None)
        case Object():
            return _object_mismatch(kind, value)


def _unless(fits: bool, wanted: str, value: Any) -> str | None:
    return None if fits else f"is {kind_of(value)} where the type is {wanted}"


def _object_mismatch(kind: Object, value: Any) -> str | None:
    if not isinstance(value, dict):
        return _unless(False, "object", value)
    if unknown := value.keys() - {each.name for each in kind.fields}:
        return f"has fields the object does not have: {', '.join(sorted(unknown)[:3])}"
    for each in kind.fields:
        if each.name not in value:
            if each.default is MISSING:
                return f"lacks the field {each.name}"
        elif not (each.optional and value[each.name] is None) and (
            why := mismatch(each.type, value[each.name])
        ):
            return why
    return None
