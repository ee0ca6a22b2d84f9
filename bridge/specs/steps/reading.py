"""``steps``: the wiring of a program as data, from the wire and back.

A program is a list of steps; a step is a map with exactly one verb::

    {"call": module, "in": {input: value}?, "as": name?}      inputs left out are taken by name
    {"let": {name: value}}
    {"each": list, "as": "item"?, "do": [step], "collect": value?, "into": name?, "parallel"?}
    {"repeat": 1..100, "do": [step], "until": value?}
    {"if": value, "then": [step], "else": [step]?}
    {"output": {field: value}}                                ends the program

A value is any JSON. ``"$hop.query"`` is a reference, ``"$$x"`` the text ``$x``, and a map with one
operator as its only key is an expression: ``concat join format first length equals not all any
less contains empty literal majority``. A condition is a value read as true or false, so there is
one language and not two. Law: everything the parser returns is bounded, and every fault is found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bridge.specs.checking import nearest
from bridge.specs.steps.check import ModuleShape, check_body
from bridge.specs.steps.nodes import (
    NAME,
    OPERATORS,
    REFERENCE,
    VERBS,
    Call,
    Const,
    Each,
    Format,
    If,
    Let,
    ListOf,
    MapOf,
    Op,
    Output,
    Ref,
    Repeat,
    Step,
    Value,
    find_operator,
)
from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

__all__ = ["MAX_DEPTH", "MAX_REPEAT", "MAX_STEPS", "ModuleShape", "Steps", "parse_steps"]

MAX_DEPTH = 16
"""Lists of steps inside one another; and, apart from that, lists and maps inside one value."""

MAX_STEPS = 200
"""Steps of one program, nested ones included."""

MAX_REPEAT = 100
"""Passes of one ``repeat``."""

# A reply that lists every fault of a hostile program must stay small.
_MAX_FAULTS = 50

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_TAKES = {"many": "a list of values", "two": "a list of two values"}


@dataclass(frozen=True, slots=True)
class Steps:
    """A parsed program; immutable, and equal to any other spelling of the same program."""

    body: tuple[Step, ...]

    def to_wire(self) -> list[Any]:
        """The canonical form: defaults left out, maps sorted by key; parses to an equal value."""
        return [step.to_wire() for step in self.body]

    def check(
        self,
        inputs_known: Collection[str] | None,
        modules: Mapping[str, ModuleShape],
        path: str = "steps",
    ) -> ModuleShape:
        """The shape of the program, so that a program can stand where a module can.

        Args:
            inputs_known: the program's inputs, or None: whatever is referenced, or needed by
                name, before anything bound it is an input, in order of first use. An input only
                optional module inputs ask for is optional.
            modules: what each module name stands for.
            path: where the program stood in the request.

        Returns:
            Inputs (name -> required), and the outputs that every end of the program has.

        Raises:
            InvalidArgs: with every fault; see :mod:`bridge.specs.steps.check`.
        """
        shape, faults = check_body(self.body, path, inputs_known, modules)
        if faults:
            raise InvalidArgs.of(faults[:_MAX_FAULTS])
        return shape


def parse_steps(value: Any, path: str = "steps") -> Steps:
    """A program from its wire form.

    Raises:
        InvalidArgs: every fault, with paths like ``steps[1].in.context``.
    """
    parser = _Parser()
    body = parser.body(value, path, 1)
    if parser.faults:
        raise InvalidArgs.of(parser.faults)
    return Steps(body)


class _Parser:
    """Collects faults as it goes; what it returns beside a fault only keeps the walk going."""

    def __init__(self) -> None:
        self.faults: list[dict[str, Any]] = []
        self.count = 0

    def fault(self, path: str, message: str, close: str | None = None) -> None:
        if len(self.faults) < _MAX_FAULTS:
            more = {} if close is None else {"nearest": close}
            self.faults.append({"path": path, "message": message, **more})

    def body(self, value: Any, path: str, depth: int, *, may_be_empty: bool = False) -> Any:
        if not isinstance(value, list) or not (value or may_be_empty):
            self.fault(path, "must be a list of steps" + ("" if may_be_empty else ", at least one"))
            return ()
        if depth > MAX_DEPTH:
            self.fault(path, f"nests deeper than {MAX_DEPTH} lists of steps")
            return ()
        steps = []
        for index, item in enumerate(value):
            self.count += 1
            if self.count > MAX_STEPS:
                # Said once: every list around this one ends here, too.
                if self.count == MAX_STEPS + 1:
                    self.fault(f"{path}[{index}]", f"a program has at most {MAX_STEPS} steps")
                break
            step = self.step(item, f"{path}[{index}]", depth)
            if step is not None:
                steps.append(step)
        return tuple(steps)

    def step(self, step: Any, path: str, depth: int) -> Step | None:
        if not isinstance(step, dict):
            self.fault(path, f"must be a map with one of {', '.join(VERBS)}")
            return None
        verbs = [key for key in step if key in VERBS]
        if len(verbs) != 1:
            close = (
                None if verbs else next(filter(None, (nearest(str(k), VERBS) for k in step)), None)
            )
            found = "has both " + " and ".join(verbs) if verbs else "has no verb"
            hint = f"; did you mean {close!r}?" if close else ""
            self.fault(path, f"{found}: a step has exactly one of {', '.join(VERBS)}{hint}", close)
            return None
        (verb,) = verbs
        for key in step.keys() - {verb, *VERBS[verb]}:
            allowed = ", ".join(VERBS[verb]) or "nothing"
            self.fault(
                f"{path}.{key}",
                f"unknown key; beside {verb!r} there may be: {allowed}",
                nearest(str(key), VERBS[verb]),
            )
        return _BUILDERS[verb](self, step, path, depth)

    def call(self, step: dict[str, Any], path: str, _depth: int) -> Step:
        module = step["call"]
        if not isinstance(module, str) or not module:
            self.fault(f"{path}.call", "must be the name of a module of the program")
            module = ""
        given = step.get("in", {})
        inputs = self.pairs(given, f"{path}.in") if given != {} else ()
        bind = self.name(step["as"], f"{path}.as") if "as" in step else None
        return Call(module, inputs, bind)

    def let(self, step: dict[str, Any], path: str, _depth: int) -> Step:
        return Let(self.pairs(step["let"], f"{path}.let"))

    def output(self, step: dict[str, Any], path: str, _depth: int) -> Step:
        return Output(self.pairs(step["output"], f"{path}.output"))

    def branch(self, step: dict[str, Any], path: str, depth: int) -> Step:
        return If(
            self.value(step["if"], f"{path}.if"),
            self.body(step.get("then"), f"{path}.then", depth + 1),
            self.body(step.get("else", []), f"{path}.else", depth + 1, may_be_empty=True),
        )

    def each(self, step: dict[str, Any], path: str, depth: int) -> Step:
        collect = self.value(step["collect"], f"{path}.collect") if "collect" in step else None
        into = self.name(step["into"], f"{path}.into") if "into" in step else None
        parallel = step.get("parallel", False)
        if not isinstance(parallel, bool):
            self.fault(f"{path}.parallel", "must be true or false")
            parallel = False
        if ("collect" in step) != ("into" in step):
            missing = "into" if "collect" in step else "collect"
            self.fault(f"{path}.{missing}", "is missing: collect and into stand together")
        elif parallel and collect is None:
            self.fault(f"{path}.collect", "is missing: only `into` comes out of a parallel each")
        return Each(
            items=self.value(step["each"], f"{path}.each"),
            body=self.body(step.get("do"), f"{path}.do", depth + 1),
            item=self.name(step.get("as", "item"), f"{path}.as"),
            collect=collect,
            into=into,
            parallel=parallel,
        )

    def repeat(self, step: dict[str, Any], path: str, depth: int) -> Step:
        times = step["repeat"]
        if isinstance(times, bool) or not isinstance(times, int) or not 1 <= times <= MAX_REPEAT:
            self.fault(f"{path}.repeat", f"must be an integer from 1 to {MAX_REPEAT}")
            times = 1
        return Repeat(
            times,
            self.body(step.get("do"), f"{path}.do", depth + 1),
            self.value(step["until"], f"{path}.until") if "until" in step else None,
        )

    def name(self, value: Any, path: str) -> str:
        if isinstance(value, str) and NAME.fullmatch(value):
            return value
        self.fault(path, "must be a name: a letter or _, then letters, digits, _ or -")
        return ""

    def pairs(self, value: Any, path: str) -> tuple[tuple[str, Value], ...]:
        if not isinstance(value, dict) or not value:
            self.fault(path, "must be a map from names to values, at least one")
            return ()
        named = {self.name(key, f"{path}.{key}"): item for key, item in value.items()}
        return tuple((key, self.value(named[key], f"{path}.{key}")) for key in sorted(named))

    def value(self, value: Any, path: str, depth: int = 0) -> Value:
        if isinstance(value, str):
            return self.text(value, path)
        if not isinstance(value, list | dict):
            return Const(value)
        if depth >= MAX_DEPTH:
            self.fault(path, f"nests deeper than {MAX_DEPTH} lists and maps")
            return Const(None)
        if isinstance(value, list):
            return self.list_of(value, path, depth)
        operator = find_operator(value)
        if operator is not None:
            return self.operator(operator, value, path, depth)
        return self.map_of(value, path, depth)

    def list_of(self, value: list[Any], path: str, depth: int) -> Value:
        items = tuple(
            self.value(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)
        )
        if all(isinstance(item, Const) for item in items):
            return Const([item.value for item in items if isinstance(item, Const)])
        return ListOf(items)

    def map_of(self, value: dict[Any, Any], path: str, depth: int) -> Value:
        if not all(isinstance(key, str) for key in value):
            self.fault(path, "the keys of a map must be strings")
            return Const(None)
        pairs = tuple(
            (key, self.value(value[key], f"{path}.{key}", depth + 1)) for key in sorted(value)
        )
        if all(isinstance(item, Const) for _, item in pairs):
            return Const({key: item.value for key, item in pairs if isinstance(item, Const)})
        return MapOf(pairs)

    def text(self, value: str, path: str) -> Value:
        if not value.startswith("$"):
            return Const(value)
        if value.startswith("$$"):
            return Const(value[1:])
        if REFERENCE.fullmatch(value, 1):
            return Ref.of(value[1:])
        self.fault(
            path,
            f"{value[:80]!r} is not a reference like $hop.query; a text that begins with $ is "
            f"written with two: {'$' + value[:80]!r}",
        )
        return Const(None)

    def operator(self, name: str, value: dict[str, Any], path: str, depth: int) -> Value:
        argument, here, takes = value[name], f"{path}.{name}", OPERATORS[name]
        if takes == "literal":
            self.bounded(argument, here, depth)
            return Const(argument)
        if takes == "text":
            return self.format(argument, here)
        if takes == "one":
            return Op(name, (self.value(argument, here, depth + 1),))
        if takes == "join":
            for key in value.keys() - {"join", "with"}:
                self.fault(f"{path}.{key}", "unknown key; did you mean 'with'?", "with")
            return Op(
                name,
                (
                    self.value(argument, here, depth + 1),
                    self.value(value.get("with", ""), f"{path}.with", depth + 1),
                ),
            )
        if (
            not isinstance(argument, list)
            or not argument
            or (takes == "two" and len(argument) != 2)
        ):
            self.fault(here, f"takes {_TAKES[takes]}; the plain map is {{'literal': …}}")
            return Const(None)
        return Op(
            name,
            tuple(self.value(arg, f"{here}[{i}]", depth + 1) for i, arg in enumerate(argument)),
        )

    def format(self, template: Any, path: str) -> Value:
        if not isinstance(template, str):
            self.fault(path, "must be a text with references in braces")
            return Const(None)
        parts: list[str | Ref] = []
        text, end = "", 0
        for match in _BRACES.finditer(template):
            text += template[end : match.start()]
            end = match.end()
            name = match[1]
            if match[0] in ("{{", "}}"):
                text += match[0][0]
            elif name is not None and REFERENCE.fullmatch(name):
                parts += [text, Ref.of(name)] if text else [Ref.of(name)]
                text = ""
            else:
                self.fault(
                    path,
                    f"{match[0][:80]!r} at {match.start()} is not a reference like {{hop.query}}; "
                    "a brace of the text is written twice",
                )
        text += template[end:]
        return Format((*parts, text) if text else tuple(parts))

    def bounded(self, value: Any, path: str, depth: int) -> None:
        """Data the parser does not read must stay as shallow as what it reads."""
        level = [value] if isinstance(value, list | dict) else []
        for _ in range(depth, MAX_DEPTH):
            level = [
                child
                for item in level
                for child in (item.values() if isinstance(item, dict) else item)
                if isinstance(child, list | dict)
            ]
        if level:
            self.fault(path, f"nests deeper than {MAX_DEPTH} lists and maps")


_BUILDERS: dict[str, Callable[[_Parser, dict[str, Any], str, int], Step]] = {
    "call": _Parser.call,
    "let": _Parser.let,
    "each": _Parser.each,
    "repeat": _Parser.repeat,
    "if": _Parser.branch,
    "output": _Parser.output,
}
