"""Evaluates the values of a program's wiring: references, expressions, conditions.

Law: pure, and total but for ``EvaluationError``; what it builds is bounded, whatever a loop
doubles. Data is shared, never changed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from dspy.evaluate import normalize_text

from bridge.specs.steps.nodes import Const, Format, ListOf, MapOf, Op, Ref, Value, record_key

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_ELEMENTS", "MAX_TEXT", "EvaluationError", "evaluate", "is_true", "kind_of"]

MAX_TEXT = 16 * 1024 * 1024
"""Characters of one text, and of all texts of one built list or map."""

MAX_ELEMENTS = 1_000_000
"""Elements of one list, and of everything in one built list or map."""


class EvaluationError(Exception):
    """A value cannot be had; the text is the reason, the caller knows the path."""


def evaluate(value: Value, scope: Mapping[str, Any]) -> Any:
    """The value under these bindings; raises EvaluationError."""
    match value:
        case Const():
            # Every run gets its own: a module may keep and change what it was given.
            return deepcopy(value.value) if isinstance(value.value, list | dict) else value.value
        case Ref():
            return _look_up(value, scope)
        case ListOf():
            return _bounded([evaluate(item, scope) for item in value.items])
        case MapOf():
            return _bounded({key: evaluate(item, scope) for key, item in value.pairs})
        case Format():
            parts = [
                part if isinstance(part, str) else _text(_look_up(part, scope))
                for part in value.parts
            ]
            return _glue(parts, "")
        case Op():
            return _operate(value, scope)


def is_true(value: Any) -> bool:
    """Whether a condition holds: not empty, not zero, not null, not false."""
    return bool(value)


def _look_up(ref: Ref, scope: Mapping[str, Any]) -> Any:
    root, *rest = ref.parts
    key = root if root in scope else record_key(root)
    if key not in scope:
        raise EvaluationError(f"nothing is bound under ${root}{_hint(root, scope)}")
    value, seen = scope[key], f"${root}"
    for part in rest:
        if isinstance(value, Mapping):
            if part not in value:
                raise EvaluationError(f"{seen} has no key {part!r}{_hint(part, value)}")
            value = value[part]
        elif isinstance(value, list | tuple):
            if not part.isdecimal() or int(part) >= len(value):
                raise EvaluationError(f"{seen} is a list of {len(value)}, it has no {part!r}")
            value = value[int(part)]
        else:
            raise EvaluationError(f"{seen} is {kind_of(value)}, it has no {part!r}")
        seen += f".{part}"
    return value


def _operate(operation: Op, scope: Mapping[str, Any]) -> Any:
    values = (evaluate(arg, scope) for arg in operation.args)
    # These two look no further than they must, so a later condition may rely on an earlier one.
    if operation.name == "all":
        return all(map(is_true, values))
    if operation.name == "any":
        return any(map(is_true, values))
    return _OPERATIONS[operation.name](*values)


def _concat(*args: Any) -> Any:
    if all(isinstance(arg, str) for arg in args):
        return _glue(list(args), "")
    if all(isinstance(arg, list | tuple) for arg in args):
        if sum(map(len, args)) > MAX_ELEMENTS:
            raise EvaluationError(f"the list grows over {MAX_ELEMENTS} elements")
        return _bounded([item for arg in args for item in arg])
    kinds = ", ".join(kind_of(arg) for arg in args[:8])
    raise EvaluationError(f"concat joins lists, or texts; these are {kinds}")


def _join(items: Any, separator: Any) -> str:
    if not isinstance(items, list | tuple):
        raise EvaluationError(f"join takes a list, not {kind_of(items)}")
    if not isinstance(separator, str):
        raise EvaluationError(f"the separator of join is a text, not {kind_of(separator)}")
    return _glue([_text(item) for item in items], separator)


def _first(items: Any) -> Any:
    if not isinstance(items, list | tuple):
        raise EvaluationError(f"first takes a list, not {kind_of(items)}")
    if not items:
        raise EvaluationError("first of an empty list")
    return items[0]


def _majority(values: Any) -> Any:
    """The value that most agree on, as the first of them has it; of equals the earliest.

    What `dspy.majority` gives: texts agree when they are the same words, and null or a text
    without words has no vote unless there is nothing else.
    """
    if not isinstance(values, list | tuple):
        raise EvaluationError(f"majority takes a list, not {kind_of(values)}")
    if not values:
        raise EvaluationError("majority of an empty list")
    ballots = [_ballot(value) for value in values]
    votes = Counter([ballot for ballot in ballots if ballot is not None])
    return values[ballots.index(max(votes, key=votes.__getitem__)) if votes else 0]


def _ballot(value: Any) -> tuple[str, Any] | None:
    """Equal for values that agree; None for one that says nothing."""
    if isinstance(value, str):
        words = normalize_text(value)
        return ("a text", words) if words else None
    if value is None:
        return None
    # In JSON true is not 1, but 1 is 1.0.
    if isinstance(value, bool) or _is_number(value):
        return (kind_of(value), value)
    try:
        return ("data", json.dumps(value, sort_keys=True))
    except (TypeError, ValueError):
        raise EvaluationError(f"{kind_of(value)} cannot be voted on") from None


def _length(value: Any) -> int:
    if isinstance(value, str | list | tuple | Mapping):
        return len(value)
    raise EvaluationError(f"length takes a list, a map or a text, not {kind_of(value)}")


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | tuple | Mapping) and len(value) == 0)


def _equals(one: Any, other: Any) -> bool:
    # In JSON true is not 1.
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _less(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one < other
    if _is_number(one) and _is_number(other):
        return bool(one < other)
    raise EvaluationError(
        f"less compares numbers, or texts, not {kind_of(one)} and {kind_of(other)}"
    )


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(whole, str) and isinstance(part, str):
        return part in whole
    if isinstance(whole, list | tuple):
        return any(_equals(item, part) for item in whole)
    if isinstance(whole, Mapping) and isinstance(part, str):
        return part in whole
    raise EvaluationError(f"contains cannot look for {kind_of(part)} in {kind_of(whole)}")


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "concat": _concat,
    "contains": _contains,
    "empty": _empty,
    "equals": _equals,
    "first": _first,
    "join": _join,
    "length": _length,
    "less": _less,
    "majority": _majority,
    "not": lambda value: not is_true(value),
}


def _text(value: Any) -> str:
    """As a prompt would show it: texts as they are, null as nothing, the rest as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        raise EvaluationError(f"{kind_of(value)} cannot stand in a text") from None


def _glue(parts: list[str], separator: str) -> str:
    if sum(map(len, parts)) + len(separator) * len(parts) > MAX_TEXT:
        raise EvaluationError(f"the text grows over {MAX_TEXT} characters")
    return separator.join(parts)


def _bounded(value: Any) -> Any:
    """The value; a loop that puts a list twice into itself is stopped here."""
    elements = characters = 0
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            characters += len(item)
        elif isinstance(item, list | tuple | Mapping):
            elements += len(item)
            if elements > MAX_ELEMENTS:
                raise EvaluationError(f"the value grows over {MAX_ELEMENTS} elements")
            pending.extend(item.values() if isinstance(item, Mapping) else item)
    if characters > MAX_TEXT:
        raise EvaluationError(f"the value grows over {MAX_TEXT} characters")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def kind_of(value: Any) -> str:
    """What a value is, in the words of the wire: ``a text``, ``a map``, ``null``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a text"
    if _is_number(value):
        return "a number"
    if isinstance(value, Mapping):
        return "a map"
    return "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"


def _hint(name: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(name, [key.removeprefix("$") for key in known], n=1)
    return f"; did you mean {close[0]}?" if close else ""
