"""Signatures as DSPy has them, and inputs as the signature wants them.

Annotations are built from our own type tree, never from text: DSPy's parser imports modules by
name. Inputs are validated and coerced here because DSPy only warns; every fault is `invalid_args`
with its path.
"""

from __future__ import annotations

import datetime as dt
import decimal
import operator
import re
from copy import deepcopy
from functools import partial, reduce
from typing import TYPE_CHECKING, Annotated, Any, Literal

import dspy
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    create_model,
)

from bridge.engine.media import read_media
from bridge.specs.checking import faults_of
from bridge.specs.types.model import (
    MISSING,
    Array,
    Enum,
    FieldSpec,
    Map,
    Media,
    Nullable,
    Object,
    Scalar,
    TypeSpec,
    Union,
)
from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bridge.scope import Scope
    from bridge.specs.signatures import SignatureSpec

__all__ = ["FieldReader", "annotation_of", "build_signature", "without_markers"]

_SCALARS: dict[str, Any] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "any": Any,
    "date": dt.date,
    "time": dt.time,
    "datetime": dt.datetime,
    "decimal": decimal.Decimal,
}

_MEDIA: dict[str, Any] = {
    "image": dspy.Image,
    "audio": dspy.Audio,
    "file": dspy.File,
    "history": dspy.History,
    "code": dspy.Code,
    "reasoning": dspy.Reasoning,
}

MARKER = "<<CUSTOM-TYPE-"
"""DSPy turns the text between such markers into images and files: given text may not hold any."""

HARMLESS = "<<CUSTOM TYPE "
"""What stands in a marker's place; whatever surrounds it, it is no marker again."""

_WRITTEN = ConfigDict(protected_namespaces=(), arbitrary_types_allowed=True)
"""Of objects in a signature: as a plain class would have it, which shows in the LM's schema."""

_READ = ConfigDict(**_WRITTEN, extra="forbid", validate_default=True)
"""Of objects from the host: what it misspelt is not dropped in silence."""


class _WrittenObject(BaseModel):
    """What every object of a signature is."""

    model_config = _WRITTEN

    def __reduce__(self) -> Any:
        # DSPy hashes demonstrations by their pickled bytes; it never reads them back.
        return dict, ({name: getattr(self, name) for name in type(self).model_fields},)


class _ReadObject(_WrittenObject):
    """An object from the host."""

    model_config = _READ


def annotation_of(  # noqa: PLR0911 - one for each type
    kind: TypeSpec, called: str = "Object", *, reading: bool = False
) -> Any:
    """The Python annotation of one of our types; nested objects become pydantic models.

    Args:
        kind: the type.
        called: the name of an object that has none of its own; an LM sees it in its schema.
        reading: whether values come from the host: media are then only what the wire carries.
    """
    within = partial(annotation_of, called=called, reading=reading)
    match kind:
        case Scalar(name):
            return _SCALARS[name]
        case Media(name, language):
            media = dspy.Code[language] if language else _MEDIA[name]
            return (
                Annotated[media, BeforeValidator(partial(read_media, name))] if reading else media
            )
        case Array(of):
            return list[within(of)]  # type: ignore[misc]
        case Map(values):
            return dict[str, within(values)]  # type: ignore[misc]
        case Enum(values):
            return Literal[values]
        case Nullable(of):
            return within(of) | None
        case Union(members):
            return reduce(operator.or_, (within(member) for member in members))
        case Object():
            return _object_model(kind, _class_name(kind.name, called), reading=reading)
    raise TypeError(f"no annotation for {kind!r}")


def _object_model(kind: Object, name: str, *, reading: bool) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for item in kind.fields:
        default = ... if item.default is MISSING else item.default
        about = Field(default, description=item.description or None)
        fields[item.name] = (_field_annotation(item, reading=reading), about)
    return create_model(name, __base__=_ReadObject if reading else _WrittenObject, **fields)


def _field_annotation(item: FieldSpec, *, reading: bool = False) -> Any:
    called = "".join(part.capitalize() for part in item.name.split("_"))
    annotation = annotation_of(item.type, called or "Object", reading=reading)
    return annotation | None if item.default is None and annotation is not Any else annotation


def build_signature(spec: SignatureSpec) -> Any:
    """The DSPy signature class of `spec`."""
    fields: dict[str, Any] = {}
    for item in spec.inputs:
        fields[item.name] = (_field_annotation(item), dspy.InputField(**_describe(item)))
    for item in spec.outputs:
        # An output with a default may be left out of a reply; null is the default of an optional.
        default = {} if item.default is MISSING else {"default": item.default}
        about = {**_describe(item), **default}
        fields[item.name] = (_field_annotation(item), dspy.OutputField(**about))
    instructions = (spec.instructions,) if spec.instructions else ()
    name = _class_name(spec.name, "StringSignature")
    return dspy.Signature(fields, *instructions, signature_name=name)


