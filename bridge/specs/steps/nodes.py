"""The nodes of a program's wiring: values and steps, each with its canonical wire form.

Law: a node is immutable, knows nothing about modules, and ``to_wire`` is the exact inverse of the
parser in :mod:`bridge.specs.steps.reading`. Maps are kept sorted by key, because Elixir maps have
no order: two hosts that mean the same program send equal nodes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from bridge.specs.checking import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "NAME",
    "OPERATORS",
    "REFERENCE",
    "VERBS",
    "Call",
    "Const",
    "Each",
    "Format",
    "If",
    "Let",
    "ListOf",
    "MapOf",
    "Op",
    "Output",
    "Ref",
    "Repeat",
    "Step",
    "Value",
    "find_operator",
    "iter_references",
    "record_key",
]

NAME = re.compile(r"[^\W\d][\w-]*")
REFERENCE = re.compile(rf"{NAME.pattern}(?:\.[\w-]+)*")

#: Operator -> what it takes: one value, any number of them in a list, two in a list, or its own.
OPERATORS: dict[str, str] = {
    "all": "many",
    "any": "many",
    "concat": "many",
    "contains": "two",
    "empty": "one",
    "equals": "two",
    "first": "one",
    "format": "text",
    "join": "join",
    "length": "one",
    "less": "two",
    "literal": "literal",
    "majority": "one",
    "not": "one",
}

#: Verb of a step -> the keys that may stand beside it.
VERBS: dict[str, tuple[str, ...]] = {
    "call": ("in", "as"),
    "let": (),
    "each": ("as", "do", "collect", "into", "parallel"),
    "repeat": ("do", "until"),
    "if": ("then", "else"),
    "output": (),
}


def find_operator(value: Mapping[str, Any]) -> str | None:
    """The operator if this map is an expression, else None: it is a plain map.

    A map is an expression when an operator is its only key, or when it is ``join`` with ``with``.
    A key that is nearly ``with`` counts as ``with``, so that a typo is a fault and not a map.
    """
    if len(value) == 1:
        (key,) = value
        return key if key in OPERATORS else None
    if len(value) == 2 and "join" in value:
        (other,) = (key for key in value if key != "join")
        return "join" if nearest(str(other), ["with"]) else None
    return None


def record_key(module: str) -> str:
    """Where a scope keeps a record bound by default: a key that is no name (see ``Call``)."""
    return f"${module}"


@dataclass(frozen=True, slots=True)
class Const:
    """Data without a reference in it. Never mutate ``value``: runs share it."""

    value: Any

    def children(self) -> Iterator[tuple[str, Value]]:
        """Nothing."""
        return iter(())

    def to_wire(self) -> Any:
        """The value itself; escaped where the parser would read a reference or an expression."""
        if not _reads_as_code(self.value):
            return self.value
        if isinstance(self.value, str):
            return "$" + self.value
        return {"literal": self.value}


@dataclass(frozen=True, slots=True)
class Ref:
    """``$hop.query``: a bound name, then keys and list positions."""

    parts: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Ref:
        """From ``hop.query``, which must match ``REFERENCE``."""
        return cls(tuple(text.split(".")))

    def __str__(self) -> str:
        return ".".join(self.parts)

    def children(self) -> Iterator[tuple[str, Value]]:
        """Nothing."""
        return iter(())

    def to_wire(self) -> str:
        """``"$hop.query"``."""
        return f"${self}"


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list with at least one reference or expression in it."""

    items: tuple[Value, ...]

    def children(self) -> Iterator[tuple[str, Value]]:
        """Each item with its path, e.g. ``[0]``."""
        return ((f"[{index}]", item) for index, item in enumerate(self.items))

    def to_wire(self) -> list[Any]:
        """The list."""
        return [item.to_wire() for item in self.items]


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map with at least one reference or expression in it; pairs are sorted by key."""

    pairs: tuple[tuple[str, Value], ...]

    def children(self) -> Iterator[tuple[str, Value]]:
        """Each value with its path, e.g. ``.query``."""
        return ((f".{key}", value) for key, value in self.pairs)

    def to_wire(self) -> dict[str, Any]:
        """The map."""
        return _pairs_to_wire(self.pairs)


@dataclass(frozen=True, slots=True)
class Format:
    """A text with references in braces."""

    parts: tuple[str | Ref, ...]

    def children(self) -> Iterator[tuple[str, Value]]:
        """The references."""
        return ((".format", part) for part in self.parts if isinstance(part, Ref))

    def to_wire(self) -> dict[str, Any]:
        """``{"format": "text with {question}"}``; braces of the text are doubled."""
        return {"format": "".join(_format_part(part) for part in self.parts)}


@dataclass(frozen=True, slots=True)
class Op:
    """Any other operator; ``join`` has two arguments, its list and its separator."""

    name: str
    args: tuple[Value, ...]

    def children(self) -> Iterator[tuple[str, Value]]:
        """Each argument with its path, e.g. ``.concat[0]``."""
        if self.name == "join":
            return iter(((".join", self.args[0]), (".with", self.args[1])))
        if OPERATORS[self.name] == "one":
            return iter(((f".{self.name}", self.args[0]),))
        return ((f".{self.name}[{index}]", arg) for index, arg in enumerate(self.args))

    def to_wire(self) -> dict[str, Any]:
        """E.g. ``{"concat": ["$context", "$passages"]}``."""
        args = [arg.to_wire() for arg in self.args]
        if self.name == "join":
            return {"join": args[0], "with": args[1]}
        return {self.name: args[0] if OPERATORS[self.name] == "one" else args}


Value: TypeAlias = Const | Ref | ListOf | MapOf | Format | Op


@dataclass(frozen=True, slots=True)
class Call:
    """Calls a module and binds its outputs, as a record and each field by its own name.

    ``bind`` None binds the record under the module's name, but only for references that no
    other name answers: a module ``query`` hides no input or field ``query``, and its record never
    feeds an input by name. A given ``bind`` is a name like any other, and wins over a field.
    """

    module: str
    inputs: tuple[tuple[str, Value], ...] = ()
    bind: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """``{"call", "in"?, "as"?}``."""
        wire: dict[str, Any] = {"call": self.module}
        if self.inputs:
            wire["in"] = _pairs_to_wire(self.inputs)
        if self.bind is not None:
            wire["as"] = self.bind
        return wire


@dataclass(frozen=True, slots=True)
class Let:
    """Binds names. All values are taken from before the step: maps have no order."""

    pairs: tuple[tuple[str, Value], ...]

    def to_wire(self) -> dict[str, Any]:
        """``{"let": {name: value}}``."""
        return {"let": _pairs_to_wire(self.pairs)}


@dataclass(frozen=True, slots=True)
class Each:
    """Runs steps for each item of a list.

    In order, the body's bindings go on from item to item and stay afterwards; with ``parallel``
    each item has its own copy of what is bound and only ``into`` comes out.
    """

    items: Value
    body: tuple[Step, ...]
    item: str = "item"
    collect: Value | None = None
    into: str | None = None
    parallel: bool = False

    def to_wire(self) -> dict[str, Any]:
        """``{"each", "as"?, "do", "collect"?, "into"?, "parallel"?}``."""
        wire: dict[str, Any] = {"each": self.items.to_wire(), "do": _body_to_wire(self.body)}
        if self.item != "item":
            wire["as"] = self.item
        if self.collect is not None:
            wire["collect"] = self.collect.to_wire()
            wire["into"] = self.into
        if self.parallel:
            wire["parallel"] = True
        return wire


@dataclass(frozen=True, slots=True)
class Repeat:
    """Runs steps ``times`` times (1 to 100), or until a condition holds after a pass."""

    times: int
    body: tuple[Step, ...]
    until: Value | None = None

    def to_wire(self) -> dict[str, Any]:
        """``{"repeat", "do", "until"?}``."""
        wire: dict[str, Any] = {"repeat": self.times, "do": _body_to_wire(self.body)}
        if self.until is not None:
            wire["until"] = self.until.to_wire()
        return wire


@dataclass(frozen=True, slots=True)
class If:
    """Runs one of two lists of steps."""

    condition: Value
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...] = ()

    def to_wire(self) -> dict[str, Any]:
        """``{"if", "then", "else"?}``."""
        wire: dict[str, Any] = {
            "if": self.condition.to_wire(),
            "then": _body_to_wire(self.then),
        }
        if self.otherwise:
            wire["else"] = _body_to_wire(self.otherwise)
        return wire


@dataclass(frozen=True, slots=True)
class Output:
    """Ends the program with these fields."""

    pairs: tuple[tuple[str, Value], ...]

    def to_wire(self) -> dict[str, Any]:
        """``{"output": {field: value}}``."""
        return {"output": _pairs_to_wire(self.pairs)}


Step: TypeAlias = Call | Let | Each | Repeat | If | Output


def iter_references(value: Value, path: str) -> Iterator[tuple[str, Ref]]:
    """Every reference in a value with its path, in order."""
    if isinstance(value, Ref):
        yield path, value
    for suffix, child in value.children():
        yield from iter_references(child, path + suffix)


def _reads_as_code(value: Any) -> bool:
    if isinstance(value, str):
        return value.startswith("$")
    if isinstance(value, list):
        return any(map(_reads_as_code, value))
    if isinstance(value, dict):
        return find_operator(value) is not None or any(map(_reads_as_code, value.values()))
    return False


def _format_part(part: str | Ref) -> str:
    if isinstance(part, Ref):
        return f"{{{part}}}"
    return part.replace("{", "{{").replace("}", "}}")


def _pairs_to_wire(pairs: tuple[tuple[str, Value], ...]) -> dict[str, Any]:
    return {key: value.to_wire() for key, value in pairs}


def _body_to_wire(body: tuple[Step, ...]) -> list[Any]:
    return [step.to_wire() for step in body]
