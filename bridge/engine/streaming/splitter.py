"""What takes an LM's text apart into fields while it comes; one file for each way to write them.

The law of these files: where the text is cut into pieces makes no difference to what comes out.
What cannot be decided yet is kept until it can. A splitter may be mistaken about text that breaks
the rules of its format: whoever reads the whole reply afterwards has the last word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Said", "Splitter", "Trimmed", "Verbatim"]

Said = tuple[str, str | None]
"""A field's name and its next piece; None when the field begins again from nothing."""


class Splitter(Protocol):
    """One LM answer, from its first character to its last."""

    def feed(self, text: str) -> Iterator[Said]:
        """Take the next text; give what it says. To be run to its end."""

    def finish(self) -> Iterator[Said]:
        """The answer is over; give what was kept."""


class Verbatim:
    """The whole answer is one field."""

    def __init__(self, field: str) -> None:
        self._field = field

    def feed(self, text: str) -> Iterator[Said]:
        """The text itself."""
        if text:
            yield self._field, text

    def finish(self) -> Iterator[Said]:
        """Nothing is ever kept."""
        return iter(())


class Trimmed:
    """A text without the white space around it, which is known only once something follows."""

    def __init__(self) -> None:
        self._begun = False
        self._space = ""

    def feed(self, text: str) -> str:
        """What is known to be within, now that `text` has come."""
        if not self._begun:
            text = text.lstrip()
        if not text:
            return ""
        self._begun = True
        body = text.rstrip()
        if not body:
            self._space += text
            return ""
        known, self._space = self._space + body, text[len(body) :]
        return known

    def drop_space(self) -> None:
        """The white space that came last does not count, whatever follows."""
        self._space = ""
