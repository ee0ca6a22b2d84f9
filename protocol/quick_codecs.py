"""Both codecs without a walk in Python, for ordinary messages.

The law of this file: the C encoders meet what is out of the ordinary and refuse it; only then is
the message given to `protocol.json_codec` or `protocol.msgpack_codec`, which give the same values
for the same bytes. orjson serves as the C walk of a MessagePack message, too: it refuses just what
msgpack would write or read in silence (a key that is no string, an extension type, a nesting too
deep), at a fifth of msgpack's own time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack  # type: ignore[import-untyped]
import orjson

from protocol import json_codec, msgpack_codec
from protocol.errors import InvalidFrame
from protocol.plain import MAX_DEPTH, Encoded, base64_of_bytes, too_deep

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["decode_json", "decode_msgpack", "encode_json", "encode_msgpack"]

_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))
_MAYBE_BEYOND_64_BITS = b"0" * 19
"""-(2**63) has 19 digits: no shorter run of digits is an integer that orjson reads as a float."""

# A date in a message is rare: it takes the slow way, where one rule serves both codecs.
_STRICTLY = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


def decode_json(payload: bytes) -> dict[str, Any]:
    """The map that a payload is; raise InvalidFrame."""
    if _MAYBE_BEYOND_64_BITS in payload.translate(_DIGITS):
        return json_codec.decode(payload)
    try:
        message: dict[str, Any] = orjson.loads(payload)
    except ValueError as error:
        if b"\\u" in payload:  # orjson refuses a lone surrogate, too
            return json_codec.decode(payload)
        raise InvalidFrame(f"the frame is not a JSON object: {error}") from None
    # A level costs two bytes and a bracket: most messages are too short or too flat to be deep.
    if (
        len(payload) > 2 * MAX_DEPTH
        and payload.count(b"{") + payload.count(b"[") > MAX_DEPTH
        and not _fits(message)
    ):
        raise InvalidFrame(too_deep("the frame"))
    return message


def encode_json(message: Mapping[str, Any]) -> Encoded:
    """The payload of a map; see `protocol.codecs.encode`."""
    try:
        payload = orjson.dumps(message, base64_of_bytes, _STRICTLY)
    except (TypeError, ValueError, OverflowError):
        return json_codec.encode(message)
    # orjson writes NaN as null by itself and does not tell.
    if b"null" in payload and _has_non_finite(message):
        return json_codec.encode(message)
    return Encoded(payload, ())


def decode_msgpack(payload: bytes) -> dict[str, Any]:
    """The map that a payload is; raise InvalidFrame."""
    return msgpack_codec.decode(payload, _fits)


def encode_msgpack(message: Mapping[str, Any]) -> Encoded:
    """The payload of a map; see `protocol.codecs.encode`."""
    try:
        orjson.dumps(message, _only_bytes, _STRICTLY)
        return Encoded(msgpack.packb(message), ())
    except (TypeError, ValueError, OverflowError):
        return msgpack_codec.encode(message)


def _only_bytes(value: Any) -> None:
    """For the probe of a MessagePack message: bytes are plain there, nothing else is."""
    if type(value) is not bytes:
        raise TypeError


def _fits(message: Any) -> bool:
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
