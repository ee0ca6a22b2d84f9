"""Signatures as data: what goes in, what comes out, and the instructions between.

::

    "question: str, ctx: list[str] -> answer: Literal['yes', 'no'], score: float = 0.5"
    {"inputs": [field, ...], "outputs": [field, ...], "instructions"?, "name"?}

After a colon stands a type, in any spelling of ``types.parse_type``; a bare name is a string; a
field with a default may be left out. A field's map is ``{name, type, description, optional,
default}``. Both sides need a field: DSPy would run without inputs, but an empty list is what a
host sends whose fields got lost, and no optimizer can tell two such examples apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn, get_args

from bridge.specs.checking import nearest
from bridge.specs.fields import MAX_UNKNOWN, FieldRules, field_of, read_fields
from bridge.specs.names import RESERVED, Side, name_fault, reserved_for
from bridge.specs.types.defaults import kind_of
from bridge.specs.types.model import MAX_FIELDS, MISSING, FieldSpec, Missing
from bridge.specs.types.reading import parse_type
from bridge.specs.types.strings import parse_literal
from protocol.errors import InvalidArgs

__all__ = [
    "ALIASES",
    "MISSING",
    "RESERVED",
    "FieldSpec",
    "Missing",
    "SignatureSpec",
    "check_names_for",
    "parse_signature",
    "reserved_for",
]

MAX_SIGNATURE_LENGTH: Final = 100_000
"""Characters of the string form: 128 fields with long enums fit."""
MAX_INSTRUCTIONS: Final = 100_000
"""Characters: optimizers write long instructions, but these go with every single call."""
MAX_SIGNATURE_NAME: Final = 255
"""Characters: an Elixir module's name is an atom, and an atom has at most 255."""

_KEYS: Final = ("inputs", "outputs", "instructions", "name")


class Alias(NamedTuple):
    """Another key for one of a signature's own, and whose word it is."""

    key: str
    whose: str


ALIASES: Final[dict[str, Alias]] = {
    "input_fields": Alias("inputs", "the attribute of the Ash Signature resource"),
    "output_fields": Alias("outputs", "the attribute of the Ash Signature resource"),
    "docstring": Alias("instructions", "the attribute of the Ash Signature resource"),
}


@dataclass(frozen=True, slots=True)
class SignatureSpec:
    """One signature. Field names are unique across both sides."""

    inputs: tuple[FieldSpec, ...]
    outputs: tuple[FieldSpec, ...]
    instructions: str | None = None
    name: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """``{"inputs": [...], "outputs": [...], "instructions"?, "name"?}``, canonical."""
        wire: dict[str, Any] = {
            "inputs": [each.to_wire() for each in self.inputs],
            "outputs": [each.to_wire() for each in self.outputs],
        }
        if self.instructions is not None:
            wire["instructions"] = self.instructions
        if self.name is not None:
            wire["name"] = self.name
        return wire


def parse_signature(value: Any, path: str = "signature") -> SignatureSpec:
    """A signature in its string or map form.

    Raises:
        InvalidArgs: with every fault as ``{path, message}``.
    """
    if isinstance(value, str):
        return _from_text(value, path)
    if isinstance(value, dict):
        return _from_map(value, path)
    raise InvalidArgs.at(
        path, f'expected "inputs -> outputs" or {{"inputs", "outputs"}}, not {kind_of(value)}'
    )


def check_names_for(spec: SignatureSpec, module_type: str, path: str = "signature") -> None:
    """Refuse the names that a module type keeps for itself.

    Raises:
        InvalidArgs: with every such name.
    """
    faults = []
    for side, fields in _sides(spec.inputs, spec.outputs):
        reserved = reserved_for(module_type, side)
        faults += [
            {
                "path": f"{path}.{side}[{index}].name",
                "message": f"{each.name!r} is reserved by {module_type}: {reserved[each.name]}",
            }
            for index, each in enumerate(fields)
            if each.name in reserved
        ]
    if faults:
        raise InvalidArgs.of(faults)


def _sides(
    inputs: tuple[FieldSpec, ...], outputs: tuple[FieldSpec, ...]
) -> tuple[tuple[Side, tuple[FieldSpec, ...]], tuple[Side, tuple[FieldSpec, ...]]]:
    return ("inputs", inputs), ("outputs", outputs)


# --- The map form ---------------------------------------------------------------------------------


