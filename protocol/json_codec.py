"""JSON by the standard library: all that JSON carries, exactly, at a tenth of orjson's speed.

The law of this file: nothing is imported for it but the standard library, so that the first
message of a connection can be read and answered before orjson is there (`protocol.codecs`).
Afterwards it has what orjson cannot: integers beyond 64 bits, and lone surrogates, which it
replaces. A float may be spelt another way here, as 1e-07 for 1e-7; it is the same number.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NoReturn

from protocol.errors import InvalidFrame
from protocol.plain import MAX_DEPTH, PARSER_ERRORS, Encoded, Plain, too_deep

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["decode", "encode", "read_anything"]


def decode(payload: bytes) -> dict[str, Any]:
    """The map that a payload is; raise InvalidFrame."""
    try:
        message = json.loads(
            payload.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite_float
        )
        plain: dict[str, Any] = Plain(json=True).copy(message)
    except PARSER_ERRORS as error:
        raise InvalidFrame(f"the frame is not a JSON object: {_reason(error)}") from None
    return plain


def encode(message: Mapping[str, Any]) -> Encoded:
    """The payload of a map; see `protocol.codecs.encode`."""
    plain = Plain(json=True)
    try:
        copy = plain.copy(message)
        text = json.dumps(copy, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError(too_deep("the message")) from None
    return Encoded(text.encode("utf-8"), plain.notes)


def read_anything(payload: bytes) -> Any:
    """Whatever the payload says, in any JSON that Python reads; raise one of `PARSER_ERRORS`."""
    return json.loads(payload.decode("utf-8"))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; send null")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:40]} is out of range")
    return number


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return f"it is nested deeper than {MAX_DEPTH} levels"
    return str(error) or type(error).__name__
