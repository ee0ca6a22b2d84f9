"""Payloads to maps and back: JSON and MessagePack, told apart by the first byte.

The law of this file: both codecs carry the same values (maps with string keys, lists, strings,
numbers, booleans, null), and what one of them cannot carry is replaced or refused by name, never
sent in a form the other side cannot read. Beyond those values, JSON carries bytes as base64 and
MessagePack carries an integer beyond 64 bits as a decimal string.

An ordinary message is not walked in Python. The C encoders meet what is out of the ordinary and
refuse it; only then is the message rebuilt by `protocol.plain`, where all rules stand. orjson
serves as the C walk of a MessagePack message, too: it refuses just what msgpack would write or
read in silence (a key that is no string, an extension type, a nesting too deep), at a fifth of
msgpack's own time.

Of a key that stands twice in a map the last value counts, in both codecs, as in Elixir's decoders.
"""

from __future__ import annotations

import json
import math
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import msgpack  # type: ignore[import-untyped]
import orjson

from protocol.errors import InvalidFrame
from protocol.plain import MAX_DEPTH, Plain, base64_of_bytes, shortened, too_deep

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_DEPTH", "Codec", "Encoded", "codec_of", "decode", "encode", "glimpse"]


class Codec(Enum):
    """How a map is written into a payload; the values are the names in ``hello``."""

    JSON = "json"
    MSGPACK = "msgpack"


class Encoded(NamedTuple):
    """A payload, and what had to be replaced in it: ``"result.score: NaN became null"``."""

    payload: bytes
    notes: tuple[str, ...]


_CODECS = {
    ord("{"): Codec.JSON,
    **dict.fromkeys([*range(0x80, 0x90), 0xDE, 0xDF], Codec.MSGPACK),
}


def codec_of(payload: bytes) -> Codec:
    """The codec that a payload's first byte announces.

    Raises:
        InvalidFrame: it announces none, or there is no first byte.
    """
    codec = _CODECS.get(payload[0]) if payload else None
    if codec is not None:
        return codec
    begins = f"begins with the byte 0x{payload[0]:02x}" if payload else "is empty"
    raise InvalidFrame(
        f"the frame {begins}: a JSON object begins with '{{' (0x7b), "
        "a MessagePack map with 0x80-0x8f, 0xde or 0xdf"
    )


def decode(payload: bytes) -> tuple[Codec, dict[str, Any]]:
    """The codec and the map of a payload.

    Lone surrogates (JSON escapes) and invalid UTF-8 (MessagePack) in strings become U+FFFD.

    Raises:
        InvalidFrame: the bytes are not exactly one map of values the wire carries, at most
            `MAX_DEPTH` deep. Nothing else is raised, whatever the bytes.
    """
    codec = codec_of(payload)
    return codec, _decode_json(payload) if codec is Codec.JSON else _decode_msgpack(payload)


def encode(codec: Codec, message: Mapping[str, Any]) -> Encoded:
    """The payload of a map.

    Keys become strings; tuples and sets become lists (sets sorted), dates and times ISO 8601
    strings, enums their values. In JSON a NaN or infinity becomes null, with a note.

    Raises:
        ValueError: a value has no form on the wire or is nested deeper than `MAX_DEPTH`; the
            text names its path.
    """
    try:
        if codec is Codec.MSGPACK:
            orjson.dumps(message, _only_bytes, _STRICTLY)
            return Encoded(msgpack.packb(message), ())
        payload = orjson.dumps(message, base64_of_bytes, _STRICTLY)
    except (TypeError, ValueError, OverflowError):
        return _encode_plain(codec, message)
    # orjson writes NaN as null by itself and does not tell.
    if b"null" in payload and _has_non_finite(message):
        return _encode_plain(codec, message)
    return Encoded(payload, ())


def glimpse(payload: bytes) -> dict[Any, Any] | None:
    """What can be read of a payload that `decode` refused, or None.

    Its only use is to find the id that the refusal should carry.
    """
    try:
        if codec_of(payload) is Codec.JSON:
            top = json.loads(payload.decode("utf-8"))
        else:
            top = _unpack_anything(payload)
    except (InvalidFrame, *_PARSER_ERRORS):
        return None
    return top if isinstance(top, dict) else None


# --- decoding ---------------------------------------------------------------------------------

