"""The text of an Elixir term, as ``inspect/1`` writes it, to plain Python values.

==============================  ==========================================
``:a``, ``:"a b"``              ``Atom("a")``, a ``str`` of its own class
``String``, ``Ash.Type.Date``   ``Atom("Elixir.String")``, as Elixir has it
``"a"``, ``'a'``                ``"a"``
``~c"ab"``                      ``[97, 98]``: how a list of integers may be inspected
``1_000``, ``0xff``, ``1.0e3``  numbers
``true false nil``              ``True False None``
``{a, b}``                      a tuple
``[a, b]``, ``[k: v]``          a list; a keyword list is a list of ``(Atom, value)`` tuples
``%{k: v, "k" => v}``           a dict with string or atom keys
==============================  ==========================================

Nothing is evaluated: no sigils but ``~c``, no interpolation, no variables, no structs. Anything
else is ``InvalidArgs`` with the column. The time is linear in the text.
"""

from __future__ import annotations

import re
from typing import Any, Final, NoReturn

from bridge.specs.types.literals import LiteralFaultError, read_number, unescaped
from protocol.errors import InvalidArgs

__all__ = ["MAX_TERM_LENGTH", "Atom", "parse_term"]

MAX_TERM_LENGTH: Final = 20_000
"""Characters. A type with 128 described fields fits; a text beyond it is a mistake."""
MAX_TERM_DEPTH: Final = 48
"""Brackets within brackets: a type level takes up to three, ``{:map, [fields: [a: [...]]]}``."""


class Atom(str):
    """An Elixir atom. Equal to the string of its name, as MessagePack and JSON send it."""

    __slots__ = ()


_SPACE: Final = re.compile(r"[ \t\r\n]*+")
_NAME: Final = re.compile(r"[^\W\dA-Z]\w*(?:@\w+)*[?!]?")
_KEY: Final = re.compile(r"([^\W\d]\w*[?!]?):(?!:)")
_COLON: Final = re.compile(r":(?!:)")
_ALIAS: Final = re.compile(r"[A-Z]\w*(?:\.[A-Z]\w*)*(?:\.t(?:\(\))?)?(?![\w.])")
_ATOM: Final = re.compile(r":([^\W\d]\w*[?!]?)")
_STRING: Final = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_CHARS: Final = re.compile(r"'([^'\\]*+(?:\\.[^'\\]*+)*+)'", re.DOTALL)
_NUMBER: Final = re.compile(
    r"[-+]?(?:0x[0-9A-Fa-f]+|0o[0-7]+|0b[01]+"
    r"|[0-9][0-9_]*(?:\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?)?)(?![\w.])"
)
_ESCAPE: Final = re.compile(
    r"\\(?:u\{([0-9A-Fa-f]{1,6})\}|u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL
)
_ESCAPED: Final = {
    "n": "\n", "t": "\t", "r": "\r", "s": " ", "0": "\0", "a": "\a", "b": "\b",
    "d": "\x7f", "e": "\x1b", "f": "\f", "v": "\v",
}  # fmt: skip
_WORDS: Final[dict[str, Any]] = {"true": True, "false": False, "nil": None}


def parse_term(text: str, path: str) -> Any:
    """Read one whole term.

    Raises:
        InvalidArgs: at ``path``; ``details.faults[0].column`` is counted from 1.
    """
    if len(text) > MAX_TERM_LENGTH:
        raise InvalidArgs.at(path, f"is longer than {MAX_TERM_LENGTH} characters")
    reader = _TermReader(text, path)
    value = reader.value(0)
    reader.end()
    return value


