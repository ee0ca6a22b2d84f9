"""What can be known of a program's source before it runs: that its calls fit its modules.

Two ways of writing are read. In the seed's, inputs are names, and what is bound to `result` or
returned are the outputs. In DSPy's there is a function `forward(self, question, k=3)`.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from bridge.specs.checking import nearest
from bridge.specs.source.names import Names, names_of
from bridge.specs.source.outputs import (
    Fields,
    changed_in,
    fields_of,
    outputs_of,
    returns_of,
)
from bridge.specs.source.reading import Fault, fault_at, language_faults, parse_source, refusal
from bridge.specs.steps.check import ModuleShape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["GIVEN", "Part", "ProgramSource", "check_program"]

GIVEN = "_given"
"""The name under which a program in DSPy's way of writing finds all its inputs."""


@dataclass(frozen=True, slots=True)
class Part:
    """What source calls as `self.<name>`: a module, or a tool.

    Attributes:
        name: in the program.
        inputs: name -> whether it is required, in order.
        outputs: by name; None where they are not known. A tool's answer is a value of any kind.
        is_tool: whether it is a tool.
    """

    name: str
    inputs: Mapping[str, bool]
    outputs: Fields
    is_tool: bool = False

    @property
    def positional(self) -> int:
        """How many arguments may come without a name: all of a tool's, the only one of a module."""
        return len(self.inputs) if self.is_tool or len(self.inputs) == 1 else 0


@dataclass(frozen=True, slots=True)
class ProgramSource:
    """A program's source, checked, and what there is to know of it.

    Attributes:
        text: as it came.
        parts: what it may call.
        shape: its inputs, and its outputs where they can be read from it.
        last_line: what stands behind it when it runs, and gives the result.
        binds_result: whether the result is what is bound to `result` in the end.
    """

    text: str
    parts: tuple[Part, ...]
    shape: ModuleShape
    last_line: str
    binds_result: bool


def check_program(text: str, parts: Sequence[Part], path: str = "forward_fn") -> ProgramSource:
    """Source over these parts.

    Raises:
        ProgramError: with every fault, its line and column, and what would be right.
    """
    tree = parse_source(text, path)
    named = {part.name: part for part in parts}
    names = names_of(tree)
    faults = [*language_faults(tree), *_name_faults(names, named, tree)]
    forward = _forward(tree)
    if forward is None:
        inputs = dict.fromkeys(names.read, True)
        binds_result = "result" in names.bound
        ends = returns_of(tree.body)
        if binds_result:
            changed = "result" in changed_in(tree)
            ends += [None] if changed else names.values.get("result", [])
        if not ends:
            last = tree.body[-1] if tree.body else tree
            hint = "bind `result`, or `return` a map such as {'answer': …}"
            faults.append(fault_at(last, "the source gives nothing back", hint))
    else:
        inputs, more = _parameters(forward)
        faults += more
        ends, binds_result = returns_of(forward.body), False
        # What holds which module's answer is known of its own names.
        names = names_of(ast.Module(forward.body, []), {*names.bound, *inputs})
    calls = _Calls(named, names, _own_attributes(tree), changed_in(tree))
    faults += [*calls.faults_of(tree), *_end_faults(ends)]
    if faults:
        raise refusal(faults, text, path)
    outputs = outputs_of(ends, calls.kinds(literal=True), named)
    shape = ModuleShape(inputs, outputs or (), open=outputs is None)
    return ProgramSource(text, tuple(parts), shape, _last_line(forward, binds_result), binds_result)


def _last_line(
    forward: ast.FunctionDef | ast.AsyncFunctionDef | None,
    binds_result: bool,
) -> str:
    if forward is None:
        return "return result" if binds_result else ""
    waits = "await " if isinstance(forward, ast.AsyncFunctionDef) else ""
    return f"return {waits}{forward.name}(self, **{GIVEN})"


def _forward(tree: ast.Module) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """`def forward(self, …)`, if that is how the program is written."""
    for node in tree.body:
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name in {"forward", "aforward"}
            and [each.arg for each in [*node.args.posonlyargs, *node.args.args]][:1] == ["self"]
        ):
            return node
    return None


def _parameters(
    node: ast.FunctionDef | ast.AsyncFunctionDef,
) -> tuple[dict[str, bool], list[Fault]]:
    arguments = node.args
    places = [*arguments.posonlyargs, *arguments.args]
    required = len(places) - len(arguments.defaults)
    inputs = {each.arg: index < required for index, each in enumerate(places)}
    del inputs["self"]
    for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        inputs[each.arg] = default is None
    spread = arguments.vararg or arguments.kwarg
    if spread is None:
        return inputs, []
    reason = f"`{node.name}` names its inputs: a program has no `*{spread.arg}`"
    return inputs, [fault_at(spread, reason)]


def _name_faults(names: Names, parts: Mapping[str, Part], tree: ast.Module) -> Iterator[Fault]:
    """Names that cannot be inputs; they are taken out of `names.read`."""
    forward = _forward(tree)
    for name, node in names.lacking.items():
        yield fault_at(node, f"the sandbox's Python has no `{name}`")
    for name, node in list(names.read.items()):
        if name in parts and (name in names.called or forward is not None):
            yield fault_at(
                node,
                f"{name!r} is a module of the program, not a function",
                f"call it as `self.{name}(…)`",
            )
        elif name in names.called:
            known = {*names.bound, *(f"self.{part}" for part in parts)}
            close = next(iter(get_close_matches(name, known, n=1, cutoff=0.6)), None)
            hint = f"did you mean {close!r}?" if close else None
            yield fault_at(names.called[name], f"there is no function {name!r}", hint, close)
        elif forward is not None or name in names.typos:
            meant = names.typos.get(name) or nearest(name, {*names.bound, *parts})
            hint = f"did you mean {meant!r}?" if meant else None
            yield fault_at(node, f"nothing is bound under {name!r}", hint, meant)
        else:
            continue
        del names.read[name]


