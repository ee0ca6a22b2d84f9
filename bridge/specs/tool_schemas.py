"""The JSON Schema of a tool's arguments: checked when it is given, and asked at each call.

Law: a schema is whole. What it refers to stands in itself, so nothing is fetched, from a network or
from a file, whoever wrote it; and no value makes it go in circles. jsonschema is imported with the
first tool: it costs 30 ms.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["MOST_FAULTS", "ToolSchema", "read_schema"]

MOST_FAULTS = 5
"""Wrong arguments that are told at once."""

FOREIGN = frozenset({"$id", "$dynamicRef", "$recursiveRef"})
"""Keys that would make a reference mean something outside of the schema, or by the way to it."""

DATA = frozenset({"const", "default", "enum", "examples"})
"""Keys whose values are no schemas, whatever they look like."""

NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keys whose maps have schemas under names of their own, which mean nothing else."""

SAME_VALUE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
"""Keys whose schemas are asked about the very same value."""


class ToolSchema:
    """A schema of type object, written out in full."""

    __slots__ = ("_validator", "schema")

    def __init__(self, schema: dict[str, Any]) -> None:
        from jsonschema import Draft202012Validator  # noqa: PLC0415 - see above
        from referencing import Registry  # noqa: PLC0415

        self.schema: Mapping[str, Any] = schema
        # Without a registry of its own it would fetch what is not in there.
        self._validator = Draft202012Validator(schema, registry=Registry())

    def faults(self, args: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What is wrong with a call's arguments: ``(path, message)``, at most `MOST_FAULTS`."""
        try:
            faults = list(islice(self._validator.iter_errors(args), MOST_FAULTS))
        except RecursionError:
            return [("", "the arguments are nested too deep")]
        return [
            (".".join(map(str, fault.absolute_path)), str(fault.message)[:500]) for fault in faults
        ]


def read_schema(parameters: Mapping[str, Any] | None, path: str) -> ToolSchema:
    """The schema of a tool's `parameters`; a tool without any takes none.

    Raises:
        InvalidArgs: it is no JSON Schema, not of an object, or not whole.
    """
    if not parameters:
        return ToolSchema({"type": "object", "properties": {}})
    if parameters.get("type", "object") != "object":
        raise InvalidArgs.at(f"{path}.type", "must be 'object': a tool's arguments have names")
    schema = {"type": "object", **parameters}
    schema.setdefault("properties", {})
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415 - see above

    try:
        Draft202012Validator.check_schema(schema)
        _Whole(schema, path).check()
    except SchemaError as error:
        where = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in error.absolute_path)
        raise InvalidArgs.at(
            f"{path}{where}", f"is no JSON Schema: {error.message[:300]}"
        ) from None
    except RecursionError:
        raise InvalidArgs.at(path, "is nested too deep") from None
    return ToolSchema(schema)


class _Whole:
    """Whether every reference of a schema leads somewhere within it, and to an end."""

    def __init__(self, schema: dict[str, Any], path: str) -> None:
        from referencing import Registry  # noqa: PLC0415
        from referencing.jsonschema import DRAFT202012  # noqa: PLC0415

        self._schema = schema
        self._path = path
        resource = DRAFT202012.create_resource(schema)
        self._resolver = Registry().with_resource("", resource).resolver()
        self._ended: set[int] = set()

    def check(self) -> None:
        """Raise InvalidArgs with the path of the first reference that does not."""
        for node, path in _schemas(self._schema, self._path):
            for key in FOREIGN & node.keys():
                raise InvalidArgs.at(f"{path}.{key}", "is not taken: a tool's schema is whole")
            self._follow(node, path, ())

    def _follow(self, node: dict[str, Any], path: str, above: tuple[int, ...]) -> None:
        """Go on to all that is asked about the same value; a value cannot end such a circle."""
        if id(node) in above:
            raise InvalidArgs.at(path, "refers to itself without end")
        if id(node) in self._ended:
            return
        for key in SAME_VALUE:
            part = node.get(key)
            for each in part if isinstance(part, list) else (part,):
                if isinstance(each, dict):
                    self._follow(each, path, (*above, id(node)))
        if "$ref" in node:
            target = self._target(node["$ref"], f"{path}.$ref")
            if isinstance(target, dict):
                self._follow(target, path, (*above, id(node)))
        self._ended.add(id(node))

    def _target(self, reference: Any, path: str) -> Any:
        from referencing.exceptions import Unresolvable  # noqa: PLC0415

        if not isinstance(reference, str) or not reference.startswith("#"):
            raise InvalidArgs.at(path, "must begin with '#': nothing is fetched for a schema")
        try:
            return self._resolver.lookup(reference).contents
        except Unresolvable:
            raise InvalidArgs.at(path, f"{reference[:200]!r} is not in the schema") from None


def _schemas(value: Any, path: str, *, named: bool = False) -> Iterator[tuple[dict[str, Any], str]]:
    """Every map within a schema that may be one itself; `named` is the map under one of `NAMED`."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _schemas(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        if not named:
            yield value, path
        for key, item in value.items():
            if named or key not in DATA:
                within = not named and key in NAMED
                yield from _schemas(item, f"{path}.{key}", named=within)