class _TermReader:
    def __init__(self, text: str, path: str) -> None:
        self.text = text
        self.path = path
        self.at = 0

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        column = (self.at if at is None else at) + 1
        raise InvalidArgs.at(self.path, f"column {column}: {message}", column=column)

    def space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def end(self) -> None:
        self.space()
        if self.at < len(self.text):
            self.fail(f"unexpected {self.text[self.at]!r} after the term")

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def skip(self, literal: str) -> bool:
        self.space()
        if self.text.startswith(literal, self.at):
            self.at += len(literal)
            return True
        return False

    def value(self, depth: int) -> Any:
        if depth > MAX_TERM_DEPTH:
            self.fail(f"brackets are nested deeper than {MAX_TERM_DEPTH}")
        if self.skip("%{"):
            return self.map(depth)
        if self.skip("{"):
            return tuple(self.items("}", depth, group_keywords=True))
        if self.skip("["):
            return self.items("]", depth, group_keywords=False)
        return self.leaf()

    def leaf(self) -> Any:  # noqa: PLR0911 - one for each kind of leaf
        start = self.at
        if found := self.take(_STRING) or self.take(_CHARS):
            return self.unescaped(found.group(1), start)
        if self.text.startswith('~c"', self.at):
            self.at += 2
            if found := self.take(_STRING):
                return [ord(char) for char in self.unescaped(found.group(1), start)]
        if found := self.take(_NUMBER):
            return self.number(found.group(), start)
        if found := self.take(_ATOM):
            name = found.group(1)
            return _WORDS.get(name, Atom(name))
        if self.text.startswith((':"', ":'"), self.at):
            self.at += 1
            if found := self.take(_STRING) or self.take(_CHARS):
                return Atom(self.unescaped(found.group(1), start))
        if found := self.take(_ALIAS):
            name = found.group().removesuffix("()").removesuffix(".t")
            return Atom("Elixir." + name.removeprefix("Elixir."))
        if found := self.take(_NAME):
            return self.word(found.group(), start)
        return self.unreadable(start)

    def word(self, name: str, start: int) -> Any:
        if name in _WORDS:
            return _WORDS[name]
        return self.fail(f"{name[:40]!r} is a variable here; did you mean :{name[:40]}?", start)

    def unreadable(self, start: int) -> NoReturn:
        if start >= len(self.text):
            self.fail("the term ends too early", start)
        char = self.text[start]
        if char in "\"'":
            self.fail(f"the string that starts with {char} is not closed", start)
        if char in "%#":
            self.fail("structs cannot be read: use a map or a keyword list", start)
        self.fail(f"unexpected {char!r}", start)

    def items(self, closer: str, depth: int, *, group_keywords: bool) -> list[Any]:
        """Items up to the closer; trailing ``k: v`` pairs make one list where Elixir says so."""
        items: list[Any] = []
        pairs: list[tuple[Atom, Any]] = []
        while not self.skip(closer):
            start = self.at
            key = self.keyword()
            if key is not None:
                pairs.append((key, self.value(depth + 1)))
            elif pairs:
                self.fail("a value after `key: value` pairs", start)
            else:
                items.append(self.value(depth + 1))
            self.separator(closer)
        if not pairs:
            return items
        return [*items, pairs] if group_keywords else [*items, *pairs]

    def separator(self, closer: str) -> None:
        if not self.skip(",") and not self.text.startswith(closer, self.at):
            self.fail(f"expected , or {closer}")

    def keyword(self) -> Atom | None:
        """The key of a ``key: value`` pair, if one stands here."""
        self.space()
        if found := self.take(_KEY):
            return Atom(found.group(1))
        start = self.at
        quoted = _STRING.match(self.text, start)
        if quoted and _COLON.match(self.text, quoted.end()):
            self.at = quoted.end() + 1
            return Atom(self.unescaped(quoted.group(1), start))
        return None

    def map(self, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        while not self.skip("}"):
            start = self.at
            key: Any = self.keyword()
            if key is None:
                key = self.leaf()
                if not isinstance(key, str):
                    self.fail("a map key must be an atom or a string", start)
                if not self.skip("=>"):
                    self.fail("expected => after a map key")
            if key in result:
                self.fail(f"the key {key[:40]!r} is there twice", start)
            result[key] = self.value(depth + 1)
            self.separator("}")
        return result

    def number(self, text: str, start: int) -> int | float:
        try:
            return read_number(text)
        except LiteralFaultError as fault:
            self.fail(str(fault), start)

    def unescaped(self, body: str, start: int) -> str:
        if "#{" in body.replace("\\#", ""):
            self.fail("a string with interpolation", start)
        try:
            return unescaped(body, _ESCAPE, _ESCAPED)
        except LiteralFaultError as fault:
            self.fail(str(fault), start)
