"""Given source, read but never run: its syntax tree, and what the sandbox's Python has not.

Law: nothing here executes source, and no source can harm who reads it: its size, its nesting and
the number of its faults are bounded.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bridge.specs.checking import nearest
from bridge.specs.source.language import MODULES
from protocol.errors import ProgramError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "MOST_SOURCE",
    "Fault",
    "excerpt",
    "fault_at",
    "language_faults",
    "parse_source",
    "refusal",
]

MOST_SOURCE = 64 * 1024
"""Characters of one piece of source: it is parsed when it is created, and again on each run."""

DEEPEST = 60
"""Expressions and blocks within one another; more is no program that a person wrote."""

MOST_FAULTS = 20


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, at a place in the source; line and column count from 1."""

    line: int
    column: int
    message: str
    hint: str | None = None
    nearest: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """``{line, column, message, hint?, nearest?}``."""
        wire = {"line": self.line, "column": self.column, "message": self.message}
        more = {"hint": self.hint, "nearest": self.nearest}
        return {**wire, **{key: item for key, item in more.items() if item is not None}}


def fault_at(
    node: ast.AST, message: str, hint: str | None = None, nearest: str | None = None
) -> Fault:
    """A fault where a node of the tree stands."""
    line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
    return Fault(line, column + 1, message, hint, nearest)


def refusal(faults: Iterable[Fault], text: str, name: str) -> ProgramError:
    """The error that lists these faults; its message is the first one, as a compiler writes it."""
    ordered = sorted(set(faults), key=lambda fault: (fault.line, fault.column, fault.message))
    first = ordered[0]
    message = f"{name}:{first.line}:{first.column}: {first.message}"
    if first.hint:
        message += f"; {first.hint}"
    if len(ordered) > 1:
        message += f" (and {len(ordered) - 1} more)"
    return ProgramError(
        message,
        path=name,
        line=first.line,
        column=first.column,
        hint=first.hint,
        excerpt=excerpt(text, first.line, first.column),
        faults=[fault.to_wire() for fault in ordered[:MOST_FAULTS]],
    )


def excerpt(text: str, line: int | None, column: int | None) -> str | None:
    """The line of source and a mark under the column; None where that is not known."""
    lines = text.splitlines()
    if line is None or not 1 <= line <= len(lines):
        return None
    shown = lines[line - 1][:200]
    return shown if column is None else f"{shown}\n{' ' * min(column - 1, 200)}^"


def parse_source(text: str, name: str) -> ast.Module:
    """The syntax tree of source.

    Args:
        text: the source.
        name: what it is called in errors: the path of where it stood.

    Raises:
        ProgramError: it is no Python, or too large, or nested too deeply.
    """
    if len(text) > MOST_SOURCE:
        raise ProgramError(f"{name}: {len(text)} characters; source has at most {MOST_SOURCE}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, name)
    except SyntaxError as error:
        line, column = error.lineno or 1, max(1, error.offset or 1)
        said = (error.msg or "no Python").strip().removeprefix("invalid syntax")
        why = f"invalid syntax: {said.lstrip('. ')}" if said else "invalid syntax"
        raise refusal([Fault(line, column, why)], text, name) from None
    except (RecursionError, MemoryError, ValueError) as error:
        why = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise ProgramError(f"{name}: cannot be read: {why}", path=name) from None
    if _depth(tree) > DEEPEST:
        raise ProgramError(f"{name}: is nested deeper than {DEEPEST} levels", path=name)
    return tree


def _depth(tree: ast.AST) -> int:
    """How deep the tree is; without recursion, which is what it guards."""
    depth, level = 0, [tree]
    while level and depth <= DEEPEST:
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        depth += 1
    return depth


_LACKS: dict[type[ast.AST], tuple[str, str | None]] = {
    ast.Yield: ("the sandbox's Python has no `yield`", "build a list and return it"),
    ast.YieldFrom: ("the sandbox's Python has no `yield from`", "build a list and return it"),
    ast.Delete: ("the sandbox's Python has no `del`", "leave it, or use `pop`"),
    ast.AsyncFor: ("the sandbox's Python has no `async for`", "use `for` with `await` in it"),
    ast.AsyncWith: ("the sandbox's Python has no `async with`", None),
    ast.TryStar: ("the sandbox's Python has no `except*`", "use `except`"),
}

_TypeAlias: Any = getattr(ast, "TypeAlias", None)
if _TypeAlias is not None:
    _LACKS[_TypeAlias] = ("the sandbox's Python has no `type` statement", None)


def language_faults(tree: ast.Module) -> Iterator[Fault]:
    """What this source uses and the sandbox's Python has not, each in a plain sentence."""
    for node in ast.walk(tree):
        lack = _LACKS.get(type(node))
        if lack is not None:
            yield fault_at(node, *lack)
        elif isinstance(node, ast.ClassDef):
            yield from _class_faults(node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from _import_faults(node, alias.name)
        elif isinstance(node, ast.ImportFrom):
            yield from _import_faults(node, node.module or ".")
            if any(alias.name == "*" for alias in node.names):
                yield fault_at(node, "`from … import *` is not there: name what you need")
        elif isinstance(node, ast.comprehension) and node.is_async:
            yield fault_at(node.iter, "the sandbox's Python has no asynchronous comprehensions")


def _class_faults(node: ast.ClassDef) -> Iterator[Fault]:
    if node.bases or node.keywords:
        yield fault_at(
            node,
            f"class {node.name!r} inherits, and the sandbox's classes cannot",
            "raise `ValueError('…')` instead of an exception of your own"
            if any("Error" in ast.unparse(b) or "Exc" in ast.unparse(b) for b in node.bases)
            else None,
        )
    for item in node.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.decorator_list:
            yield fault_at(item.decorator_list[0], "methods have no decorators in the sandbox")


def _import_faults(node: ast.stmt, name: str) -> Iterator[Fault]:
    top = name.partition(".")[0]
    if top == "dspy":
        yield fault_at(
            node,
            "`dspy` cannot be imported here",
            "call modules as `self.<name>(…)`; `dspy.Prediction(…)` is there without an import",
        )
    elif top not in MODULES:
        close = nearest(top, MODULES)
        hint = f"did you mean {close!r}?" if close else f"there are {', '.join(sorted(MODULES))}"
        yield fault_at(node, f"the sandbox has no module {top!r}", hint, close)
