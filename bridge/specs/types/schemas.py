"""Types said as ``{"type": ..., ...}``: JSON Schema's words, and Ash's constraints.

::

    {"type": "array", "items": T}
    {"type": "object", "properties": {name: T}, "required": [name]}
    {"type": "string", "enum": [...]}          {"type": ["string", "null"]}
    {"type": "atom", "constraints": {"one_of": [...]}}
    {"type": "map", "constraints": {"fields": {name: {"type": T, "allow_nil?": false}}}}

A constraint that no type of ours enforces is refused: dropping it would promise what nobody keeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bridge.specs.checking import nearest
from bridge.specs.fields import as_mapping
from bridge.specs.types.defaults import kind_of, mismatch
from bridge.specs.types.enums import enum_of
from bridge.specs.types.model import (
    Array,
    Enum,
    Map,
    Nullable,
    Scalar,
    TypeSpec,
    nullable,
)
from bridge.specs.types.spellings import clipped
from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from bridge.specs.types.reading import TypeReader

__all__ = ["SCHEMA_ONLY_KEYS", "read_schema"]

SCHEMA_ONLY_KEYS: Final = frozenset(
    {"items", "properties", "required", "additionalProperties", "fields", "format", "constraints"}
)
"""Keys that make a map a schema even where ``type`` is left out."""

_NOTES: Final = frozenset({"title", "examples", "$schema", "$comment", "type"})
_CHOICES: Final = ("enum", "one_of", "values", "literal", "const")
_FORMATS: Final[dict[str, TypeSpec]] = {
    "date": Scalar("date"),
    "time": Scalar("time"),
    "date-time": Scalar("datetime"),
    "decimal": Scalar("decimal"),
}
_FREE_FORMATS: Final = frozenset(
    {"uuid", "uri", "url", "email", "hostname", "duration", "int32", "int64", "float", "double"}
)
_SILENT_CONSTRAINTS: Final = frozenset(
    {
        "trim?",
        "allow_empty?",
        "unsafe_to_atom?",
        "precision",
        "timezone",
        "cast_dates_as",
        "preserve_nil_values?",
        "nil_items?",
        "remove_nil_items?",
        "instance_of",
        "casing",
    }
)
"""Ash's constraints on how it casts a value: they ask nothing of the value itself."""


def read_schema(reader: TypeReader, form: dict[str, Any], path: str, depth: int) -> TypeSpec:
    """The type of a map with ``type`` or another of ``SCHEMA_ONLY_KEYS``.

    Raises:
        InvalidArgs: a key that does not go with the type, or a constraint nobody enforces.
    """
    rest = {key: value for key, value in form.items() if key not in _NOTES}
    null = _nullable_flag(rest, path)
    found = _base(reader, form, rest, path, depth)
    if isinstance(found, Nullable):
        null, found = True, found.of
    constraints = as_mapping(rest.pop("constraints", None) or {}, f"{path}.constraints")
    if constraints is None:
        raise InvalidArgs.at(f"{path}.constraints", "expected a map or a keyword list")
    if "fields" in rest:
        constraints = {**constraints, "fields": rest.pop("fields")}
    found = _constrained(reader, found, constraints, f"{path}.constraints", depth)
    found = _object_or_map(reader, found, rest, path, depth)
    if "items" in rest:
        found = _with_items(reader, found, rest.pop("items"), f"{path}.items", depth)
    if "format" in rest:
        found = _formatted(found, rest.pop("format"), f"{path}.format")
    for key in _CHOICES:
        if key in rest:
            found = _chosen(found, rest.pop(key), key, f"{path}.{key}")
    if rest:
        key = next(iter(rest))
        raise InvalidArgs.at(f"{path}.{key}", f"does not go with the type {_shown(form)}")
    return nullable(found) if null else found


def _nullable_flag(rest: dict[str, Any], path: str) -> bool:
    flag = False
    for key in ("nullable", "optional"):
        if key in rest:
            value = rest.pop(key)
            if not isinstance(value, bool | None):
                raise InvalidArgs.at(f"{path}.{key}", f"is true or false, not {kind_of(value)}")
            flag = flag or bool(value)
    return flag


def _base(
    reader: TypeReader, form: dict[str, Any], rest: dict[str, Any], path: str, depth: int
) -> TypeSpec:
    """The type before its other keys are applied."""
    kind = form.get("type")
    if kind is None:
        if "type" in form:
            raise InvalidArgs.at(f"{path}.type", 'is null; "any" is the type of anything')
        return _implied(form)
    if isinstance(kind, str) and kind.removeprefix(":") in {"enum", "Enum"}:
        if not rest.keys() & set(_CHOICES):
            raise InvalidArgs.at(path, 'an enum needs its values: {"enum": ["a", "b"]}')
        return Scalar("any")
    return reader.read(kind, f"{path}.type", depth + 1)


