"""What fields a program's source gives, where its text says so: None means that it does not."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Fields", "changed_in", "fields_of", "outputs_of", "returns_of"]

Fields = tuple[str, ...] | None


class _HasOutputs(Protocol):
    @property
    def outputs(self) -> Fields: ...

    @property
    def is_tool(self) -> bool: ...


def returns_of(body: Sequence[ast.stmt]) -> list[ast.expr | None]:
    """What the `return`s of a body give, those of functions in it left out."""
    found: list[ast.expr | None] = []
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Return):
            found.append(node.value)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.expr):
            waiting += ast.iter_child_nodes(node)
    return found


def fields_of(
    node: ast.expr | None, parts: Mapping[str, _HasOutputs], *, literal: bool = True
) -> Fields:
    """The fields of a map that is written out, of a `Prediction(…)`, or of a module's answer."""
    if isinstance(node, ast.Await):
        node = node.value
    if isinstance(node, ast.Dict) and literal:
        keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
        texts = tuple(key for key in keys if isinstance(key, str))
        return texts if len(texts) == len(node.keys) else None
    if not isinstance(node, ast.Call):
        return None
    called = node.func
    if isinstance(called, ast.Attribute) and called.attr == "acall":
        called = called.value
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
        if called.value.id == "self":
            part = parts.get(called.attr)
            return None if part is None or part.is_tool else part.outputs
        if (called.value.id, called.attr) != ("dspy", "Prediction"):
            return None
    elif not (isinstance(called, ast.Name) and called.id == "Prediction"):
        return None
    names = tuple(keyword.arg for keyword in node.keywords if keyword.arg is not None)
    return names if literal and len(names) == len(node.keywords) and not node.args else None


def outputs_of(
    ends: Sequence[ast.expr | None],
    kinds: Mapping[str, Fields],
    parts: Mapping[str, _HasOutputs],
) -> Fields:
    """The fields that every end of the program gives, in the order of the first.

    Args:
        ends: what is returned, or bound to `result`.
        kinds: the fields of names of which they are known.
        parts: what `self` has.
    """
    found: list[tuple[str, ...]] = []
    for end in ends:
        fields = kinds.get(end.id) if isinstance(end, ast.Name) else fields_of(end, parts)
        if fields is None:
            return None
        found.append(fields)
    if not found:
        return None
    first, *others = found
    return tuple(name for name in first if all(name in other for other in others))


def changed_in(tree: ast.Module) -> set[str]:
    """Names whose value gets more fields after it was bound, or may."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Subscript | ast.Attribute):
            continue
        stored = isinstance(node.ctx, ast.Store)
        changes = isinstance(node, ast.Attribute) and node.attr in {"update", "setdefault", "pop"}
        if (stored or changes) and isinstance(node.value, ast.Name):
            found.add(node.value.id)
    return found
