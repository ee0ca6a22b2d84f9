"""The one reader of types: every spelling a host can send becomes one canonical ``TypeSpec``.

``parse_type`` takes, at any level and mixed as they come:

- the canonical forms of ``type_model``: ``"string"``, ``{"array": T}``, ``{"enum": [...]}``, ...
- Elixir text: ``"{:array, :string}"``, ``"{:map, %{name: :string}}"``, ``":utc_datetime"``
- Ash text and names: ``"Ash.Type.String"``, ``"{:map, [fields: [a: [type: :string]]]}"``
- tuples as JSON encoders make them: ``["array", "string"]``, ``["map", {"name": "string"}]``
- JSON Schema: ``{"type": "object", "properties": {...}, "required": [...]}``
- Python text: ``"list[str]"``, ``"Literal['a', 'b']"``, ``"int | None"``, ``"dspy.Image"``

What a type cannot promise it refuses: an unknown key, a constraint that nothing here enforces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bridge.specs.checking import nearest
from bridge.specs.fields import MAX_UNKNOWN, TYPE_KEYS, FieldRules, as_mapping, read_fields
from bridge.specs.names import object_name_fault
from bridge.specs.types.defaults import kind_of
from bridge.specs.types.elixir_terms import Atom, parse_term
from bridge.specs.types.enums import enum_of, language_of
from bridge.specs.types.model import (
    MAX_DEPTH,
    MAX_ENUM_VALUES,
    MAX_READING_DEPTH,
    MEDIA,
    SCALARS,
    Array,
    Enum,
    Map,
    Media,
    Nullable,
    Object,
    Scalar,
    TypeSpec,
    Union,
    depth_of,
    nullable,
    union,
)
from bridge.specs.types.schemas import SCHEMA_ONLY_KEYS, read_schema
from bridge.specs.types.spellings import clipped, find_spelling, unknown_type
from bridge.specs.types.strings import parse_annotation
from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "MAX_DEPTH",
    "MEDIA",
    "SCALARS",
    "Array",
    "Enum",
    "Map",
    "Media",
    "Nullable",
    "Object",
    "Scalar",
    "TypeSpec",
    "Union",
    "nullable",
    "parse_type",
    "union",
]

MAX_TYPES: Final = 2_000
"""Types within one type. All of them are spelt out in every prompt."""


def parse_type(value: Any, path: str) -> TypeSpec:
    """The type that a wire value means.

    Raises:
        InvalidArgs: where it is wrong, and what would be right.
    """
    found = TypeReader().read(value, path, 0)
    if depth_of(found) > MAX_DEPTH:
        raise InvalidArgs.at(path, f"types are nested deeper than {MAX_DEPTH}")
    return found


class TypeReader:
    """One reading of one type; it counts what it reads, so that a reading ends."""

    def __init__(self) -> None:
        self._read = 0

    def read(self, value: Any, path: str, depth: int) -> TypeSpec:
        """Any spelling, ``depth`` levels down."""
        self._read += 1
        if self._read > MAX_TYPES:
            raise InvalidArgs.at(path, f"more than {MAX_TYPES} types within one")
        if depth > MAX_READING_DEPTH:
            raise InvalidArgs.at(path, f"types are nested deeper than {MAX_DEPTH}")
        if isinstance(value, str):
            return self._text(value, path, depth)
        mapping = as_mapping(value, path)
        if mapping is not None:
            return self._form(mapping, path, depth)
        if isinstance(value, list | tuple):
            return self._tuple(value, path, depth)
        raise InvalidArgs.at(path, f"expected a type, not {kind_of(value)}")

    def object_of(
        self,
        fields: Any,
        path: str,
        depth: int,
        *,
        name: str | None = None,
        unsaid: Callable[[str], bool | None] = lambda _name: None,
    ) -> TypeSpec:
        """An object of these fields; ``unsaid`` decides which are optional without saying so."""
        if name is not None and (fault := object_name_fault(name)):
            raise InvalidArgs.at(f"{path}.name", fault)
        rules = FieldRules(
            lambda value, here: self.read(value, here, depth + 1), object_name_fault, unsaid
        )
        found = read_fields(fields, path, rules)
        if not found:
            raise InvalidArgs.at(path, "an object has at least one field; use map for any keys")
        return Object(found, name)

    def _text(self, value: str, path: str, depth: int) -> TypeSpec:
        text = value.strip()
        known = find_spelling(text)
        if known is not None:
            return known
        if not text:
            raise InvalidArgs.at(path, 'the type is empty; "string" is the plainest')
        if isinstance(value, Atom):
            raise unknown_type(text, path)
        if text[0] in "{%[:":
            term = parse_term(text, path)
            # A one-element tuple of pairs is JSON read as Elixir: {"array": "string"}.
            if isinstance(term, tuple) and len(term) == 1 and as_mapping(term[0], path):
                term = term[0]
            return self.read(term, path, depth + 1)
        return parse_annotation(text, path, depth)

    def _tuple(self, value: list[Any] | tuple[Any, ...], path: str, depth: int) -> TypeSpec:
        head = value[0] if value else None
        if len(value) == 1:
            raise InvalidArgs.at(
                path, 'a list of one is no type: a list is written {"array": type}'
            )
        if (
            value
            and all(isinstance(item, str) for item in value)
            and ("null" in value or str(head).removeprefix(":") not in _TUPLE_HEADS)
        ):
            return self.union_from(value, path, depth)  # JSON Schema's ["string", "null"]
        if isinstance(head, str):
            word = head.removeprefix(":")
            if word in _FORMS and len(value) == 2:
                return _FORMS[word](self, value[1], path, depth)
            if word in {"map", "dict"} and len(value) == 3:
                return self.keyed_map(value[1], value[2], path, depth)
            if word in {"parameterized", "tuple"}:
                raise unknown_type(word, path)
        constraints = as_mapping(value[1], path) if len(value) == 2 else None
        if constraints is None and len(value) == 2 and value[1] == []:
            constraints = {}
        if constraints is not None:
            return read_schema(self, {"type": head, "constraints": constraints}, path, depth)
        hint = 'tuples such as ["array", "string"] or ["map", "string"]'
        raise InvalidArgs.at(path, f"this list is no type: {hint}")

    def _form(self, form: dict[str, Any], path: str, depth: int) -> TypeSpec:
        unknown = [key for key in form if key not in TYPE_KEYS and key != "name"]
        if unknown:
            raise InvalidArgs.of([_unknown_key(key, path) for key in unknown[:MAX_UNKNOWN]])
        heads = [key for key in form if key in _FORMS]
        if "type" in form or not SCHEMA_ONLY_KEYS.isdisjoint(form):
            return read_schema(self, form, path, depth)
        if len(heads) != 1:
            found = ", ".join(heads) or "none"
            raise InvalidArgs.at(
                path,
                f'a type\'s map has one key that says the kind, as "array" does; it has {found}',
            )
        (head,) = heads
        if head == "object":
            name = form.get("name")
            if name is not None and not isinstance(name, str):
                raise InvalidArgs.at(f"{path}.name", f"is a string, not {kind_of(name)}")
            return self.object_of(form["object"], f"{path}.object", depth, name=name)
        if "name" in form:
            raise InvalidArgs.at(f"{path}.name", "only an object has a name")
        return _FORMS[head](self, form[head], f"{path}.{head}", depth)

    def array_of(self, value: Any, path: str, depth: int) -> TypeSpec:
        return Array(self.read(value, path, depth + 1))

    def object_from(self, value: Any, path: str, depth: int) -> TypeSpec:
        return self.object_of(value, path, depth)

    def map_of(self, value: Any, path: str, depth: int) -> TypeSpec:
        """``{:map, X}``, where X is a type, fields by name, or Ash's constraints."""
        mapping = as_mapping(value, path)
        if not value and isinstance(value, dict | list | tuple):
            return Map(Scalar("any"))
        if mapping is None:
            if isinstance(value, list) and all(isinstance(item, dict) for item in value):
                return self.object_of(value, path, depth)
            return Map(self.read(value, path, depth + 1))
        if isinstance(mapping.get("fields"), dict | list | tuple):
            return read_schema(self, {"type": "map", "constraints": mapping}, path, depth)
        if _is_type_form(mapping):
            return Map(self.read(mapping, path, depth + 1))
        return self.object_of(mapping, path, depth)

    def keyed_map(self, key: Any, value: Any, path: str, depth: int) -> TypeSpec:
        if self.read(key, path, depth + 1) not in {Scalar("string"), Scalar("any")}:
            raise InvalidArgs.at(path, "map keys are strings on the wire")
        return Map(self.read(value, path, depth + 1))

    def enum_from(self, value: Any, path: str, _depth: int) -> TypeSpec:
        if not isinstance(value, list | tuple):
            raise InvalidArgs.at(path, f"expected a list of values, not {kind_of(value)}")
        return enum_of(value, path)

    def const_from(self, value: Any, path: str, _depth: int) -> TypeSpec:
        return enum_of([value], path)

    def optional_of(self, value: Any, path: str, depth: int) -> TypeSpec:
        return nullable(self.read(value, path, depth + 1))

    def union_from(self, value: Any, path: str, depth: int) -> TypeSpec:
        if not isinstance(value, list | tuple) or not value:
            raise InvalidArgs.at(path, "expected a list of types")
        if len(value) > MAX_ENUM_VALUES:
            raise InvalidArgs.at(path, f"a union has at most {MAX_ENUM_VALUES} members")
        members = [
            self.read(item, f"{path}[{index}]", depth + 1)
            for index, item in enumerate(value)
            if not _is_null(item)
        ]
        if not members:
            raise InvalidArgs.at(path, "null alone is no type")
        return union(members, null=len(members) < len(value))

    def code_in(self, value: Any, path: str, _depth: int) -> TypeSpec:
        return Media("code", language_of(value, path))


