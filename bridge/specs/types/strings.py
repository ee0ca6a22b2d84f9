"""Python type annotations and literals, as text, by a grammar of their own.

Nothing is evaluated and nothing is imported: a name is looked up in ``spellings`` or refused. ::

    type    = single ("|" single)*
    single  = "None" | name ("[" args "]" | "()")? | "(" type ")"
    name    = word ("." word)*
    args    = type ("," type)*          Literal: literal ("," literal)*    Code: word or string
    literal = string | number | True | False | None | "[" ... "]" | "{" literal ":" ... "}"

The time is linear in the text; every fault is ``InvalidArgs`` with the column.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, TypeVar

from bridge.specs.types.enums import enum_of, language_of
from bridge.specs.types.literals import LiteralFaultError, read_number, unescaped
from bridge.specs.types.model import (
    MAX_DEPTH,
    MAX_READING_DEPTH,
    Array,
    Map,
    Media,
    Scalar,
    TypeSpec,
    nullable,
    union,
)
from bridge.specs.types.spellings import clipped, find_spelling, unknown_type
from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_TYPE_LENGTH", "parse_annotation", "parse_literal"]

MAX_TYPE_LENGTH: Final = 20_000
"""Characters of one annotation: room for a Literal of 256 values."""

_TOKEN: Final = re.compile(
    r"""[ \t\r\n]*+(?:
      (?P<word>[^\W\d]\w*+)
    | (?P<number>[-+]?(?:[0-9][0-9_]*+(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][-+]?[0-9]++)?+)
    | (?P<string>"[^"\\]*+(?:\\.[^"\\]*+)*+"|'[^'\\]*+(?:\\.[^'\\]*+)*+')
    | (?P<mark>\.\.\.|[][(){}|,.:])
    | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(
    r"\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL
)
_ESCAPED: Final = {
    "n": "\n", "t": "\t", "r": "\r", "0": "\0", "\n": "",
    "a": "\a", "b": "\b", "f": "\f", "v": "\v",
}  # fmt: skip
_CONSTANTS: Final[dict[str, Any]] = {
    "True": True, "False": False, "None": None,
    "true": True, "false": False, "null": None, "nil": None,
}  # fmt: skip
_LISTS: Final = frozenset(
    {"list", "List", "array", "Array", "Sequence", "Iterable", "Collection", "MutableSequence"}
)
_MAPS: Final = frozenset({"dict", "Dict", "map", "Map", "Mapping", "MutableMapping", "object"})
_REFUSED_HEADS: Final = frozenset(
    {"tuple", "Tuple", "set", "Set", "frozenset", "FrozenSet", "Annotated", "Callable"}
)
_STRING_KEYS: Final = (Scalar("string"), Scalar("any"))
_Item = TypeVar("_Item")


class _Token(NamedTuple):
    kind: str
    text: str
    column: int


def parse_annotation(text: str, path: str, depth: int = 0) -> TypeSpec:
    """The type that a Python annotation means; ``depth`` counts the levels around it."""
    reader = _AnnotationReader(text, path)
    found = reader.type(depth)
    reader.expect_end()
    return found


def parse_literal(text: str, path: str) -> Any:
    """The plain value of a Python, JSON or Elixir literal (no tuples, no atoms)."""
    reader = _AnnotationReader(text, path)
    found = reader.literal(0)
    reader.expect_end()
    return found


def _tokens(text: str, path: str) -> list[_Token]:
    if len(text) > MAX_TYPE_LENGTH:
        raise InvalidArgs.at(path, f"is longer than {MAX_TYPE_LENGTH} characters")
    tokens: list[_Token] = []
    at = 0
    while True:
        found = _TOKEN.match(text, at)
        if found is None:
            at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n"))
            message = f"column {at + 1}: unexpected {text[at]!r}"
            if text[at] in "\"'":
                message = f"column {at + 1}: the string is not closed"
            raise InvalidArgs.at(path, message, column=at + 1)
        kind = found.lastgroup or "end"
        tokens.append(_Token(kind, found.group(kind), found.start(kind) + 1))
        if kind == "end":
            return tokens
        at = found.end()


class _AnnotationReader:
    def __init__(self, text: str, path: str) -> None:
        self.path = path
        self.tokens = _tokens(text, path)
        self.at = 0

    @property
    def now(self) -> _Token:
        return self.tokens[self.at]

    def next(self) -> _Token:
        token = self.now
        self.at += token.kind != "end"
        return token

    def skip(self, mark: str) -> bool:
        if self.now.kind == "mark" and self.now.text == mark:
            self.at += 1
            return True
        return False

    def fail(self, message: str, token: _Token) -> NoReturn:
        text = f"column {token.column}: {message}"
        raise InvalidArgs.at(self.path, text, column=token.column)

    def expect(self, mark: str) -> None:
        if not self.skip(mark):
            self.unexpected(self.now, f"expected {mark}")

    def expect_end(self) -> None:
        if self.now.kind != "end":
            self.unexpected(self.now, "expected the end")

    def unexpected(self, token: _Token, wanted: str) -> NoReturn:
        found = "the text ends" if token.kind == "end" else f"found {clipped(token.text)}"
        self.fail(f"{wanted}, {found}", token)

    def enter(self, depth: int) -> int:
        if depth >= MAX_READING_DEPTH:
            self.fail(f"types are nested deeper than {MAX_DEPTH}", self.now)
        return depth + 1

    def type(self, depth: int) -> TypeSpec:
        members: list[TypeSpec] = []
        null = False
        start = self.now
        while True:
            if self.now.kind == "word" and self.now.text in {"None", "nil", "null"}:
                self.next()
                null = True
            else:
                members.append(self.single(depth))
            if not self.skip("|"):
                break
        return self.merged(members, null=null, start=start)

    def merged(self, members: list[TypeSpec], *, null: bool, start: _Token) -> TypeSpec:
        if not members:
            self.fail("null alone is no type: write Optional[type]", start)
        return union(members, null=null)

    def single(self, depth: int) -> TypeSpec:
        if self.skip("("):
            inner = self.type(self.enter(depth))
            self.expect(")")
            return inner
        start = self.now
        if start.kind == "string":
            self.fail("a quoted name is no type here; for values write Literal['a', 'b']", start)
        name = self.name()
        if self.skip("["):
            found = self.subscripted(name.rpartition(".")[2], start, self.enter(depth))
            self.expect("]")
            return found
        if self.skip("("):
            self.expect(")")
        known = find_spelling(name)
        if known is None:
            raise unknown_type(name, self.path)
        return known

    def name(self) -> str:
        first = self.next()
        if first.kind != "word":
            self.unexpected(first, "expected a type")
        parts = [first.text]
        while self.skip("."):
            part = self.next()
            if part.kind != "word":
                self.unexpected(part, "expected a name after the dot")
            parts.append(part.text)
        return ".".join(parts)

    def subscripted(  # noqa: PLR0911 - one for each kind of bracket
        self, head: str, start: _Token, depth: int
    ) -> TypeSpec:
        if head in _LISTS:
            return Array(self.arguments(head, 1, start, depth)[0])
        if head in _MAPS:
            key, value = self.arguments(head, 2, start, depth)
            if key not in _STRING_KEYS:
                self.fail("map keys are strings on the wire: write dict[str, ...]", start)
            return Map(value)
        if head == "Optional":
            return nullable(self.arguments(head, 1, start, depth)[0])
        if head == "Union":
            return self.union_arguments(start, depth)
        if head == "Literal":
            return enum_of(self.separated(lambda: self.literal(depth)), self.path)
        if head == "Code":
            token = self.next()
            text = self.string(token) if token.kind == "string" else token.text
            return Media("code", language_of(text, self.path))
        if head in _REFUSED_HEADS:
            raise unknown_type(head, self.path)
        if find_spelling(head) is None:
            raise unknown_type(head, self.path)
        return self.fail(f"{head} takes no [ ]", start)

    def arguments(self, head: str, count: int, start: _Token, depth: int) -> list[TypeSpec]:
        found = self.separated(lambda: self.type(depth))
        if len(found) != count:
            self.fail(f"{head}[ ] takes {count} type{'s' * (count > 1)}, not {len(found)}", start)
        return found

    def union_arguments(self, start: _Token, depth: int) -> TypeSpec:
        null = False

        def member() -> TypeSpec | None:
            nonlocal null
            if self.now.kind == "word" and self.now.text == "None":
                self.next()
                null = True
                return None
            return self.type(depth)

        members = [each for each in self.separated(member) if each is not None]
        return self.merged(members, null=null, start=start)

    def separated(self, item: Callable[[], _Item]) -> list[_Item]:
        """One or more items with commas between them, and perhaps one at the end."""
        found = [item()]
        while self.skip(","):
            if self.now.kind == "mark" and self.now.text in "]}":
                break
            found.append(item())
        return found

    def literal(self, depth: int) -> Any:
        token = self.next()
        if token.kind == "string":
            return self.string(token)
        if token.kind == "number":
            return self.number(token)
        if token.kind == "word" and token.text in _CONSTANTS:
            return _CONSTANTS[token.text]
        if token.kind == "mark" and token.text == "[":
            return self.sequence(self.enter(depth))
        if token.kind == "mark" and token.text == "{":
            return self.mapping(self.enter(depth))
        return self.unexpected(token, "expected a string, a number, True, False or None")

    def sequence(self, depth: int) -> list[Any]:
        if self.skip("]"):
            return []
        items = self.separated(lambda: self.literal(depth))
        self.expect("]")
        return items

    def mapping(self, depth: int) -> dict[str, Any]:
        def pair() -> tuple[str, Any]:
            key = self.next()
            if key.kind != "string":
                self.unexpected(key, "expected a string as the key")
            self.expect(":")
            return self.string(key), self.literal(depth)

        if self.skip("}"):
            return {}
        pairs = self.separated(pair)
        self.expect("}")
        return dict(pairs)

    def number(self, token: _Token) -> int | float:
        try:
            return read_number(token.text)
        except LiteralFaultError as fault:
            self.fail(str(fault), token)

    def string(self, token: _Token) -> str:
        try:
            return unescaped(token.text[1:-1], _ESCAPE, _ESCAPED)
        except LiteralFaultError as fault:
            self.fail(str(fault), token)
