"""DSPy's values as plain ones: what the codecs carry, and nothing that points back into DSPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from protocol.errors import ProgramError

__all__ = ["plain", "plain_fields"]

DEEPEST = 200
"""Levels of nesting that an output may have; an LM's JSON can be a bomb."""

_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})


def plain_fields(prediction: Any) -> dict[str, Any]:
    """A prediction's fields by name, in plain values."""
    if prediction is None:
        raise ProgramError("the program returned nothing")
    # DSPy hides fields whose names start with dspy_; a host's output may be called so.
    return {name: plain(value) for name, value in prediction.items(include_dspy=True)}


def plain(value: Any, depth: int = 0) -> Any:
    """One value in maps, lists, strings, numbers, booleans, bytes and None.

    Images, audio and files become the maps that inputs take them as; `Code` and `Reasoning`
    become text; what has no plain form becomes its text.

    Raises:
        ProgramError: the value is nested deeper than `DEEPEST` levels.
    """
    if type(value) in _SCALARS:
        return value
    if depth > DEEPEST:
        raise ProgramError(f"a value is nested deeper than {DEEPEST} levels")
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, dspy.Code | dspy.Reasoning):
        return value.format()
    fields = _fields_of(value)
    if fields is not None:
        return {str(key): plain(item, depth + 1) for key, item in fields.items()}
    return _single(value)


def _fields_of(value: Any) -> Mapping[Any, Any] | None:
    """What a value of named parts holds; None for one that has none."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, dspy.Example):
        return dict(value.items())
    if isinstance(value, BaseModel):
        # By attribute: DSPy's media serialise themselves to text between markers.
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        if isinstance(value, dspy.Type):
            return {name: item for name, item in fields.items() if item is not None}
        return fields
    return None


def _single(value: Any) -> Any:
    """A date, a number of another library, an enum's member: as JSON has it, else its text."""
    try:
        return to_jsonable_python(value, bytes_mode="base64", fallback=str)
    except (PydanticSerializationError, ValueError, RecursionError):
        return str(value)
