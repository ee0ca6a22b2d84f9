"""Values that leave the sandbox, read on a budget before anything else looks at them.

A few lines of source can make a value whose text would fill the memory of the whole machine: lists
within lists that are the same list. So a value is walked once, here, and each visit is paid for.
What comes out is plain data: null, booleans, numbers, texts, bytes, lists and maps with text keys.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["DEEPEST", "ValueFaultError", "received"]

DEEPEST = 64
"""Lists and maps within one another."""

NODE = 16
"""What any value costs, whatever is in it; about what a worker itself pays for one."""

LONGEST_INTEGER = 4_096
"""Bits: an integer's text takes time that grows with the square of its length."""

SHOWN_KEY = 40
"""Characters of a key that a path shows."""

Opener = Callable[[Any], Mapping[str, Any] | None]


class ValueFaultError(Exception):
    """A value cannot leave the sandbox.

    Attributes:
        path: where in the value.
        reason: what is wrong there.
        too_large: whether it is only its size.
    """

    def __init__(self, path: str, reason: str, *, too_large: bool = False) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.too_large = too_large


def received(value: Any, path: str, budget: int, opened: Opener = lambda _: None) -> Any:
    """`value` as plain data of our own.

    Args:
        value: what the worker sent.
        path: what to call it in errors.
        budget: bytes, roughly: a text costs its length, and every value 16 more. What stands in
            two places is paid for twice, because whoever writes it out will write it twice.
        opened: the fields of an instance that has some, or None.

    Raises:
        ValueFaultError: it is too large, too deep, or no data.
    """
    return _Reader(budget, opened).read(value, path, 0)


class _Reader:
    def __init__(self, budget: int, opened: Opener) -> None:
        self._budget = budget
        self._left = budget
        self._opened = opened

    def read(self, value: Any, path: str, depth: int) -> Any:
        self._pay(NODE, path)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str | bytes):
            self._pay(len(value), path)
            return value
        if isinstance(value, int | float | decimal.Decimal):
            return _number(value, path)
        if isinstance(value, dt.date | dt.time):
            return value.isoformat()
        if isinstance(value, dt.timedelta):
            return value.total_seconds()
        return self._within(value, path, depth)

    def _within(self, value: Any, path: str, depth: int) -> Any:
        if depth >= DEEPEST:
            raise ValueFaultError(path, f"is nested deeper than {DEEPEST} levels")
        if isinstance(value, list | tuple):
            return [
                self.read(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)
            ]
        if isinstance(value, set | frozenset):
            return [self.read(item, f"{path}{{}}", depth + 1) for item in value]
        fields = value if isinstance(value, Mapping) else self._opened(value)
        if fields is None:
            raise ValueFaultError(path, f"is {_kind(value)}, and only data can leave the sandbox")
        return {
            self._key(key, path): self.read(item, f"{path}.{str(key)[:SHOWN_KEY]}", depth + 1)
            for key, item in fields.items()
        }

    def _key(self, key: Any, path: str) -> str:
        if not isinstance(key, str):
            raise ValueFaultError(path, f"has a key that is {_kind(key)}; keys are texts")
        self._pay(len(key), path)
        return key

    def _pay(self, cost: int, path: str) -> None:
        self._left -= cost
        if self._left < 0:
            where = path if len(path) <= 80 else f"{path[:80]}…"
            raise ValueFaultError(
                where, f"the value is larger than {self._budget} bytes", too_large=True
            )


def _number(value: float | decimal.Decimal, path: str) -> Any:
    if isinstance(value, int):
        if value.bit_length() > LONGEST_INTEGER:
            raise ValueFaultError(path, f"is an integer of {value.bit_length()} bits")
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueFaultError(path, f"is {value}, which is no number that JSON has")
    return value if isinstance(value, float) else str(value)


def _kind(value: Any) -> str:
    """What a value is, in words; never its text."""
    name = type(value).__name__
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int):
        return "an integer"
    if isinstance(value, BaseException):
        return f"an exception ({name})"
    given = getattr(value, "name", None)
    if name.startswith("Monty") and isinstance(given, str):
        return f"an instance of {given[:SHOWN_KEY]}" if "Class" in name else given[:SHOWN_KEY]
    return f"a {name}"
