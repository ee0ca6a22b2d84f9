"""The type language as values: frozen, hashable, and equal exactly when their wire forms are.

Every value is canonical: what the language can say in two ways has one value here, and
``to_wire()`` is its one JSON form::

    Scalar("string")              "string"
    Array(Scalar("string"))       {"array": "string"}
    Map(Scalar("integer"))        {"map": "integer"}            keys are strings
    Enum(("a", "b"))              {"enum": ["a", "b"]}
    Object((FieldSpec(...),))     {"object": [field, ...], "name"?: string}
    Nullable(Scalar("date"))      {"optional": "date"}
    Union((a, b))                 {"union": [a, b]}
    Media("image")                "image"
    Media("code", "python")       {"code": "python"}

Reading any other spelling is the business of ``types.parse_type``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, final, get_args

__all__ = [
    "MAX_DEPTH",
    "MAX_ENUM_VALUES",
    "MAX_FIELDS",
    "MAX_READING_DEPTH",
    "MEDIA",
    "MISSING",
    "SCALARS",
    "Array",
    "Enum",
    "FieldSpec",
    "Map",
    "Media",
    "MediaName",
    "Missing",
    "Nullable",
    "Object",
    "Scalar",
    "ScalarName",
    "TypeSpec",
    "Union",
    "depth_of",
    "nullable",
    "union",
]

MAX_DEPTH: Final = 16
"""Types within types. A schema any deeper is not filled in by an LM, and recursion needs an end."""
MAX_READING_DEPTH: Final = 2 * MAX_DEPTH
"""Levels as written: parentheses and an Optional of an Optional are levels that mean nothing."""
MAX_FIELDS: Final = 128
"""Fields of one object, or of one side of a signature. Each is a section of every prompt."""
MAX_ENUM_VALUES: Final = 256
"""Values of one enum, and members of one union. Each is spelt out in every prompt."""

ScalarName = Literal[
    "string", "integer", "float", "boolean", "any", "date", "time", "datetime", "decimal"
]
MediaName = Literal["image", "audio", "file", "history", "code", "reasoning"]
SCALARS: Final[tuple[ScalarName, ...]] = get_args(ScalarName)
MEDIA: Final[tuple[MediaName, ...]] = get_args(MediaName)


@final
class Missing:
    """The type of ``MISSING``: a field without a default, where None would be a default."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value. On the wire dates and times are ISO 8601 strings, decimals are strings."""

    name: ScalarName

    def to_wire(self) -> str:
        """The scalar's own name."""
        return self.name


@dataclass(frozen=True, slots=True)
class Media:
    """A value that DSPy has a type of its own for; only ``code`` may carry a language."""

    name: MediaName
    language: str | None = None

    def __post_init__(self) -> None:
        if self.language is not None and self.name != "code":
            raise ValueError("only code has a language")

    def to_wire(self) -> str | dict[str, str]:
        """The name, or ``{"code": language}``."""
        return self.name if self.language is None else {self.name: self.language}


@dataclass(frozen=True, slots=True)
class Array:
    """A list whose items all have one type."""

    of: TypeSpec

    def to_wire(self) -> dict[str, Any]:
        """``{"array": type}``."""
        return {"array": self.of.to_wire()}


@dataclass(frozen=True, slots=True)
class Map:
    """A map from strings to values of one type."""

    values: TypeSpec

    def to_wire(self) -> dict[str, Any]:
        """``{"map": type}``."""
        return {"map": self.values.to_wire()}


@dataclass(frozen=True, slots=True)
class Enum:
    """One of some literal values, in the order they were given."""

    values: tuple[str | int | bool, ...]
    # Python holds 1 == True; the wire does not.
    kinds: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kinds = tuple(type(value).__name__ for value in self.values)
        if not kinds or len(set(zip(kinds, self.values, strict=True))) != len(kinds):
            raise ValueError("an enum has at least one value and no value twice")
        object.__setattr__(self, "kinds", kinds)

    def __contains__(self, value: object) -> bool:
        return any(type(value) is type(one) and value == one for one in self.values)

    def to_wire(self) -> dict[str, Any]:
        """``{"enum": [value, ...]}``."""
        return {"enum": list(self.values)}


