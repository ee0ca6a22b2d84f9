"""Numbers and escaped characters as Elixir and Python write them alike, read within our bounds."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from bridge.specs.types.defaults import MAX_INTEGER, MIN_INTEGER

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LiteralFaultError", "read_number", "unescaped"]

LONGEST_NUMBER: Final = 40
"""Digits of the largest integer taken, twice over."""

_INTEGER: Final = re.compile(r"[+-]?(?:\d+|0x[0-9A-Fa-f]+|0o[0-7]+|0b[01]+)")
_BASES: Final = frozenset({"0x", "0o", "0b"})


class LiteralFaultError(ValueError):
    """The text is written well and means what cannot be taken; it says what."""


def read_number(text: str) -> int | float:
    """A number's value; underscores part its digits, and an integer may have a base.

    Raises:
        LiteralFaultError: it is too long, or beyond 64 bits or a double's range.
    """
    digits = text.replace("_", "")
    if len(digits) > LONGEST_NUMBER:
        raise LiteralFaultError("a number with too many digits")
    if _INTEGER.fullmatch(digits):
        integer = int(digits, 0 if digits.lstrip("+-")[:2] in _BASES else 10)
        if not MIN_INTEGER <= integer <= MAX_INTEGER:
            raise LiteralFaultError("an integer beyond 64 bits")
        return integer
    number = float(digits)
    if not math.isfinite(number):
        raise LiteralFaultError("a number beyond a double's range")
    return number


def unescaped(body: str, escape: re.Pattern[str], named: Mapping[str, str]) -> str:
    """The text that `body` stands for.

    Args:
        body: without its quotes.
        escape: finds an escape; its last group is a character, the ones before it hex digits.
        named: what a character means; one that is not in it means itself.

    Raises:
        LiteralFaultError: an escape is no character.
    """

    def character(found: re.Match[str]) -> str:
        *digits, name = found.groups()
        code = next(filter(None, digits), None)
        if code is None:
            return named.get(name, name)
        number = int(code, 16)
        if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            raise LiteralFaultError("an escape that is no character")
        return chr(number)

    return escape.sub(character, body) if "\\" in body else body
