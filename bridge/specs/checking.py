"""How pydantic's faults become `invalid_args`: every fault, its path, and the nearest right key."""

from __future__ import annotations

from difflib import get_close_matches
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError, model_validator

from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Args", "checked", "faults_of", "nearest"]

Model = TypeVar("Model", bound=BaseModel)

SENTENCES = {"missing": "is missing", "model_type": "must be a map"}
"""Faults that pydantic words for who writes Python."""


class Args(BaseModel):
    """What every model of wire data inherits: unknown keys are refused, values are final.

    Null is the same as left out, wherever a key may be left out.
    """

    model_config = {"extra": "forbid", "frozen": True, "arbitrary_types_allowed": True}

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, given: Any) -> Any:
        """Elixir sends nil for what it does not set, and not every default is null."""
        if not isinstance(given, dict) or None not in given.values():
            return given
        optional = {
            field.alias or name
            for name, field in cls.model_fields.items()
            if not field.is_required()
        }
        return {
            key: value for key, value in given.items() if value is not None or key not in optional
        }


def checked(model: type[Model], value: Any, path: str = "") -> Model:
    """`value` as a `model`; raise InvalidArgs listing every fault under `path`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidArgs.of(faults_of(error, path, model)) from None


def faults_of(
    error: ValidationError, path: str, model: type[BaseModel] | None = None
) -> list[dict[str, Any]]:
    """One ``{path, message, nearest?}`` for each of pydantic's errors; never the input itself."""
    faults: list[dict[str, Any]] = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        steps, holder = _walk(model, item["loc"])
        where = _path(path, steps)
        if item["type"] == "extra_forbidden":
            fault = _unknown_key(where, str(item["loc"][-1]), _keys(holder))
        else:
            fault = {"path": where, "message": _sentence(item)}
        if fault not in faults:
            faults.append(fault)
    return faults


def _unknown_key(where: str, key: str, known: Iterable[str]) -> dict[str, Any]:
    names = sorted(known)
    close = nearest(key, names)
    if close is not None:
        return {"path": where, "message": f"unknown key; did you mean {close!r}?", "nearest": close}
    listed = f"; known: {', '.join(names)}" if names else ""
    return {"path": where, "message": f"unknown key{listed}"}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` most likely was meant to be."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def _walk(
    annotation: Any, loc: tuple[int | str, ...]
) -> tuple[list[int | str], type[BaseModel] | None]:
    """The steps of `loc` that the sender knows, and the model that has the last one.

    Pydantic names the member of a union that it tried, as a step among the others.
    """
    steps: list[int | str] = []
    holder: type[BaseModel] | None = None
    for step in loc:
        annotation = _bare(annotation)
        if get_origin(annotation) in {Union, UnionType}:
            annotation = _member(annotation, str(step))
            continue
        steps.append(step)
        holder = annotation if _is_model(annotation) else None
        annotation = _within(annotation, step)
    return steps, holder


def _bare(annotation: Any) -> Any:
    """Without `Annotated` and without None, for which pydantic's paths have no steps."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in {Union, UnionType} and NoneType in get_args(annotation):
            members = [each for each in get_args(annotation) if each is not NoneType]
            annotation = Union[tuple(members)] if members else None  # noqa: UP007 - a tuple of them
        else:
            return annotation


def _member(annotation: Any, tag: str) -> Any:
    members = [_bare(each) for each in get_args(annotation)]
    named = [each for each in members if getattr(each, "__name__", None) == tag]
    return next((each for each in [*named, *members] if _is_model(each)), None)


def _within(annotation: Any, step: int | str) -> Any:
    """The annotation of what is at `step`."""
    if _is_model(annotation):
        found = annotation.model_fields.get(str(step))
        return None if found is None else found.annotation
    inner = get_args(annotation)
    return inner[-1] if inner and isinstance(get_origin(annotation), type) else None


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _keys(model: type[BaseModel] | None) -> set[str]:
    fields: Mapping[str, Any] = {} if model is None else model.model_fields
    return {field.alias or name for name, field in fields.items()}


def _path(prefix: str, steps: list[int | str]) -> str:
    text = prefix
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def _sentence(item: Any) -> str:
    if item["type"] in SENTENCES:
        return SENTENCES[item["type"]]
    text = str(item["msg"])
    return text.removeprefix("Value error, ").removeprefix("Assertion failed, ")
