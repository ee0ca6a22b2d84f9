"""The XML adapter's answers: an element for each field, side by side.

A field's text is what stands between its tags: with its entities read and without the white space
around it, or as it is written where the value is nested elements. Comments do not count; the first
element of a name does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import unescape

from bridge.engine.streaming.splitter import Said, Trimmed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["XmlText"]

TOKEN = re.compile(
    r"(?P<comment><!--.*?-->)"
    r"|<!\[CDATA\[(?P<cdata>.*?)\]\]>"
    r"|(?P<end></(?P<ended>[^\s<>/]+)\s*>)"
    r"""|(?P<tag><(?P<begun>[^\s<>/!?]+)(?:[^<>"'/]|"[^"]*"|'[^']*'|/(?!>))*(?P<empty>/?)>)"""
    r"|(?P<entity>&[#\w]{1,10};)",
    re.DOTALL,
)
SPECIAL = re.compile(r"[<&]")
NO_TAG = re.compile(r"<[\s<>&]")
OTHERS = {"&quot;": '"', "&apos;": "'"}
LONGEST_ENTITY = 12
LONGEST_TAG = 4_096
"""Characters of a tag and its attributes; what is longer is no tag that a prompt asked for."""

LINE_ENDS = re.compile(r"\r\n?")


class XmlText:
    """One answer to a prompt of the XML adapter.

    Args:
        fields: those that are wanted.
        nested: those whose value is written as elements.
    """

    def __init__(self, fields: Collection[str], nested: Collection[str] = ()) -> None:
        self._wanted = set(fields)
        self._nested = frozenset(nested)
        self._open: list[str] = []
        self._field: str | None = None
        self._text = Trimmed()
        self._rest = ""
        self._broken = False

    def feed(self, text: str) -> Iterator[Said]:
        """The next text; nothing once it is no XML, as the reply is then read in another way."""
        text = self._rest + text
        at = len(text) if self._broken else 0
        while at < len(text):
            special = SPECIAL.search(text, at)
            plain = text[at : special.start() if special else len(text)]
            if special is None and plain.endswith("\r"):
                # Half of a line end, or all of it.
                yield from self._plain(plain[:-1])
                at = len(text) - 1
                break
            yield from self._plain(plain)
            at += len(plain)
            if special is None:
                break
            token = TOKEN.match(text, at)
            if token is not None:
                yield from self._take(token)
                at = token.end()
            elif _is_broken(text, at):
                self._broken, at = True, len(text)
            else:
                break
        self._rest = text[at:]

    def finish(self) -> Iterator[Said]:
        """What is not whole is not said."""
        return iter(())

    def _plain(self, text: str) -> Iterator[Said]:
        text = LINE_ENDS.sub("\n", text)
        return self._say(text, text)

    def _take(self, token: re.Match[str]) -> Iterator[Said]:
        if token["cdata"] is not None:
            yield from self._say(LINE_ENDS.sub("\n", token["cdata"]), token[0])
        elif token["entity"] is not None:
            yield from self._say(_character(token[0]), token[0])
        elif token["tag"] is not None:
            if self._open:
                yield from self._say(token[0], token[0])
            if not token["empty"]:
                self._begin(token["begun"])
        elif token["end"] is not None:
            if len(self._open) > 1:
                yield from self._say(token[0], token[0])
            self._end()

    def _begin(self, name: str) -> None:
        if not self._open:
            self._field = name if name in self._wanted else None
            self._wanted.discard(name)
            self._text = Trimmed()
        self._open.append(name)

    def _end(self) -> None:
        if self._open:
            self._open.pop()
        if not self._open:
            self._field = None

    def _say(self, text: str, written: str) -> Iterator[Said]:
        if self._field is not None:
            known = self._text.feed(written if self._field in self._nested else text)
            if known:
                yield self._field, known


def _is_broken(text: str, at: int) -> bool:
    """Whether what begins at `at` can never become a tag or an entity, whatever follows."""
    if text[at] == "&":
        return len(text) - at > LONGEST_ENTITY or ";" in text[at:]
    if NO_TAG.match(text, at):
        return True
    return len(text) - at > LONGEST_TAG and not text.startswith(("<!--", "<![CDATA["), at)


def _character(entity: str) -> str:
    """What an entity stands for; itself, if nothing."""
    if entity.startswith("&#"):
        digits = entity[2:-1]
        try:
            return chr(int(digits[1:], 16) if digits[:1] in "xX" else int(digits))
        except (ValueError, OverflowError):
            return entity
    return unescape(entity, OTHERS)