@dataclass(frozen=True, slots=True)
class Nullable:
    """A value of the type, or null. Never directly within another: build it with ``nullable``."""

    of: TypeSpec

    def __post_init__(self) -> None:
        if isinstance(self.of, Nullable):
            raise TypeError("nullable twice over: use nullable()")

    def to_wire(self) -> dict[str, Any]:
        """``{"optional": type}``."""
        return {"optional": self.of.to_wire()}


@dataclass(frozen=True, slots=True)
class Union:
    """A value of any one of several types; flat and without null: build it with ``union``."""

    of: tuple[TypeSpec, ...]

    def __post_init__(self) -> None:
        if len(set(self.of)) != len(self.of) or len(self.of) < 2:
            raise ValueError("a union has two or more different members: use union()")
        if any(isinstance(member, Nullable | Union) for member in self.of):
            raise ValueError("a union is flat and null stands outside it: use union()")

    def to_wire(self) -> dict[str, Any]:
        """``{"union": [type, ...]}``."""
        return {"union": [member.to_wire() for member in self.of]}


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A named, typed, described place: of a signature, or of an object.

    Attributes:
        description: "" where the host gave none.
        optional: may be left out; then ``default`` stands in. True exactly when there is a default.
        default: a plain JSON value, or ``MISSING``. None may be the default of any type: whoever
            builds a value type from this must let null in then.
    """

    name: str
    type: TypeSpec
    description: str = ""
    optional: bool = False
    # Lists and maps do not hash, and 1 == True: the default is compared by its JSON text.
    default: Any = field(default=MISSING, compare=False)
    default_json: str | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.optional is (self.default is MISSING):
            raise ValueError("a field is optional exactly when it has a default")
        text = None if self.default is MISSING else json.dumps(self.default, sort_keys=True)
        object.__setattr__(self, "default_json", text)

    def to_wire(self) -> dict[str, Any]:
        """``{name, type, description, optional, default?}``; the default is a fresh copy."""
        wire: dict[str, Any] = {
            "name": self.name,
            "type": self.type.to_wire(),
            "description": self.description,
            "optional": self.optional,
        }
        if self.default_json is not None:
            wire["default"] = json.loads(self.default_json)
        return wire


@dataclass(frozen=True, slots=True)
class Object:
    """A map with known fields, each with a type and description of its own."""

    fields: tuple[FieldSpec, ...]
    name: str | None = None

    def __post_init__(self) -> None:
        if not self.fields or len({each.name for each in self.fields}) != len(self.fields):
            raise ValueError("an object has at least one field and no name twice")

    def to_wire(self) -> dict[str, Any]:
        """``{"object": [field, ...], "name"?: string}``."""
        wire: dict[str, Any] = {"object": [each.to_wire() for each in self.fields]}
        if self.name is not None:
            wire["name"] = self.name
        return wire


TypeSpec: TypeAlias = Scalar | Media | Array | Map | Enum | Nullable | Union | Object


def nullable(of: TypeSpec) -> TypeSpec:
    """The type with null added, whether or not it was there."""
    return of if isinstance(of, Nullable) else Nullable(of)


def union(members: list[TypeSpec], *, null: bool = False) -> TypeSpec:
    """The one type that means "any of these": flattened, each once, null on the outside.

    Args:
        members: at least one.
        null: null is a member, too.
    """
    flat: dict[TypeSpec, None] = {}
    for member in members:
        bare = member
        if isinstance(bare, Nullable):
            null, bare = True, bare.of
        flat.update(dict.fromkeys(bare.of if isinstance(bare, Union) else (bare,)))
    merged = next(iter(flat)) if len(flat) == 1 else Union(tuple(flat))
    return nullable(merged) if null else merged


def depth_of(kind: TypeSpec) -> int:
    """How many levels of types are within the type: 0 for a scalar, 1 for a list of scalars."""
    match kind:
        case Array(of) | Map(of) | Nullable(of):
            return 1 + depth_of(of)
        case Union(of):
            return 1 + max(depth_of(member) for member in of)
        case Object(fields):
            return 1 + max(depth_of(each.type) for each in fields)
        case _:
            return 0
