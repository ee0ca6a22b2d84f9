"""Fields: named, typed places in a signature or an object, in every form a host can send.

::

    [{"name": "a", "type": "string", ...}]              what an Ash resource stores
    {"a": "string", "b": {"type": "date", ...}}         a map by name
    [a: :string, b: [type: :date, allow_nil?: false]]   an Elixir keyword list

How types are read and which names are allowed comes from the caller, in ``FieldRules``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bridge.specs.checking import nearest
from bridge.specs.types.defaults import kind_of, mismatch, why_not_plain
from bridge.specs.types.model import MAX_FIELDS, MISSING, FieldSpec, Nullable, TypeSpec
from bridge.specs.types.spellings import clipped
from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FIELD_ALIASES",
    "FIELD_KEYS",
    "MAX_DEFAULT",
    "MAX_DESCRIPTION",
    "MAX_UNKNOWN",
    "TYPE_KEYS",
    "FieldRules",
    "as_mapping",
    "field_of",
    "read_fields",
]

MAX_DESCRIPTION: Final = 10_000
"""Characters of one description: it is part of every prompt, and a book in it is a mistake."""

MAX_DEFAULT: Final = 10_000
"""Characters of one default as JSON: it is part of the spec, of its hash and of every export."""
MAX_UNKNOWN: Final = 8
"""Unknown keys reported of one map. Looking for the nearest right one takes time for each."""

FIELD_KEYS: Final = ("name", "type", "description", "optional", "default")
FIELD_ALIASES: Final[dict[str, str]] = {
    "desc": "the Elixir DSL's and DSPy's own word for description",
    "allow_nil?": "Ash's word for optional, in field constraints",
}
"""Other keys of a field, and whose they are."""

TYPE_KEYS: Final = frozenset(
    {"type", "array", "list", "map", "dict", "object", "optional", "nullable", "code"}
    | {"enum", "one_of", "values", "literal", "const", "union", "anyOf", "oneOf", "any_of"}
    | {"items", "properties", "required", "additionalProperties", "fields", "format"}
    | {"constraints", "title", "examples", "$schema", "$comment"}
)
"""Keys that say what a type is; in a field's map they may stand beside the field's own."""


@dataclass(frozen=True, slots=True)
class FieldRules:
    """What differs between a signature's fields and an object's.

    Attributes:
        read_type: a wire value and its path to a type.
        name_fault: why a name is refused, or None.
        optional_unless_said: whether a field that does not say is optional; None leaves it to
            the type (a nullable one may be left out) and the default.
    """

    read_type: Callable[[Any, str], TypeSpec]
    name_fault: Callable[[str], str | None]
    optional_unless_said: Callable[[str], bool | None] = lambda _name: None


class _Entry(NamedTuple):
    name: Any
    body: Any
    path: str


def read_fields(value: Any, path: str, rules: FieldRules) -> tuple[FieldSpec, ...]:
    """Every field of one side or object, in order.

    Raises:
        InvalidArgs: with all faults of all fields.
    """
    entries = _entries(value, path)
    if len(entries) > MAX_FIELDS:
        raise InvalidArgs.at(path, f"{len(entries)} fields; {MAX_FIELDS} are the most")
    fields: list[FieldSpec] = []
    faults: list[dict[str, Any]] = []
    seen: set[str] = set()
    for entry in entries:
        try:
            field = _field(entry, rules)
        except InvalidArgs as error:
            faults.extend(error.details["faults"])
            continue
        if field.name in seen:
            faults.append({"path": entry.path, "message": f"{field.name!r} is there twice"})
        seen.add(field.name)
        fields.append(field)
    if faults:
        raise InvalidArgs.of(faults)
    return tuple(fields)


def field_of(
    name: str,
    kind: TypeSpec,
    path: str,
    *,
    description: str = "",
    optional: bool | None = None,
    default: Any = MISSING,
) -> FieldSpec:
    """The canonical field of what was said about it.

    A default other than null makes a field optional; an optional field without one defaults to
    null; a nullable type of which nothing else is said may be left out. A null default says
    nothing: Elixir sends it with every field.

    Raises:
        InvalidArgs: at ``path.default`` where the default does not fit the type.
    """
    if default is not MISSING and default is not None:
        if why := why_not_plain(default) or mismatch(kind, default):
            raise InvalidArgs.at(f"{path}.default", why)
        field = FieldSpec(name, kind, description, optional=True, default=default)
        if len(field.default_json or "") > MAX_DEFAULT:
            message = f"a default has at most {MAX_DEFAULT} characters as JSON"
            raise InvalidArgs.at(f"{path}.default", message)
        return field
    if optional is None:
        optional = isinstance(kind, Nullable)
    if optional:
        return FieldSpec(name, kind, description, optional=True, default=None)
    return FieldSpec(name, kind, description)


def as_mapping(value: Any, path: str) -> dict[str, Any] | None:
    """A map, or a keyword list as a map (``[("a", 1)]``, or ``[["a", 1]]`` once encoded); or None.

    Raises:
        InvalidArgs: a key that is no string, or is there twice.
    """
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise InvalidArgs.at(path, "a map's keys are strings")
        return value
    if not isinstance(value, list | tuple) or not value:
        return None
    pairs: dict[str, Any] = {}
    for item in value:
        if not (isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str)):
            return None
        if item[0] in pairs:
            raise InvalidArgs.at(path, f"the key {clipped(item[0])} is there twice")
        pairs[item[0]] = item[1]
    return pairs


def _entries(value: Any, path: str) -> list[_Entry]:
    by_name = as_mapping(value, path)
    if by_name is not None:
        return [_Entry(str(k), body, f"{path}.{k[:64]}") for k, body in by_name.items()]
    if not isinstance(value, list):
        raise InvalidArgs.at(
            path, f"expected a list of fields or a map by name, not {kind_of(value)}"
        )
    entries = []
    for index, item in enumerate(value):
        here = f"{path}[{index}]"
        body = as_mapping(item, here)
        if body is None:
            raise InvalidArgs.at(
                here, f'expected {{"name": ..., "type": ...}}, not {kind_of(item)}'
            )
        named = dict(body)
        entries.append(_Entry(named.pop("name", None), named, here))
    return entries


def _field(entry: _Entry, rules: FieldRules) -> FieldSpec:
    faults = _name_faults(entry, rules)
    try:
        field = _described(entry, rules)
    except InvalidArgs as error:
        raise InvalidArgs.of([*faults, *error.details["faults"]]) from None
    if faults:
        raise InvalidArgs.of(faults)
    return field


def _name_faults(entry: _Entry, rules: FieldRules) -> list[dict[str, Any]]:
    if isinstance(entry.name, str):
        why = rules.name_fault(entry.name)
    else:
        why = "is missing" if entry.name is None else f"is a string, not {kind_of(entry.name)}"
    return [] if why is None else [{"path": f"{entry.path}.name", "message": why}]


def _described(entry: _Entry, rules: FieldRules) -> FieldSpec:
    name = entry.name if isinstance(entry.name, str) else ""
    body = as_mapping(entry.body, entry.path)
    if body is None:
        kind = rules.read_type(entry.body, entry.path)
        return field_of(name, kind, entry.path, optional=rules.optional_unless_said(name))
    said = dict(body)
    description = _description(said, entry.path)
    default = said.pop("default", MISSING)
    optional = _optional(said, entry.path)
    return field_of(
        name,
        _type(said, entry.path, rules),
        entry.path,
        description=description,
        optional=rules.optional_unless_said(name) if optional is None else optional,
        default=default,
    )


def _description(said: dict[str, Any], path: str) -> str:
    texts = []
    for key in ("description", "desc"):
        text = said.pop(key, None)
        if text is None:
            continue
        if not isinstance(text, str):
            raise InvalidArgs.at(f"{path}.{key}", f"a description is a string, not {kind_of(text)}")
        if len(text) > MAX_DESCRIPTION:
            message = f"a description has at most {MAX_DESCRIPTION} characters"
            raise InvalidArgs.at(f"{path}.{key}", message)
        texts.append(text)
    return max(texts, key=bool, default="")


def _optional(said: dict[str, Any], path: str) -> bool | None:
    """What ``optional`` or ``allow_nil?`` says; ``{"optional": type}`` is left, as it is a type."""
    answer: bool | None = None
    for key in ("allow_nil?", "optional"):
        flag = said.get(key)
        if key in said and (flag is None or isinstance(flag, bool)):
            del said[key]
            answer = answer if flag is None else flag
        elif flag is not None and ("type" in said or key != "optional"):
            raise InvalidArgs.at(f"{path}.{key}", f"is true or false, not {kind_of(flag)}")
    return answer


def _type(said: dict[str, Any], path: str, rules: FieldRules) -> TypeSpec:
    of_types = TYPE_KEYS | {"name"} if "object" in said else TYPE_KEYS
    unknown = [key for key in said if key not in of_types][:MAX_UNKNOWN]
    if unknown:
        raise InvalidArgs.of([_unknown(key, path) for key in unknown])
    if not said:
        return rules.read_type("string", path)
    if set(said) == {"type"}:
        return rules.read_type(said["type"], f"{path}.type")
    return rules.read_type(said, path)


def _unknown(key: str, path: str) -> dict[str, Any]:
    shown = key[:64]
    close = nearest(shown, FIELD_KEYS) or nearest(shown, [*FIELD_ALIASES, *TYPE_KEYS])
    fault = {"path": f"{path}.{shown}", "message": f"unknown key; known: {', '.join(FIELD_KEYS)}"}
    if close is not None:
        fault |= {"message": f"unknown key; did you mean {close!r}?", "nearest": close}
    return fault