_PARSER_ERRORS = (ValueError, TypeError, OverflowError, RecursionError, MemoryError)
"""All that the parsers raise on hostile bytes (StackError, ExtraData and JSONDecodeError are
ValueErrors; MemoryError comes of an array header that lies about its length)."""

_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))
_MAYBE_BEYOND_64_BITS = b"0" * 19
"""-(2**63) has 19 digits: no shorter run of digits is an integer that orjson reads as a float."""


def _decode_json(payload: bytes) -> dict[str, Any]:
    if _MAYBE_BEYOND_64_BITS in payload.translate(_DIGITS):
        return _decode_json_exactly(payload)
    try:
        message: dict[str, Any] = orjson.loads(payload)
    except ValueError as error:
        if b"\\u" in payload:  # orjson refuses a lone surrogate, too
            return _decode_json_exactly(payload)
        raise InvalidFrame(f"the frame is not a JSON object: {error}") from None
    # A level costs two bytes and a bracket: most messages are too short or too flat to be deep.
    if (
        len(payload) > 2 * MAX_DEPTH
        and payload.count(b"{") + payload.count(b"[") > MAX_DEPTH
        and not _is_plain(message)
    ):
        raise InvalidFrame(too_deep("the frame"))
    return message


def _decode_json_exactly(payload: bytes) -> dict[str, Any]:
    """The standard library's parser: integers of any size, lone surrogates replaced."""
    try:
        message = json.loads(
            payload.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite_float
        )
        plain: dict[str, Any] = Plain(json=True).copy(message)
    except _PARSER_ERRORS as error:
        raise InvalidFrame(f"the frame is not a JSON object: {_reason(error)}") from None
    return plain


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; send null")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:40]} is out of range")
    return number


def _decode_msgpack(payload: bytes) -> dict[str, Any]:
    try:
        message: dict[str, Any] = msgpack.unpackb(
            payload, raw=False, strict_map_key=True, unicode_errors="replace"
        )
    except _PARSER_ERRORS as error:
        raise InvalidFrame(_msgpack_fault(payload, error)) from None
    if not _is_plain(message):
        raise InvalidFrame(_msgpack_fault(payload, None))
    return message


def _unpack_anything(payload: bytes) -> Any:
    return msgpack.unpackb(payload, raw=False, strict_map_key=False, unicode_errors="replace")


_ETF_TAGS = b"PhijklmntwvFa"
"""Second bytes of Erlang's external term format; its first, 131, is a MessagePack map of three,
whose second byte is never one of these."""


def _msgpack_fault(payload: bytes, error: BaseException | None) -> str:
    if payload[0] == 131 and payload[1:2] and payload[1] in _ETF_TAGS:
        return "the frame is Erlang's term_to_binary; send JSON or MessagePack"
    try:
        fault = _misfit(_unpack_anything(payload), "", 1)
    except _PARSER_ERRORS as broken:
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


# --- encoding ---------------------------------------------------------------------------------

# A date in a message is rare: it takes the slow way, where one rule serves both codecs.
_STRICTLY = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


def _only_bytes(value: Any) -> None:
    """For the probe of a MessagePack message: bytes are plain there, nothing else is."""
    if type(value) is not bytes:
        raise TypeError


def _is_plain(message: Any) -> bool:
    """Whether a decoded map has string keys, plain values and at most `MAX_DEPTH` levels."""
    try:
        orjson.dumps(message, _only_bytes, _STRICTLY)
    except TypeError:
        return False
    return True


def _has_non_finite(message: Any) -> bool:
    level = [message]
    while level:
        below: list[Any] = []
        for node in level:
            for item in node.values() if isinstance(node, dict) else node:
                if type(item) is float:
                    if item - item != 0.0:  # NaN for NaN and both infinities
                        return True
                elif isinstance(item, dict | list | tuple):
                    below.append(item)
        level = below
    return False


def _encode_plain(codec: Codec, message: Mapping[str, Any]) -> Encoded:
    plain = Plain(json=codec is Codec.JSON)
    try:
        copy = plain.copy(message)
        if codec is Codec.MSGPACK:
            return Encoded(msgpack.packb(copy), ())
        try:
            payload = orjson.dumps(copy)
        except TypeError:  # an integer beyond 64 bits: only the standard library writes it
            text = json.dumps(copy, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            payload = text.encode("utf-8")
    except RecursionError:
        raise ValueError(too_deep("the message")) from None
    return Encoded(payload, plain.notes)