_FORMS: Final[dict[str, Callable[[TypeReader, Any, str, int], TypeSpec]]] = {
    "array": TypeReader.array_of,
    "list": TypeReader.array_of,
    "map": TypeReader.map_of,
    "dict": TypeReader.map_of,
    "object": TypeReader.object_from,
    "enum": TypeReader.enum_from,
    "one_of": TypeReader.enum_from,
    "values": TypeReader.enum_from,
    "literal": TypeReader.enum_from,
    "const": TypeReader.const_from,
    "optional": TypeReader.optional_of,
    "nullable": TypeReader.optional_of,
    "union": TypeReader.union_from,
    "anyOf": TypeReader.union_from,
    "oneOf": TypeReader.union_from,
    "any_of": TypeReader.union_from,
    "code": TypeReader.code_in,
}


_TUPLE_HEADS: Final = frozenset(_FORMS) | {"parameterized", "tuple"}


def _is_type_form(mapping: dict[str, Any]) -> bool:
    """Whether what stands behind "map" is a type, not fields by name.

    An Elixir map or keyword list has atoms for keys and is always fields: in Elixir a type is an
    atom or a tuple. One with string keys is a type if it reads as one; ``{"object": ...}`` says
    the other thing beyond doubt.
    """
    if any(isinstance(key, Atom) for key in mapping):
        return False
    if "type" in mapping:
        return mapping.keys() <= TYPE_KEYS
    return bool(mapping.keys() & _FORMS.keys()) and mapping.keys() <= TYPE_KEYS | {"name"}


def _is_null(value: Any) -> bool:
    if isinstance(value, dict):
        return value == {"type": "null"}
    return value is None or (isinstance(value, str) and value.strip() in {"null", "nil", "None"})


CONSTRAINTS = frozenset(
    {
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minLength", "maxLength", "pattern", "format", "minItems", "maxItems", "uniqueItems"),
    }
)
"""JSON Schema's words that a type has no room for: DSPy would not hold the LM to them."""


def _unknown_key(key: str, path: str) -> dict[str, Any]:
    shown = key[:64]
    close = nearest(shown, TYPE_KEYS)
    if shown in CONSTRAINTS:
        close, hint = None, "say it in the field's description, which the LM reads"
    elif close:
        hint = f"did you mean {close!r}?"
    else:
        hint = 'fields by name are written {"object": ...}'
    fault = {"path": f"{path}.{shown}", "message": f"unknown key {clipped(key)}; {hint}"}
    return fault | ({"nearest": close} if close else {})
