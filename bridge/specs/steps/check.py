"""What can be known of a program's wiring before it runs: every name is bound, every call fits.

Law: a name counts as bound at a step only if every way to that step binds it, as a compiler
judges definite assignment. A name that nothing bound before is an input of the program.
All faults are found in one walk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from bridge.specs.checking import nearest
from bridge.specs.steps.nodes import (
    Call,
    Each,
    If,
    Let,
    MapOf,
    Output,
    Ref,
    Repeat,
    Step,
    Value,
    iter_references,
    record_key,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

__all__ = ["ModuleShape", "check_body"]

# A reference this much like a bound name is taken for a typo, not for an input of the program.
TYPO = 0.8

Body = tuple[Step, ...]
Fields = tuple[str, ...]

MORE = "*"
"""Among fields: there may be others."""


@dataclass(frozen=True, slots=True)
class ModuleShape:
    """What wiring must know of a module, and what a checked program has in common with one.

    Attributes:
        inputs: name -> whether it is required.
        outputs: names in order.
        open: whether there may be other outputs as well, which only a run shows.
    """

    inputs: Mapping[str, bool]
    outputs: tuple[str, ...]
    open: bool = False

    def has_output(self, name: str) -> bool:
        """Whether there is such an output, or may be."""
        return self.open or name in self.outputs


@dataclass(slots=True)
class _Flow:
    """What is known at one point: names bound (record fields where known), and on some ways only.

    ``last`` holds the outputs of every call that may have been the last; None for no call yet.
    """

    bound: dict[str, Fields | None] = field(default_factory=dict)
    maybe: dict[str, str] = field(default_factory=dict)
    last: frozenset[Fields | None] = frozenset([None])
    ended: bool = False

    def bind(self, name: str, fields: Fields | None = None) -> None:
        self.bound[name] = fields
        self.maybe.pop(name, None)

    def copy(self) -> _Flow:
        return _Flow(dict(self.bound), dict(self.maybe), self.last, self.ended)


def check_body(
    body: Body, path: str, inputs_known: Collection[str] | None, modules: Mapping[str, ModuleShape]
) -> tuple[ModuleShape, list[dict[str, Any]]]:
    """The program's own shape, and the faults as ``{path, message, nearest?}``."""
    checker = _Checker(inputs_known, modules, frozenset(_bound_anywhere(body, modules)))
    end = checker.body(body, path, _Flow())
    if not end.ended:
        checker.ends.extend(fields for fields in end.last if fields is not None)
        if None in end.last:
            checker.fault(path, "may end without an output step and without a call")
    for name in inputs_known or ():
        checker.inputs.setdefault(name, False)
    first, *others = checker.ends or [()]
    is_open = any(MORE in end for end in checker.ends)
    outputs = tuple(
        name for name in first if name != MORE and all(name in other for other in others)
    )
    return ModuleShape(checker.inputs, outputs, is_open), checker.faults