def _from_map(value: dict[Any, Any], path: str) -> SignatureSpec:
    faults: list[dict[str, Any]] = []
    said = _own_keys(value, path, faults)
    texts: dict[str, str | None] = {}
    for key, longest in (("instructions", MAX_INSTRUCTIONS), ("name", MAX_SIGNATURE_NAME)):
        texts[key] = _text(said.get(key), f"{path}.{key}", longest, faults)
    sides: dict[str, tuple[FieldSpec, ...]] = {}
    for side in get_args(Side):
        if said.get(side) is None:
            faults.append({"path": f"{path}.{side}", "message": "is missing"})
            continue
        rules = FieldRules(parse_type, partial(name_fault, side=side))
        try:
            sides[side] = read_fields(said[side], f"{path}.{side}", rules)
        except InvalidArgs as error:
            faults.extend(error.details["faults"])
    inputs, outputs = sides.get("inputs"), sides.get("outputs")
    faults.extend(_side_faults(inputs, outputs, path))
    if faults or inputs is None or outputs is None:
        raise InvalidArgs.of(faults)
    return SignatureSpec(inputs, outputs, texts["instructions"], texts["name"])


def _own_keys(value: dict[Any, Any], path: str, faults: list[dict[str, Any]]) -> dict[str, Any]:
    """The map under our own keys; a null says nothing, as Elixir sends it for what is not set."""
    said: dict[str, Any] = {}
    for given, body in value.items():
        key = ALIASES[given].key if given in ALIASES else given
        if key not in _KEYS:
            if len(faults) < MAX_UNKNOWN:
                faults.append(_unknown_key(given, path))
        elif said.get(key) is None:
            said[key] = body
        elif body is not None:
            message = f"stands beside another key for {key}"
            faults.append({"path": f"{path}.{given}", "message": message})
    return said


def _unknown_key(given: Any, path: str) -> dict[str, Any]:
    if not isinstance(given, str):
        return {"path": path, "message": "a map's keys are strings"}
    shown = given[:64]
    close = nearest(shown, [*_KEYS, *ALIASES])
    fault = {"path": f"{path}.{shown}", "message": f"unknown key; known: {', '.join(_KEYS)}"}
    if close is not None:
        fault |= {"message": f"unknown key; did you mean {close!r}?", "nearest": close}
    return fault


def _text(value: Any, path: str, longest: int, faults: list[dict[str, Any]]) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        faults.append({"path": path, "message": f"is a string, not {kind_of(value)}"})
    elif len(value) > longest:
        faults.append({"path": path, "message": f"is longer than {longest} characters"})
    elif value.strip():
        return str(value)
    return None


def _side_faults(
    inputs: tuple[FieldSpec, ...] | None, outputs: tuple[FieldSpec, ...] | None, path: str
) -> list[dict[str, Any]]:
    faults = []
    for side, fields in (("inputs", inputs), ("outputs", outputs)):
        if fields == ():
            message = f"a signature needs at least one of its {side}"
            faults.append({"path": f"{path}.{side}", "message": message})
    known = {each.name for each in inputs or ()}
    faults += [
        {
            "path": f"{path}.outputs[{index}].name",
            "message": f"{each.name!r} is an input, too; a name stands on one side only",
        }
        for index, each in enumerate(outputs or ())
        if each.name in known
    ]
    return faults


# --- The string form ------------------------------------------------------------------------------

_MARK: Final = re.compile(
    r"""(?P<open>[\[({])|(?P<close>[\])}])|(?P<arrow>->)|(?P<comma>,)|(?P<colon>:)
    |(?P<equals>=(?![=>]))
    |(?P<string>"[^"\\]*+(?:\\.[^"\\]*+)*+"|'[^'\\]*+(?:\\.[^'\\]*+)*+')|(?P<quote>["'])""",
    re.VERBOSE | re.DOTALL,
)
_PARTNERS: Final = {"]": "[", ")": "(", "}": "{"}


class _Mark(NamedTuple):
    kind: str
    start: int
    end: int


@dataclass(slots=True)
class _Part:
    """Where one field stands in the text."""

    start: int
    end: int
    colon: _Mark | None = None
    equals: _Mark | None = None


