"""Tools in source: what an LM is told of one comes from its annotations and its docstring."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from typing import Any

from bridge.specs.source.functions import Definition, unbound_faults
from bridge.specs.source.reading import Fault, fault_at, language_faults, parse_source, refusal
from bridge.specs.types.model import Array, Enum, Map, Nullable, Object, Scalar, TypeSpec, Union
from bridge.specs.types.strings import parse_annotation
from protocol.errors import InvalidArgs, ProgramError

__all__ = ["ToolText", "read_tool"]


@dataclass(frozen=True, slots=True)
class ToolText:
    """What a tool's source says of it.

    Attributes:
        text: the source.
        name: the function's.
        description: its docstring without the arguments' section.
        parameters: a JSON Schema of type object.
        is_async: whether it is awaited.
    """

    text: str
    name: str
    description: str
    parameters: dict[str, Any]
    is_async: bool


def read_tool(text: str, path: str = "code", name: str | None = None) -> ToolText:
    """A tool's name, description and JSON Schema, from its annotations and docstring.

    Args:
        text: defines the function, and perhaps others that it calls.
        path: where the source stood.
        name: the function that is meant; otherwise the last one.

    Raises:
        ProgramError: with every fault, its line and column.
    """
    tree = parse_source(text, path)
    functions = [
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    faults = [*language_faults(tree), *unbound_faults(tree, ())]
    named = [node for node in functions if node.name == name]
    if not functions:
        hint = "write `def lookup(word: str) -> str:` with a docstring that says what it does"
        faults.append(fault_at(tree.body[-1] if tree.body else tree, "defines no function", hint))
        raise refusal(faults, text, path)
    node = (named or functions)[-1]
    described, about = _documented(ast.get_docstring(node) or "")
    parameters, more = _parameters(node, about)
    faults += more
    if faults:
        raise refusal(faults, text, path)
    return ToolText(text, node.name, described, parameters, isinstance(node, ast.AsyncFunctionDef))


def _parameters(node: Definition, about: dict[str, str]) -> tuple[dict[str, Any], list[Fault]]:
    arguments = node.args
    faults: list[Fault] = []
    properties: dict[str, Any] = {}
    required: list[str] = []
    places = [*arguments.posonlyargs, *arguments.args]
    defaults = [*[None] * (len(places) - len(arguments.defaults)), *arguments.defaults]
    for each, default in [
        *zip(places, defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]:
        schema, fault = _annotated(each)
        faults += [] if fault is None else [fault]
        if each.arg in about:
            schema["description"] = about[each.arg]
        if default is None:
            required.append(each.arg)
        else:
            try:
                schema["default"] = ast.literal_eval(default)
            except (ValueError, TypeError):
                # Whatever it is, the function knows it.
                schema.pop("default", None)
        properties[each.arg] = schema
    for spread in (arguments.vararg, arguments.posonlyargs[0] if arguments.posonlyargs else None):
        if spread is not None:
            faults.append(fault_at(spread, "a tool's arguments have names: an LM gives them so"))
    schema = {"type": "object", "properties": properties, "required": required}
    return schema, faults


def _annotated(argument: ast.arg) -> tuple[dict[str, Any], Fault | None]:
    if argument.annotation is None:
        return {}, None
    text = ast.unparse(argument.annotation)
    if isinstance(argument.annotation, ast.Constant) and isinstance(argument.annotation.value, str):
        text = argument.annotation.value
    try:
        return _schema(parse_annotation(text, argument.arg)), None
    except (InvalidArgs, ProgramError) as error:
        said = error.message.partition(": ")[2]
        return {}, fault_at(argument.annotation, f"{argument.arg}: {said}")


_SCALARS: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "float": {"type": "number"},
    "boolean": {"type": "boolean"},
    "any": {},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "time"},
    "datetime": {"type": "string", "format": "date-time"},
    "decimal": {"type": "string"},
}


def _schema(kind: TypeSpec) -> dict[str, Any]:
    """The JSON Schema of a type; media travel as texts."""
    found: dict[str, Any] = {"type": "string"}
    if isinstance(kind, Scalar):
        found = dict(_SCALARS[kind.name])
    elif isinstance(kind, Array):
        found = {"type": "array", "items": _schema(kind.of)}
    elif isinstance(kind, Map):
        found = {"type": "object", "additionalProperties": _schema(kind.values)}
    elif isinstance(kind, Enum):
        found = {"enum": list(kind.values)}
    elif isinstance(kind, Nullable):
        found = {"anyOf": [_schema(kind.of), {"type": "null"}]}
    elif isinstance(kind, Union):
        found = {"anyOf": [_schema(member) for member in kind.of]}
    elif isinstance(kind, Object):
        found = {"type": "object"}
    return found


_SECTION = re.compile(
    r"^(Args|Arguments|Parameters|Returns?|Raises|Yields|Examples?):\s*$", re.MULTILINE
)
_ARGUMENT = re.compile(r"^\s+(\w+)(?:\s*\([^)]*\))?:\s*(.+(?:\n\s{8,}.+)*)", re.MULTILINE)


def _documented(docstring: str) -> tuple[str, dict[str, str]]:
    """A docstring's text before its sections, and what its Args section says of each argument."""
    text = inspect.cleandoc(docstring)
    first = _SECTION.search(text)
    described = text if first is None else text[: first.start()].strip()
    about: dict[str, str] = {}
    for section in _SECTION.finditer(text):
        if section[1] in {"Args", "Arguments", "Parameters"}:
            rest = text[section.end() :]
            following = _SECTION.search(rest)
            body = rest if following is None else rest[: following.start()]
            about |= {name: " ".join(said.split()) for name, said in _ARGUMENT.findall(body)}
    return described, about
