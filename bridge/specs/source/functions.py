"""Source that is one function, a metric or a reward: read, and never run, here.

It may also be the body of one, with `return`, or nothing but an expression.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from bridge.specs.checking import Args, checked, nearest
from bridge.specs.source.names import names_of
from bridge.specs.source.outputs import returns_of
from bridge.specs.source.reading import Fault, fault_at, language_faults, parse_source, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "METRIC",
    "REWARD",
    "CodeSpec",
    "Definition",
    "FunctionSource",
    "Kind",
    "check_function",
    "parse_code",
    "unbound_faults",
]

Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Kind:
    """What a function is for.

    Attributes:
        name: what the host calls it; also the name of the function that is meant, of several.
        parameters: what it is called with, in order.
        fewest: how many of them it must take; the others are None.
    """

    name: str
    parameters: tuple[str, ...]
    fewest: int


METRIC = Kind("metric", ("example", "prediction", "trace", "pred_name", "pred_trace"), 2)
REWARD = Kind("reward", ("inputs", "prediction"), 2)


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """A function's source, checked.

    Attributes:
        text: as it came.
        kind: what it is for.
        name: the function that is called; None if the source is a body.
        takes: how many of the kind's parameters it takes.
        is_async: whether it is awaited.
    """

    text: str
    kind: Kind
    name: str | None
    takes: int
    is_async: bool


def check_function(text: str, kind: Kind, path: str) -> FunctionSource:
    """Source that is a function of this kind, or the body of one.

    Raises:
        ProgramError: with every fault, its line and column, and what would be right.
    """
    tree = parse_source(text, path)
    found = _main(tree, kind.name)
    faults = [*language_faults(tree), *unbound_faults(tree, () if found else kind.parameters)]
    takes = kind.fewest
    wanted = ", ".join(kind.parameters[: kind.fewest])
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Lambda):
        hint = f"write what it gives, without `lambda`, or `def {kind.name}({wanted})`"
        faults.append(fault_at(last, "nobody calls this function", hint))
    elif found is None:
        gives = returns_of(tree.body) or (tree.body and isinstance(tree.body[-1], ast.Expr))
        if not gives:
            hint = f"define `def {kind.name}({wanted})`, or `return` the score"
            faults.append(fault_at(tree.body[-1] if tree.body else tree, "gives nothing", hint))
    else:
        takes, fault = _taken(found, kind)
        faults += [] if fault is None else [fault]
    if faults:
        raise refusal(faults, text, path)
    is_async = isinstance(found, ast.AsyncFunctionDef)
    return FunctionSource(text, kind, found.name if found else None, takes, is_async)


def _main(tree: ast.Module, name: str) -> Definition | None:
    """The function that is meant: the one of that name, or the last; None in a body."""
    if returns_of(tree.body):
        return None
    functions = [
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    if (
        tree.body
        and isinstance(tree.body[-1], ast.Expr)
        and not isinstance(tree.body[-1].value, ast.Constant)
    ):
        return None
    named = [node for node in functions if node.name == name] or functions
    return named[-1] if named else None


def _taken(node: Definition, kind: Kind) -> tuple[int, Fault | None]:
    arguments = node.args
    places = [*arguments.posonlyargs, *arguments.args]
    required = len(places) - len(arguments.defaults)
    most = len(kind.parameters)
    wanted = ", ".join(kind.parameters[: kind.fewest])
    keyword_only = [
        each
        for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is None
    ]
    if keyword_only:
        reason = f"a {kind.name} is called with ({wanted}), and nothing gives this"
        return 0, fault_at(keyword_only[0], reason)
    if arguments.vararg is not None:
        return most, None
    if len(places) < kind.fewest or required > most:
        count = len(places)
        reason = f"a {kind.name} is called with ({wanted}), and `{node.name}` takes {count}"
        return 0, fault_at(node, reason, f"write `def {node.name}({wanted})`")
    return min(len(places), most), None


def unbound_faults(tree: ast.Module, given: Sequence[str]) -> Iterator[Fault]:
    """Names that nobody binds, where nothing but `given` comes from outside."""
    names = names_of(tree, given)
    for name, node in names.lacking.items():
        yield fault_at(node, f"the sandbox's Python has no `{name}`")
    for name, node in names.read.items():
        known = {*names.bound, *given}
        close = nearest(name, known)
        hint = f"did you mean {close!r}?" if close else None
        if hint is None and given:
            hint = f"there are {', '.join(given)}"
        yield fault_at(node, f"nothing is bound under {name!r}", hint, close)


# Metrics and rewards on the wire


class _CodeArgs(Args):
    code: str
    name: str | None = None
    threshold: Annotated[float, Field(ge=0)] | None = None


@dataclass(frozen=True, slots=True)
class CodeSpec:
    """``{"code": source, "threshold"?}``: a metric or a reward in source."""

    function: FunctionSource
    threshold: float | None = None

    @property
    def name(self) -> str:
        """What it is called where people read it."""
        return self.function.name or self.function.kind.name

    def to_wire(self) -> dict[str, Any]:
        """As it came."""
        wire: dict[str, Any] = {"code": self.function.text}
        return wire if self.threshold is None else {**wire, "threshold": self.threshold}


def parse_code(value: Any, kind: Kind, path: str) -> CodeSpec:
    """The map of a metric or reward that has `code`.

    Raises:
        InvalidArgs: the map is not right.
        ProgramError: the source is not.
    """
    args = checked(_CodeArgs, value, path)
    return CodeSpec(check_function(args.code, kind, f"{path}.code"), args.threshold)