def _from_text(text: str, path: str) -> SignatureSpec:
    if len(text) > MAX_SIGNATURE_LENGTH:
        raise InvalidArgs.at(path, f"is longer than {MAX_SIGNATURE_LENGTH} characters")
    marks = _marks(text, path)
    arrows = [index for index, mark in enumerate(marks) if mark.kind == "arrow"]
    if len(arrows) != 1:
        found = "no ->" if not arrows else "-> more than once"
        raise InvalidArgs.at(path, f'{found}; a signature is written "question -> answer: float"')
    at = arrows[0]
    faults: list[dict[str, Any]] = []
    sides: list[tuple[FieldSpec, ...]] = []
    sided: tuple[tuple[Side, list[_Part]], ...] = (
        ("inputs", _parts(marks[:at], 0, marks[at].start)),
        ("outputs", _parts(marks[at + 1 :], marks[at].end, len(text))),
    )
    for side, parts in sided:
        fields, wrong = _text_side(text, parts, side, f"{path}.{side}")
        sides.append(fields)
        faults += wrong
    if not faults:
        faults = _side_faults(sides[0], sides[1], path)
    if faults:
        raise InvalidArgs.of(faults)
    return SignatureSpec(sides[0], sides[1])


def _marks(text: str, path: str) -> list[_Mark]:
    """The commas, colons, equals signs and arrows that are in no brackets and no quotes."""
    marks: list[_Mark] = []
    opened: list[tuple[str, int]] = []
    for found in _MARK.finditer(text):
        kind = str(found.lastgroup)
        if kind == "open":
            opened.append((found.group(), found.start()))
        elif kind == "close":
            if not opened or opened.pop()[0] != _PARTNERS[found.group()]:
                _fail(path, f"{found.group()} closes nothing that is open", found.start())
        elif kind == "quote":
            _fail(path, "the string is not closed", found.start())
        elif kind != "string" and not opened:
            marks.append(_Mark(kind, found.start(), found.end()))
    if opened:
        _fail(path, f"{opened[-1][0]} is not closed", opened[-1][1])
    return marks


def _fail(path: str, message: str, at: int) -> NoReturn:
    raise InvalidArgs.at(path, f"column {at + 1}: {message}", column=at + 1)


def _parts(marks: list[_Mark], start: int, end: int) -> list[_Part]:
    """The places between the commas; of each, its first colon and the first = behind that."""
    parts = [_Part(start, end)]
    for mark in marks:
        last = parts[-1]
        if mark.kind == "comma":
            last.end = mark.start
            parts.append(_Part(mark.end, end))
        elif mark.kind == "colon" and last.colon is None and last.equals is None:
            last.colon = mark
        elif mark.kind == "equals" and last.equals is None:
            last.equals = mark
    return parts


def _text_side(
    text: str, parts: list[_Part], side: Side, path: str
) -> tuple[tuple[FieldSpec, ...], list[dict[str, Any]]]:
    """The fields of one side, and what is wrong with the others."""
    if len(parts) == 1 and not text[parts[0].start : parts[0].end].strip():
        return (), [{"path": path, "message": f"a signature needs at least one of its {side}"}]
    if len(parts) > MAX_FIELDS:
        return (), [{"path": path, "message": f"{len(parts)} fields; {MAX_FIELDS} are the most"}]
    fields: dict[str, FieldSpec] = {}
    faults: list[dict[str, Any]] = []
    for index, part in enumerate(parts):
        here = f"{path}[{index}]"
        try:
            field = _text_field(text, part, side, here)
        except InvalidArgs as error:
            faults += error.details["faults"]
            continue
        if field.name in fields:
            faults.append({"path": here, "message": f"{field.name!r} is there twice"})
        fields[field.name] = field
    return tuple(fields.values()), faults


def _text_field(text: str, part: _Part, side: Side, path: str) -> FieldSpec:
    """``name``, ``name: type``, ``name: type = default`` or ``name = default``."""
    stop = part.equals.start if part.equals else part.end
    name = text[part.start : part.colon.start if part.colon else stop].strip()
    if not name:
        _fail(path, "a field is missing here", part.start)
    faults: list[dict[str, Any]] = []
    if (why := name_fault(name, side)) is not None:
        faults.append({"path": f"{path}.name", "message": why})
    default: Any = MISSING
    try:
        typed = text[part.colon.end : stop] if part.colon else "string"
        kind = parse_type(typed, f"{path}.type")
        if part.equals:
            default = parse_literal(text[part.equals.end : part.end], f"{path}.default")
    except InvalidArgs as error:
        raise InvalidArgs.of([*faults, *error.details["faults"]]) from None
    if faults:
        raise InvalidArgs.of(faults)
    return field_of(name, kind, path, optional=True if part.equals else None, default=default)