def _class_name(name: str | None, otherwise: str) -> str:
    """The host's name as a class may have it: an LM sees it in a schema, Python in a repr."""
    return re.sub(r"\W+", "_", name) if name else otherwise


def _describe(item: FieldSpec) -> dict[str, Any]:
    return {"desc": item.description} if item.description else {}


class FieldReader:
    """Reads maps of field values: validated, coerced, ready for DSPy.

    Raises:
        InvalidArgs: the default of a field is no value of its type, which only DSPy's types know.
    """

    def __init__(self, fields: Iterable[FieldSpec]) -> None:
        self._fields = {item.name: item for item in fields}
        annotations = {
            name: _field_annotation(item, reading=True) for name, item in self._fields.items()
        }
        self._values = {name: TypeAdapter(kind) for name, kind in annotations.items()}
        self._defaults = {
            name: self._default(item)
            for name, item in self._fields.items()
            if item.default is not MISSING and item.default is not None
        }
        required = {name for name, item in self._fields.items() if item.default is MISSING}
        models: dict[str, Any] = {
            name: (kind, ... if name in required else None) for name, kind in annotations.items()
        }
        # Defaults are put in by hand: they have been read already.
        self._model = create_model(
            "Inputs", __config__=ConfigDict(**_WRITTEN, extra="forbid"), **models
        )
        self._loose = {name for name, item in self._fields.items() if _is_loose(item.type)}

    def read(
        self, values: Mapping[str, Any], path: str, scope: Scope | None = None
    ) -> dict[str, Any]:
        """`values` as the fields want them; an optional field that says nothing stays out.

        Raises:
            InvalidArgs: fields missing, unknown or ill-typed, each with its path.
        """
        said = {
            name: value for name, value in values.items() if not self._says_nothing(name, value)
        }
        try:
            read = self._model.model_validate(said)
        except ValidationError as error:
            raise InvalidArgs.of(faults_of(error, path, self._model)) from None
        except RecursionError:
            raise InvalidArgs.at(path, "is nested too deep") from None
        given: dict[str, Any] = {}
        for name in self._fields:
            if name in said:
                value = getattr(read, name)
                given[name] = self._defused(name, value, scope) if name in self._loose else value
            elif name in self._defaults:
                given[name] = deepcopy(self._defaults[name])
        return given

    def read_some(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A demonstration's values: those that fit their field coerced, the rest as they are."""
        read = dict(values)
        for name, adapter in self._values.items():
            if name in values:
                try:
                    read[name] = adapter.validate_python(values[name])
                except (ValidationError, RecursionError):
                    continue
        return read

    def _default(self, item: FieldSpec) -> Any:
        try:
            return self._values[item.name].validate_python(item.default)
        except ValidationError as error:
            faults = faults_of(error, f"signature.{item.name}.default")
            raise InvalidArgs.of(faults) from None

    def _says_nothing(self, name: str, value: Any) -> bool:
        """Whether this is the null that Elixir sends for what was not set."""
        item = self._fields.get(name)
        if value is not None or item is None or not item.optional:
            return False
        takes_null = isinstance(item.type, Nullable) or item.type == Scalar("any")
        return item.default is None or not takes_null

    def _defused(self, name: str, value: Any, scope: Scope | None) -> Any:
        clean = without_markers(value)
        if clean is not value and scope is not None:
            scope.warn(f"inputs.{name}: DSPy's own markers were taken out of the text")
        return clean


def _is_loose(kind: TypeSpec) -> bool:
    """Whether values of this type may carry free text."""
    texts = {"string", "any"}
    return not isinstance(kind, Enum) and not (isinstance(kind, Scalar) and kind.name not in texts)


def without_markers(value: Any) -> Any:
    """The value with DSPy's markers made harmless; the very same value where it has none."""
    if isinstance(value, str):
        return value.replace(MARKER, HARMLESS) if MARKER in value else value
    if isinstance(value, list):
        items = [without_markers(item) for item in value]
        return items if _differ(items, value) else value
    if isinstance(value, dict):
        pairs = {without_markers(key): without_markers(item) for key, item in value.items()}
        changed = _differ(pairs, value) or _differ(pairs.values(), value.values())
        return pairs if changed else value
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        clean = {name: without_markers(item) for name, item in fields.items()}
        changed = _differ(clean.values(), fields.values())
        return value.model_copy(update=clean) if changed else value
    return value


def _differ(ones: Iterable[Any], others: Iterable[Any]) -> bool:
    return any(one is not other for one, other in zip(ones, others, strict=False))