class _Checker:
    def __init__(
        self,
        inputs_known: Collection[str] | None,
        modules: Mapping[str, ModuleShape],
        bound_anywhere: frozenset[str],
    ) -> None:
        self.known = inputs_known
        self.modules = modules
        self.bound_anywhere = bound_anywhere
        self.inputs: dict[str, bool] = {}
        self.ends: list[Fields] = []
        self.faults: list[dict[str, Any]] = []
        self.parallel_depth = 0

    def fault(self, path: str, message: str, close: str | None = None) -> None:
        more = {} if close is None else {"nearest": close}
        self.faults.append({"path": path, "message": message, **more})

    def body(self, body: Body, path: str, flow: _Flow) -> _Flow:
        for index, step in enumerate(body):
            here = f"{path}[{index}]"
            if flow.ended:
                self.fault(here, "is never reached: the program has ended with an output before")
                return flow
            flow = self.step(step, here, flow)
        return flow

    def step(self, step: Step, path: str, flow: _Flow) -> _Flow:
        match step:
            case Call():
                return self.call(step, path, flow)
            case Let():
                self.pairs(step.pairs, f"{path}.let", flow)
                for name, fields in [(name, _fields_of(value, flow)) for name, value in step.pairs]:
                    flow.bind(name, fields)
                return flow
            case Each():
                return self.each(step, path, flow)
            case Repeat():
                # A body runs at least once, so what it binds is bound afterwards.
                after = self.body(step.body, f"{path}.do", flow)
                if step.until is not None and not after.ended:
                    self.value(step.until, f"{path}.until", after)
                return after
            case If():
                self.value(step.condition, f"{path}.if", flow)
                yes = self.body(step.then, f"{path}.then", flow.copy())
                no = self.body(step.otherwise, f"{path}.else", flow)
                return _join(yes, f"{path}.then", no, f"{path}.else")
            case Output():
                self.pairs(step.pairs, f"{path}.output", flow)
                if self.parallel_depth:
                    self.fault(path, "output cannot stand in a parallel each: which item would win")
                self.ends.append(tuple(name for name, _ in step.pairs))
                flow.ended = True
                return flow

    def call(self, step: Call, path: str, flow: _Flow) -> _Flow:
        self.pairs(step.inputs, f"{path}.in", flow)
        shape = self.modules.get(step.module)
        if shape is None:
            close = nearest(step.module, self.modules)
            self.fault(
                f"{path}.call", f"the program has no module {step.module!r}{_hint(close)}", close
            )
            flow.last = frozenset([()])
            return flow
        given = {name for name, _ in step.inputs}
        for name in sorted(given - set(shape.inputs)):
            close = nearest(name, shape.inputs)
            known = ", ".join(shape.inputs) or "none"
            self.fault(
                f"{path}.in.{name}",
                f"module {step.module!r} has no such input{_hint(close)} (it has: {known})",
                close,
            )
        for name, required in shape.inputs.items():
            if name not in given:
                self.by_name(name, required=required, step=step, path=path, flow=flow)
        if step.bind is None:
            flow.bind(record_key(step.module), None if shape.open else shape.outputs)
        for name in shape.outputs:
            flow.bind(name)
        if step.bind is not None:
            flow.bind(step.bind, None if shape.open else shape.outputs)
        flow.last = frozenset([(*shape.outputs, MORE) if shape.open else shape.outputs])
        return flow

    def by_name(self, name: str, *, required: bool, step: Call, path: str, flow: _Flow) -> None:
        """A module's input that the step does not give: it comes from what is in scope."""
        if name in flow.bound:
            return
        if self.may_be_input(name, flow):
            self.inputs[name] = self.inputs.get(name, False) or required
        elif required:
            names = {name for name in flow.bound if not name.startswith("$")}
            scope = ", ".join(sorted({*names, *(self.known or self.inputs)})) or "nothing"
            why = flow.maybe.get(name)
            why = f"is bound only in {why}" if why else f"is not bound (in scope: {scope})"
            self.fault(
                f"{path}.in.{name}", f"module {step.module!r} needs this input, and it {why}"
            )

    def may_be_input(self, name: str, flow: _Flow) -> bool:
        if self.known is not None:
            return name in self.known
        return self.inputs.get(name, False) or name not in flow.maybe

    def each(self, step: Each, path: str, flow: _Flow) -> _Flow:
        self.value(step.items, f"{path}.each", flow)
        inner = flow.copy()
        inner.bind(step.item)
        self.parallel_depth += step.parallel
        inner = self.body(step.body, f"{path}.do", inner)
        self.parallel_depth -= step.parallel
        if step.collect is not None and not inner.ended:
            self.value(step.collect, f"{path}.collect", inner)
        if step.parallel:
            inner.last = flow.last
            for name in inner.bound:
                if name in flow.bound:
                    inner.bound[name] = flow.bound[name]
        # The list may be empty: what the body binds is not bound for certain afterwards.
        after = flow if inner.ended else _join(inner, f"{path}.do", flow, path)
        if step.into is not None:
            after.bind(step.into)
        return after

    def pairs(self, pairs: tuple[tuple[str, Value], ...], path: str, flow: _Flow) -> None:
        for name, value in pairs:
            self.value(value, f"{path}.{name}", flow)

    def value(self, value: Value, path: str, flow: _Flow) -> None:
        for where, ref in iter_references(value, path):
            self.reference(ref, where, flow)

    def reference(self, ref: Ref, path: str, flow: _Flow) -> None:
        root = ref.parts[0]
        known = self.inputs if self.known is None else self.known
        if root in flow.bound:
            self.field(ref, flow.bound[root], path)
        elif root in known and self.may_be_input(root, flow):
            self.inputs[root] = True
        elif record_key(root) in flow.bound:
            self.field(ref, flow.bound[record_key(root)], path)
        elif root in flow.maybe or record_key(root) in flow.maybe:
            where = flow.maybe.get(root) or flow.maybe[record_key(root)]
            self.fault(path, f"${root} is bound only in {where}: bind it before, too")
        else:
            self.unbound(root, path, flow)

    def field(self, ref: Ref, fields: Fields | None, path: str) -> None:
        if fields is None or len(ref.parts) == 1 or ref.parts[1] in fields:
            return
        root, name = ref.parts[:2]
        close = nearest(name, fields)
        has = ", ".join(fields) or "none"
        self.fault(path, f"${root} has no field {name!r}{_hint(close)} (it has: {has})", close)

    def unbound(self, root: str, path: str, flow: _Flow) -> None:
        """An input of the program, or a typo."""
        names = {name.removeprefix("$") for name in flow.bound}
        if self.known is None:
            typos = () if root in self.bound_anywhere else names
            close = next(iter(get_close_matches(root, typos, n=1, cutoff=TYPO)), None)
            if close is None:
                self.inputs[root] = True
                return
        else:
            close = nearest(root, {*names, *self.known})
        self.fault(path, f"nothing is bound under ${root}{_hint(close, '$')}", close)


