"""MessagePack, with each message walked in Python: what msgpack itself lets pass is refused here.

The law of this file: a decoded message has string keys, plain values and at most `MAX_DEPTH`
levels. Whoever has a faster walk gives it to `decode`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack  # type: ignore[import-untyped]

from protocol.errors import InvalidFrame
from protocol.plain import MAX_DEPTH, PARSER_ERRORS, Encoded, Plain, shortened, too_deep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["decode", "encode", "read_anything"]


def _fits(message: Any) -> bool:
    return _misfit(message, "", 1) is None


def decode(payload: bytes, fits: Callable[[Any], bool] = _fits) -> dict[str, Any]:
    """The map that a payload is; raise InvalidFrame.

    Args:
        payload: begins as a map does.
        fits: whether a decoded message is one that the wire carries.
    """
    try:
        message: dict[str, Any] = msgpack.unpackb(
            payload, raw=False, strict_map_key=True, unicode_errors="replace"
        )
    except PARSER_ERRORS as error:
        raise InvalidFrame(_fault(payload, error)) from None
    if not fits(message):
        raise InvalidFrame(_fault(payload, None))
    return message


def encode(message: Mapping[str, Any]) -> Encoded:
    """The payload of a map; see `protocol.codecs.encode`."""
    plain = Plain(json=False)
    try:
        return Encoded(msgpack.packb(plain.copy(message)), plain.notes)
    except RecursionError:
        raise ValueError(too_deep("the message")) from None


def read_anything(payload: bytes) -> Any:
    """Whatever the payload says, in any MessagePack; raise one of `PARSER_ERRORS`."""
    return msgpack.unpackb(payload, raw=False, strict_map_key=False, unicode_errors="replace")


_ETF_TAGS = b"PhijklmntwvFa"
"""Second bytes of Erlang's external term format; its first, 131, is a MessagePack map of three,
whose second byte is never one of these."""


def _fault(payload: bytes, error: BaseException | None) -> str:
    if payload[0] == 131 and payload[1:2] and payload[1] in _ETF_TAGS:
        return "the frame is Erlang's term_to_binary; send JSON or MessagePack"
    try:
        fault = _misfit(read_anything(payload), "", 1)
    except PARSER_ERRORS as broken:
        fault, error = None, broken
    return fault or f"the frame is not a MessagePack map: {_reason(error)}"


def _misfit(value: Any, where: str, depth: int) -> str | None:
    """Why a decoded value is not one that the wire carries, with its path; or None."""
    if isinstance(value, msgpack.Timestamp | msgpack.ExtType):
        return f"{where}: {_name_extension(value)}"
    if not isinstance(value, dict | list):
        return None
    if depth > MAX_DEPTH:
        return too_deep("the frame")
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(value, dict) and type(key) is not str:
            return f"{where or 'the frame'}: the map key {shortened(key)} is not a string"
        path = f"{where}.{shortened(key)}" if where else shortened(key)
        if fault := _misfit(item, path, depth + 1):
            return fault
    return None


def _name_extension(value: Any) -> str:
    if isinstance(value, msgpack.Timestamp):
        return "a MessagePack timestamp; send an ISO 8601 string"
    return f"the MessagePack extension type {value.code}; extension types are refused"


def _reason(error: BaseException | None) -> str:
    if isinstance(error, msgpack.ExtraData):
        return f"{len(error.extra)} bytes follow the map"
    if isinstance(error, RecursionError | msgpack.StackError):
        return f"it is nested deeper than {MAX_DEPTH} levels"
    if isinstance(error, msgpack.FormatError):
        return "it contains the byte 0xc1, which MessagePack never uses"
    return str(error) or type(error).__name__
