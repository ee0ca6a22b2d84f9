"""The JSON adapter's answers: one object, a field for each key, with anything around it.

A string is streamed as what it says, any other value as it is written. A key that comes again
begins its field anew, as the last one counts. What is no JSON (DSPy repairs much of it) ends the
stream of the answer where it stands.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from bridge.engine.streaming.splitter import Said

__all__ = ["JsonText"]

PLAIN = re.compile(r'[^"\\]*')
SPACE = " \t\r\n"
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}
SCALAR_ENDS = re.compile(r"[\s,}\]]")
UNIT = re.compile(r"\\u([0-9a-fA-F]{4})")
UNIT_BEGUN = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
SECOND = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
SECOND_BEGUN = re.compile(r"(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?")
MARKS = re.compile(r'\\.|["{}\[\]]', re.DOTALL)


class JsonText:
    """One answer to a prompt of the JSON adapter; `fields` are those that are wanted."""

    def __init__(self, fields: Collection[str]) -> None:
        self._wanted = frozenset(fields)
        self._begun: set[str] = set()
        self._field: str | None = None
        self._key: list[str] = []
        self._depth = 0
        self._quoted = False
        self._rest = ""
        self._read: Callable[[str], Iterator[Said]] = self._outside

    def feed(self, text: str) -> Iterator[Said]:
        """The next text."""
        text, self._rest = self._rest + text, ""
        while text:
            yield from self._read(text)
            text, self._rest = self._rest, ""
            if self._waits:
                self._rest = text
                return

    def finish(self) -> Iterator[Said]:
        """What is not whole is not said."""
        return iter(())

    # Each reader takes a text that is not empty, says what it can of it, and leaves the rest in
    # `_rest`, perhaps with another reader for it. `_waits` is set when more text is needed first.

    _waits = False

    def _then(self, read: Callable[[str], Iterator[Said]], rest: str) -> None:
        self._read, self._rest, self._waits = read, rest, False

    def _outside(self, text: str) -> Iterator[Said]:
        _, brace, rest = text.partition("{")
        self._then(self._before_key if brace else self._outside, rest)
        return iter(())

    def _over(self, text: str) -> Iterator[Said]:  # noqa: ARG002 - a reader like the others
        self._then(self._over, "")
        return iter(())

    def _before_key(self, text: str) -> Iterator[Said]:
        rest = text.lstrip(SPACE + ",")
        if rest.startswith('"'):
            self._key = []
            self._then(self._in_key, rest[1:])
        else:
            self._then(self._over if rest else self._before_key, rest)
        return iter(())

    def _in_key(self, text: str) -> Iterator[Said]:
        said, rest, closed = self._string(text)
        self._key.append(said)
        if closed:
            name = "".join(self._key)
            self._field = name if name in self._wanted else None
            self._then(self._before_value, rest)
        return iter(())

    def _before_value(self, text: str) -> Iterator[Said]:
        rest = text.lstrip(SPACE)
        if rest.startswith(":"):
            rest = rest[1:].lstrip(SPACE)
            if not rest:
                # The colon is read again with what follows it: nothing else may stand between.
                self._rest, self._waits = ":", True
                return
            yield from self._begin()
            if rest[0] == '"':
                self._then(self._in_text, rest[1:])
            elif rest[0] in "{[":
                self._depth, self._quoted = 0, False
                self._then(self._in_nested, rest)
            else:
                self._then(self._in_scalar, rest)
        else:
            self._then(self._over if rest else self._before_value, rest)

    def _begin(self) -> Iterator[Said]:
        if self._field is not None:
            if self._field in self._begun:
                yield self._field, None
            self._begun.add(self._field)

    def _in_text(self, text: str) -> Iterator[Said]:
        said, rest, closed = self._string(text)
        yield from self._say(said)
        if closed:
            self._then(self._after_value, rest)

    def _in_nested(self, text: str) -> Iterator[Said]:
        """An object or a list, as it is written."""
        for mark in MARKS.finditer(text):
            if self._quoted:
                self._quoted = mark[0] != '"'
            elif mark[0] == '"':
                self._quoted = True
            elif mark[0] in "{}[]":
                self._depth += 1 if mark[0] in "{[" else -1
                if self._depth == 0:
                    yield from self._say(text[: mark.end()])
                    self._then(self._after_value, text[mark.end() :])
                    return
        # A backslash at the end belongs to what comes next.
        end = len(text) - (len(text) - len(text.rstrip("\\"))) % 2
        yield from self._say(text[:end])
        self._rest, self._waits = text[end:], True

    def _in_scalar(self, text: str) -> Iterator[Said]:
        end = SCALAR_ENDS.search(text)
        yield from self._say(text[: end.start()] if end else text)
        if end:
            self._then(self._after_value, text[end.start() :])
        else:
            self._then(self._in_scalar, "")

    def _after_value(self, text: str) -> Iterator[Said]:
        rest = text.lstrip(SPACE)
        follows = self._before_key if rest.startswith(",") else self._over
        self._then(follows if rest else self._after_value, rest)
        return iter(())

    def _string(self, text: str) -> tuple[str, str, bool]:
        """What a string's next text says, what is left of it, and whether the string is over."""
        said: list[str] = []
        at = 0
        self._waits = False
        while at < len(text):
            plain = _plain(text, at)
            said.append(plain)
            at += len(plain)
            if at == len(text):
                break
            if text[at] == '"':
                return "".join(said), text[at + 1 :], True
            escaped = _escaped(text, at)
            if escaped is None:
                self._rest, self._waits = text[at:], True
                return "".join(said), "", False
            said.append(escaped[0])
            at = escaped[1]
        self._rest = ""
        return "".join(said), "", False

    def _say(self, text: str) -> Iterator[Said]:
        if self._field is not None and text:
            yield self._field, text


def _plain(text: str, at: int) -> str:
    """What stands at `at` up to the next quote or backslash."""
    match = PLAIN.match(text, at)
    return match[0] if match is not None else ""


def _escaped(text: str, at: int) -> tuple[str, int] | None:
    """What the escape at `at` stands for and where it ends; None while that is not known."""
    unit = UNIT.match(text, at)
    if unit is not None:
        number = int(unit[1], 16)
        return (
            _with_second(text, at + 6, number)
            if 0xD800 <= number < 0xDC00
            else (chr(number), at + 6)
        )
    if UNIT_BEGUN.fullmatch(text, at):
        return None
    return ESCAPES.get(text[at + 1], text[at : at + 2]), at + 2


def _with_second(text: str, at: int, first: int) -> tuple[str, int] | None:
    """A character beyond the first 65,536, whose second half must follow its first at once."""
    second = SECOND.match(text, at)
    if second is not None:
        return chr(0x10000 + ((first - 0xD800) << 10) + (int(second[1], 16) - 0xDC00)), at + 6
    return None if SECOND_BEGUN.fullmatch(text, at) else (chr(first), at)