def _join(one: _Flow, path_one: str, other: _Flow, path_other: str) -> _Flow:
    """What is known where two ways meet; a way that has ended does not arrive."""
    if one.ended or other.ended:
        return other if one.ended else one
    both = one.bound.keys() & other.bound.keys()
    bound = {
        name: fields if fields == other.bound[name] else None
        for name, fields in one.bound.items()
        if name in both
    }
    maybe = {**other.maybe, **one.maybe}
    maybe.update(dict.fromkeys(one.bound.keys() - both, path_one))
    maybe.update(dict.fromkeys(other.bound.keys() - both, path_other))
    return _Flow(bound, maybe, one.last | other.last)


def _fields_of(value: Value, flow: _Flow) -> Fields | None:
    if isinstance(value, MapOf):
        return tuple(name for name, _ in value.pairs)
    if isinstance(value, Ref) and len(value.parts) == 1:
        return flow.bound.get(value.parts[0])
    return None


def _bound_anywhere(body: Body, modules: Mapping[str, ModuleShape]) -> Iterator[str]:
    for step in body:
        match step:
            case Call():
                shape = modules.get(step.module)
                yield step.module if step.bind is None else step.bind
                yield from shape.outputs if shape is not None else ()
            case Let():
                yield from (name for name, _ in step.pairs)
            case Each():
                yield step.item
                if step.into is not None:
                    yield step.into
                yield from _bound_anywhere(step.body, modules)
            case Repeat():
                yield from _bound_anywhere(step.body, modules)
            case If():
                yield from _bound_anywhere((*step.then, *step.otherwise), modules)


def _hint(close: str | None, mark: str = "") -> str:
    return "" if close is None else f"; did you mean {mark}{close}?"
