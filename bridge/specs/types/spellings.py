"""Every one-word spelling of a type: Elixir's, Ash's, Ecto's, JSON Schema's and Python's.

One table, ``SPELLINGS``, and the few rules by which longer names come down to its keys:
``:string``, ``Elixir.Ash.Type.UtcDatetime``, ``String.t()``, ``typing.Any``, ``dspy.Image``.
"""

from __future__ import annotations

import re
from typing import Final

from bridge.specs.checking import nearest
from bridge.specs.types.model import Array, Map, Media, Scalar, TypeSpec
from protocol.errors import InvalidArgs

__all__ = ["SPELLINGS", "clipped", "find_spelling", "unknown_type"]

_ANY = Scalar("any")

_WORDS: Final[tuple[tuple[TypeSpec, str], ...]] = (
    # Atoms, identifiers and addresses are text on the wire.
    (
        Scalar("string"),
        "string str text binary ci_string atom uuid uuid_v7 url url_encoded_binary duration slug",
    ),
    (Scalar("integer"), "integer int pos_integer non_neg_integer neg_integer"),
    (Scalar("float"), "float number double"),
    (Scalar("decimal"), "decimal"),
    (Scalar("boolean"), "boolean bool"),
    (Scalar("any"), "any term"),
    (Scalar("date"), "date"),
    (Scalar("time"), "time time_usec"),
    (Scalar("datetime"), "datetime date_time date-time utc_datetime utc_datetime_usec"),
    (Scalar("datetime"), "naive_datetime naive_datetime_usec"),
    (Array(_ANY), "array list"),
    (Array(Scalar("float")), "vector"),
    (Map(_ANY), "map dict object keyword keyword_list"),
    (Media("image"), "image"),
    (Media("audio"), "audio"),
    (Media("file"), "file"),
    (Media("history"), "history"),
    (Media("code"), "code"),
    (Media("reasoning"), "reasoning"),
)

SPELLINGS: Final[dict[str, TypeSpec]] = {
    word: meaning for meaning, words in _WORDS for word in words.split()
}

_REFUSED: Final[dict[str, str]] = {
    "tuple": 'a tuple has no JSON form: use {"object": [fields]} or {"array": type}',
    "set": 'a set has no JSON form: use {"array": type}',
    "frozenset": 'a set has no JSON form: use {"array": type}',
    "struct": 'a struct needs its fields: use {"object": [fields]}',
    "enum": 'an enum needs its values: use {"enum": ["a", "b"]}',
    "union": 'a union needs its members: use {"union": [types]}',
    "literal": "a Literal needs its values: Literal['a', 'b']",
    "optional": 'needs a type: {"optional": type}',
    "parameterized": "Ecto's parameterized types hide their values: send the type itself, "
    'e.g. {"enum": ["a", "b"]}',
    "annotated": "constraints are not enforced: write them into the description",
    "bytes": "bytes are no text for an LM: use string, image, audio or file",
    "function": "a function is no value on the wire",
    "callable": "a function is no value on the wire",
    "null": 'null alone is no type: use {"optional": type}',
    "nil": 'nil alone is no type: use {"optional": type}',
    "none": "None alone is no type: use Optional[type]",
}
"""Names of types that are known, and why they are not read."""

# Modules whose members are spelt with or without them. "datetime.datetime" ends in its own key.
_PREFIXES: Final = (
    "Elixir.",
    "Ash.Type.",
    "Ecto.",
    "typing.",
    "typing_extensions.",
    "dspy.",
    "builtins.",
    "datetime.",
    "decimal.",
    "uuid.",
    "collections.abc.",
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LONGEST_NAME: Final = 128


def find_spelling(name: str) -> TypeSpec | None:
    """The type that a single name means, or None."""
    return SPELLINGS.get(_key(name))


def unknown_type(name: str, path: str) -> InvalidArgs:
    """The error for a name that ``find_spelling`` does not find: why, or what was meant."""
    key = _key(name)
    if key in _REFUSED:
        return InvalidArgs.at(path, _REFUSED[key])
    shown = clipped(name)
    close = nearest(key, SPELLINGS) if len(key) <= _LONGEST_NAME else None
    if close is not None:
        message = f"unknown type {shown}; did you mean {close!r}?"
        return InvalidArgs.at(path, message, nearest=close)
    if name.removeprefix("Elixir.")[:1].isupper():
        message = (
            f"unknown type {shown}: a module of the application's own is not known here;"
            ' send an enum as {"enum": ["a", "b"]}, a struct as {"object": [fields]}'
        )
        return InvalidArgs.at(path, message)
    return InvalidArgs.at(
        path,
        f"unknown type {shown}; known: string, integer, float, boolean, array, map, any,"
        ' date, time, datetime, decimal, image, ..., or e.g. {"array": "string"}',
    )


def clipped(text: str) -> str:
    """Given text in quotes, short enough for a message."""
    return repr(text) if len(text) <= 60 else repr(text[:57] + "...")


def _key(name: str) -> str:
    if len(name) > _LONGEST_NAME:
        return name
    bare = name.removeprefix(":").removesuffix("()").removesuffix(".t")
    for prefix in _PREFIXES:
        if len(bare) > len(prefix):
            bare = bare.removeprefix(prefix)
    if bare == "NaiveDateTime":  # Elixir's own camel case differs from Ash's NaiveDatetime
        return "naive_datetime"
    if bare in {"UUIDv7", "UUIDV7"}:
        return "uuid_v7"
    return _CAMEL.sub("_", bare).lower()