def _implied(form: dict[str, Any]) -> TypeSpec:
    if form.keys() & {"properties", "required", "additionalProperties", "fields"}:
        return Map(Scalar("any"))
    if "items" in form:
        return Array(Scalar("any"))
    return Scalar("string" if "format" in form else "any")


def _constrained(
    reader: TypeReader, base: TypeSpec, constraints: dict[str, Any], path: str, depth: int
) -> TypeSpec:
    found = base
    for key, value in constraints.items():
        here = f"{path}.{key[:64]}"
        if key == "one_of":
            found = _chosen(found, value, key, here)
        elif key == "fields":
            if not isinstance(found, Map):
                raise InvalidArgs.at(here, "only a map has fields")
            found = reader.object_of(value, here, depth, unsaid=lambda _name: _ASH_ALLOWS_NIL)
        elif key == "items" and isinstance(found, Array):
            inner = as_mapping(value, here)
            if inner is None:
                raise InvalidArgs.at(here, "expected the items' constraints by name")
            found = Array(_constrained(reader, found.of, inner, here, depth + 1))
        elif key not in _SILENT_CONSTRAINTS:
            raise _refused_constraint(key, here)
    return found


# Ash: "allow_nil?" of a map's field is true unless said otherwise.
_ASH_ALLOWS_NIL: Final = True


def _refused_constraint(key: str, path: str) -> InvalidArgs:
    close = nearest(key[:64], ["one_of", "fields", "items"])
    if close is not None:
        return InvalidArgs.at(path, f"unknown constraint; did you mean {close!r}?", nearest=close)
    return InvalidArgs.at(
        path, "this constraint is not enforced here: leave it out, or write it in the description"
    )


def _object_or_map(
    reader: TypeReader, base: TypeSpec, rest: dict[str, Any], path: str, depth: int
) -> TypeSpec:
    if not isinstance(base, Map):
        return base
    values = rest.pop("additionalProperties", None)
    required = rest.pop("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise InvalidArgs.at(
            f"{path}.required", "is a list of names; one field's own flag is `optional`"
        )
    if "properties" in rest:
        if isinstance(values, dict):
            raise InvalidArgs.at(
                f"{path}.additionalProperties", "an object has known fields only: false"
            )
        return _properties(reader, rest.pop("properties"), required, path, depth)
    if required:
        raise InvalidArgs.at(f"{path}.required", "names no properties")
    if values is None or isinstance(values, bool):
        return base
    return Map(reader.read(values, f"{path}.additionalProperties", depth + 1))


def _properties(
    reader: TypeReader, properties: Any, required: list[str], path: str, depth: int
) -> TypeSpec:
    if not isinstance(properties, dict):
        raise InvalidArgs.at(f"{path}.properties", f"is a map by name, not {kind_of(properties)}")
    if unknown := [name for name in required if name not in properties]:
        shown = clipped(unknown[0])
        raise InvalidArgs.at(f"{path}.required", f"names {shown}, which is no property")
    names = frozenset(required)
    return reader.object_of(
        properties, f"{path}.properties", depth, unsaid=lambda name: name not in names
    )


def _with_items(reader: TypeReader, base: TypeSpec, items: Any, path: str, depth: int) -> TypeSpec:
    if base != Array(Scalar("any")):
        raise InvalidArgs.at(path, "only a list has items, and it says them once")
    return Array(reader.read(items, path, depth + 1))


def _formatted(base: TypeSpec, name: Any, path: str) -> TypeSpec:
    if isinstance(name, str) and base == Scalar("string") and name in _FORMATS:
        return _FORMATS[name]
    if isinstance(name, str) and name in _FREE_FORMATS:
        return base
    shown = clipped(name) if isinstance(name, str) else kind_of(name)
    close = nearest(name[:64], [*_FORMATS, *_FREE_FORMATS]) if isinstance(name, str) else None
    hint = f"did you mean {close!r}?" if close else f"known: {', '.join(_FORMATS)}"
    raise InvalidArgs.at(path, f"{shown} is no format of this type; {hint}")


def _chosen(base: TypeSpec, values: Any, key: str, path: str) -> TypeSpec:
    if key == "const":
        values = [values]
    if not isinstance(values, list | tuple):
        raise InvalidArgs.at(path, f"expected a list of values, not {kind_of(values)}")
    found = enum_of(values, path)
    if isinstance(base, Enum) or any(
        value is not None and mismatch(base, value) is not None for value in values
    ):
        raise InvalidArgs.at(path, "the values do not fit the type beside them")
    return found


def _shown(form: dict[str, Any]) -> str:
    kind = form.get("type")
    return clipped(kind) if isinstance(kind, str) else "beside it"
