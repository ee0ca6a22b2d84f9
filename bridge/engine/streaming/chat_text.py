"""The chat adapter's answers: sections under headers, ``[[ ## field ## ]]`` at a line's beginning.

Reads as DSPy's ChatAdapter does: any line end ends a line, a header may have text behind it,
the first section of a name counts, and a section's text is without the white space around it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bridge.engine.streaming.splitter import Said, Trimmed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["ChatText"]

OPENING, CLOSING = "[[ ## ", " ## ]]"
HEADER = re.compile(r"\[\[ ## (\w+) ## \]\]")
BEGUN = re.compile(r"\[\[ ## (\w*)(.*)", re.DOTALL)
LONGEST_NAME = 1_000
"""Characters of a field's name; a line that goes on longer is no header."""


class ChatText:
    """One answer to a prompt of the chat adapter; `fields` are those that are wanted."""

    def __init__(self, fields: Collection[str]) -> None:
        self._wanted = set(fields)
        self._field: str | None = None
        self._text = Trimmed()
        self._carriage = ""
        self._line: str | None = ""
        self._is_header = False

    def feed(self, text: str) -> Iterator[Said]:
        """The next text."""
        text = self._carriage + text
        # Half of a line end, or all of it.
        self._carriage = "\r" if text.endswith("\r") else ""
        for part in text[: len(text) - len(self._carriage)].splitlines(keepends=True):
            line = part.splitlines()[0]
            yield from self._part(line)
            if len(line) < len(part):
                yield from self._end_of_line()

    def finish(self) -> Iterator[Said]:
        """The end: what stands on the last line is no header any more, unless it is a whole one."""
        yield from self._end_of_line()

    def _part(self, text: str) -> Iterator[Said]:
        """More of the current line."""
        if self._line is None:
            yield from self._say(text)
            return
        self._line += text
        stripped = self._line.lstrip()
        header = HEADER.match(stripped)
        if header is not None:
            self._begin(header[1])
            # DSPy counts from the line's beginning what it found behind the white space.
            rest, self._line, self._is_header = self._line[header.end() :], None, True
            yield from self._say(rest)
        elif not _may_be_header(stripped):
            line, self._line = self._line, None
            yield from self._say(line)

    def _end_of_line(self) -> Iterator[Said]:
        if self._line:
            yield from self._say(self._line)
        if self._is_header:
            self._text.drop_space()
        self._line, self._is_header = "", False
        yield from self._say("\n")

    def _begin(self, name: str) -> None:
        self._field = name if name in self._wanted else None
        self._wanted.discard(name)
        self._text = Trimmed()

    def _say(self, text: str) -> Iterator[Said]:
        if self._field is not None:
            known = self._text.feed(text)
            if known:
                yield self._field, known


def _may_be_header(begun: str) -> bool:
    """Whether a line that begins so, behind its white space, can still become a header."""
    if len(begun) < len(OPENING):
        return OPENING.startswith(begun)
    match = BEGUN.match(begun)
    if match is None or len(match[1]) > LONGEST_NAME:
        return False
    return not match[2] or (bool(match[1]) and CLOSING.startswith(match[2]))