def _own_attributes(tree: ast.Module) -> set[str]:
    """What the source itself puts on `self`."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def _end_faults(ends: Sequence[ast.expr | None]) -> Iterator[Fault]:
    for end in ends:
        if isinstance(end, ast.Constant | ast.List | ast.Tuple | ast.Set | ast.JoinedStr):
            yield fault_at(
                end,
                "a program gives a map of output fields",
                f"write {{'answer': {ast.unparse(end)[:40]}}}, or a module's prediction",
            )


@dataclass(slots=True)
class _Calls:
    """Checks every `self.<part>(…)`, and what is read of its answer."""

    parts: Mapping[str, Part]
    names: Names
    own: set[str]
    changed: set[str]

    def kinds(self, *, literal: bool) -> dict[str, Fields]:
        """The fields of names that hold only modules' answers; or, if `literal`, written maps."""
        found: dict[str, Fields] = {}
        for name, values in self.names.values.items():
            if name in self.changed:
                continue
            fields = [fields_of(value, self.parts, literal=literal) for value in values]
            if all(each is not None for each in fields):
                first = fields[0] or ()
                found[name] = first if all(each == first for each in fields) else None
        return {name: fields for name, fields in found.items() if fields is not None}

    def faults_of(self, tree: ast.Module) -> list[Fault]:
        faults: list[Fault] = []
        kinds = self.kinds(literal=False)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                part = self.part_of(node.func)
                if part is not None:
                    faults += self.call(node, part)
            elif isinstance(node, ast.Await):
                faults += self.awaited(node.value)
            elif isinstance(node, ast.Attribute):
                faults += self.attribute(node, kinds)
            elif isinstance(node, ast.Subscript):
                faults += self.item(node, kinds)
        return faults

    def part_of(self, node: ast.expr) -> Part | None:
        """The part that `self.<name>` or `self.<name>.acall` names."""
        if isinstance(node, ast.Attribute) and node.attr == "acall":
            node = node.value
        if isinstance(node, ast.Attribute) and _is_self(node.value):
            return self.parts.get(node.attr)
        return None

    def awaited(self, node: ast.expr) -> Iterator[Fault]:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            part = self.part_of(node.func)
            if part is not None and node.func.attr != "acall":
                hint = f"drop `await`, or write `await self.{part.name}.acall(…)`"
                yield fault_at(node, f"`self.{part.name}(…)` answers at once", hint)

    def call(self, node: ast.Call, part: Part) -> Iterator[Fault]:
        known = ", ".join(part.inputs) or "nothing"
        if len(node.args) > part.positional and not any(
            isinstance(each, ast.Starred) for each in node.args
        ):
            first = next(iter(part.inputs), None)
            hint = f"write {first}=…" if first else None
            yield fault_at(
                node.args[part.positional],
                f"module {part.name!r} takes its inputs by name: {known}",
                hint,
            )
            return
        given = {*list(part.inputs)[: len(node.args)]}
        spread = any(isinstance(each, ast.Starred) for each in node.args)
        for keyword in node.keywords:
            if keyword.arg is None:
                spread = True
            elif keyword.arg not in part.inputs:
                close = nearest(keyword.arg, part.inputs)
                hint = f"did you mean {close!r}?" if close else f"it has: {known}"
                what = "tool" if part.is_tool else "module"
                message = f"{what} {part.name!r} has no input {keyword.arg!r}"
                yield fault_at(keyword, message, hint, close)
            else:
                given.add(keyword.arg)
        missing = [name for name, needed in part.inputs.items() if needed and name not in given]
        if missing and not spread:
            listed = ", ".join(map(repr, missing))
            yield fault_at(node, f"the call of {part.name!r} lacks its input {listed}")

    def attribute(self, node: ast.Attribute, kinds: Mapping[str, Fields]) -> Iterator[Fault]:
        if _is_self(node.value) and isinstance(node.ctx, ast.Load):
            if node.attr not in self.parts and node.attr not in self.own:
                close = nearest(node.attr, self.parts)
                known = ", ".join(self.parts)
                hint = f"did you mean {close!r}?" if close else f"it has: {known}"
                yield fault_at(node, f"the program has no module {node.attr!r}", hint, close)
            return
        fields = self.answer(node.value, kinds)
        if fields is not None and isinstance(node.ctx, ast.Load) and node.attr not in _METHODS:
            yield from _unknown_field(node, node.attr, fields)

    def item(self, node: ast.Subscript, kinds: Mapping[str, Fields]) -> Iterator[Fault]:
        fields = self.answer(node.value, kinds)
        key = node.slice
        if fields is None or not isinstance(node.ctx, ast.Load):
            return
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield from _unknown_field(node, key.value, fields)

    def answer(self, node: ast.expr, kinds: Mapping[str, Fields]) -> Fields:
        """The fields of a module's answer, if that is what an expression certainly is."""
        if isinstance(node, ast.Name):
            return kinds.get(node.id)
        if isinstance(node, ast.Call | ast.Await):
            return fields_of(node, self.parts, literal=False)
        return None


_METHODS = frozenset({"keys", "values", "items", "get", "toDict", "acall"})


def _unknown_field(node: ast.expr, name: str, fields: tuple[str, ...]) -> Iterator[Fault]:
    if name not in fields:
        close = nearest(name, fields)
        has = f"it has: {', '.join(fields)}"
        hint = f"did you mean {close!r}?" if close else has
        yield fault_at(node, f"the answer has no field {name!r}", hint, close)


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"
