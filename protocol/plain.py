"""Any Python value to the values that a codec can write: the slow way of `protocol.codecs.encode`.

The law of this file: every rule of replacement stands here, once, so both codecs carry the same.
Whatever has no form on the wire is a ValueError that names its path, never a guess.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Any, NamedTuple

__all__ = [
    "MAX_DEPTH",
    "PARSER_ERRORS",
    "Encoded",
    "Plain",
    "base64_of_bytes",
    "shortened",
    "too_deep",
]

MAX_DEPTH = 254
"""Maps and lists within each other, the message's own map included, in both directions.

Just what orjson writes. Python's own stack is about 1,000 calls, and what walks a message
recursively (validation, `repr`) must come through.
"""

_MAX_NOTES = 20
"""A result of a million NaNs is one fault, not a million warnings."""

_Where = tuple["_Where", str] | None
"""A path as a chain to its parent: spelt out only when there is something to say about it."""

_SCALARS = frozenset([str, int, float, bool, type(None)])

# What a subclass holds, by the base's own method: the subclass may show itself differently.
_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
)

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

PARSER_ERRORS = (ValueError, TypeError, OverflowError, RecursionError, MemoryError)
"""All that parsers raise on hostile bytes (StackError, ExtraData and JSONDecodeError are
ValueErrors; MemoryError comes of an array header that lies about its length)."""


class Encoded(NamedTuple):
    """A payload, and what had to be replaced in it: ``"result.score: NaN became null"``."""

    payload: bytes
    notes: tuple[str, ...]


class Plain:
    """Copies a message into values that one codec can write, noting what it had to replace.

    Args:
        json: whether for JSON (no NaN, no bytes) or for MessagePack (no integer beyond 64 bits).
    """

    __slots__ = ("_json", "_notes", "_replaced")

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._notes: list[str] = []
        self._replaced = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What the copies made so far lost, as ``"result.score: NaN became null"``."""
        unnamed = self._replaced - len(self._notes)
        return (*self._notes, *([f"{unnamed} more became null"] if unnamed else []))

    def copy(self, value: Any, where: _Where = None, depth: int = 1) -> Any:
        """The value in plain maps, lists and scalars.

        Raises:
            ValueError: it has no form on the wire, or is deeper than `MAX_DEPTH`.
        """
        kind = type(value)
        if kind in _SCALARS:
            return self._scalar(value, kind, where)
        if isinstance(value, dict | Mapping):
            _check_depth(where, depth)
            return {
                (text := _key(key)): self.copy(item, (where, text), depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, AbstractSet):
            value = _ordered(value)
        if isinstance(value, list | tuple):
            _check_depth(where, depth)
            return [
                self.copy(item, (where, str(index)), depth + 1) for index, item in enumerate(value)
            ]
        return self._leaf(value, where)

    def _scalar(self, value: Any, kind: type, where: _Where) -> Any:
        if kind is str:
            return _mend(value)
        if kind is float and self._json and not math.isfinite(value):
            return self._null(value, where)
        if kind is int and not self._json and not -(2**63) <= value < 2**64:
            return str(value)
        return value

    def _leaf(self, value: Any, where: _Where) -> Any:
        if isinstance(value, bytes | bytearray | memoryview):
            return base64_of_bytes(value) if self._json else bytes(value)
        if isinstance(value, Enum):
            return self.copy(value.value, where)
        text = _text_of(value)
        if text is not None:
            return text
        for base, content in _BASES:
            if isinstance(value, base):
                return self._scalar(content(value), base, where)
        raise ValueError(
            f"{_spell(where)}: a value of type {type(value).__name__} has no form on the wire"
        )

    def _null(self, value: float, where: _Where) -> None:
        self._replaced += 1
        if len(self._notes) < _MAX_NOTES:
            name = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
            self._notes.append(f"{_spell(where)}: {name} became null")


def base64_of_bytes(value: Any) -> str:
    """Bytes as JSON carries them.

    Raises:
        TypeError: not bytes.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        from base64 import b64encode  # noqa: PLC0415 - the first answer has no bytes

        return b64encode(bytes(value)).decode("ascii")
    raise TypeError


def shortened(key: Any) -> str:
    """A map key for an error text, at most 40 characters."""
    text = key if isinstance(key, str) else repr(key)
    return text if len(text) <= 40 else text[:39] + "…"


def too_deep(where: str) -> str:
    """The text of the one fault that both directions share."""
    return f"{where}: maps and lists are nested deeper than {MAX_DEPTH} levels"


def _mend(text: str) -> str:
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def _key(key: Any) -> str:
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, str):
        return _mend(str.__str__(key))
    if key is None or isinstance(key, bool):
        return "null" if key is None else str(key).lower()
    return _mend(_text_of(key) or str(key))


def _text_of(value: Any) -> str | None:
    """Dates and times in ISO 8601, a UUID in its usual form; None for anything else."""
    # Not with the file: the first answer has none of them, and each is a millisecond to import.
    from datetime import date, time  # noqa: PLC0415
    from uuid import UUID  # noqa: PLC0415

    if isinstance(value, date | time):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else None


def _ordered(items: AbstractSet[Any]) -> list[Any]:
    try:
        return sorted(items)
    except TypeError:  # of several types: any order will do that is the same every time
        return sorted(items, key=lambda item: (type(item).__name__, repr(item)))


def _check_depth(where: _Where, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(too_deep(_spell(where).partition(".")[0]))


def _spell(where: _Where) -> str:
    parts: list[str] = []
    while where is not None:
        where, part = where
        parts.append(shortened(part))
    return ".".join(reversed(parts)) or "the message"
