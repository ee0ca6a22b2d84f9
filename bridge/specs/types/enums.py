"""Enum values and code languages, checked once for all the ways they can be spelt."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from bridge.specs.types.defaults import MAX_INTEGER, MIN_INTEGER, kind_of
from bridge.specs.types.model import MAX_ENUM_VALUES, Enum, TypeSpec, nullable
from bridge.specs.types.spellings import clipped
from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["enum_of", "language_of"]

MAX_ENUM_TEXT: Final = 1_000
"""Characters of one enum value: the LM has to repeat it letter by letter."""

_LANGUAGE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+#.-]{0,31}")


def enum_of(values: Sequence[Any], path: str) -> TypeSpec:
    """The enum of these values, each once; with null among them, a nullable enum.

    Raises:
        InvalidArgs: no values, too many, or one that is no string, integer or boolean.
    """
    if len(values) > MAX_ENUM_VALUES:
        raise InvalidArgs.at(path, f"an enum has at most {MAX_ENUM_VALUES} values")
    kept: dict[tuple[str, Any], str | int | bool] = {}
    for value in values:
        if value is None:
            continue
        plain = _plain(value, path)
        kept.setdefault((type(plain).__name__, plain), plain)
    if not kept:
        raise InvalidArgs.at(path, 'an enum needs values: {"enum": ["a", "b"]}')
    found = Enum(tuple(kept.values()))
    return nullable(found) if None in values else found


def _plain(value: Any, path: str) -> str | int | bool:
    if isinstance(value, str):
        if len(value) > MAX_ENUM_TEXT:
            raise InvalidArgs.at(path, f"an enum value is longer than {MAX_ENUM_TEXT} characters")
        return str(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and MIN_INTEGER <= value <= MAX_INTEGER:
        return value
    raise InvalidArgs.at(
        path, f"an enum value is a string, an integer or a boolean, not {kind_of(value)}"
    )


def language_of(text: Any, path: str) -> str:
    """A code language such as ``python`` or ``c++``; it becomes part of the prompt."""
    if isinstance(text, str) and _LANGUAGE.fullmatch(text):
        return str(text)
    shown = clipped(text) if isinstance(text, str) else kind_of(text)
    raise InvalidArgs.at(path, f'{shown} is no code language: {{"code": "python"}}')
