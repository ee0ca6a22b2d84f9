"""Payloads to maps and back: JSON and MessagePack, told apart by the first byte.

The law of this file: both codecs carry the same values (maps with string keys, lists, strings,
numbers, booleans, null), and what one of them cannot carry is replaced or refused by name, never
sent in a form the other side cannot read. Beyond those values, JSON carries bytes as base64 and
MessagePack carries an integer beyond 64 bits as a decimal string.

Each codec has two ways, which give the same values. The exact one walks every message in Python
and needs little to be imported; the quick one leaves ordinary messages to C, but takes longer to
import than a daemon may take for its first answer. Whoever has greeted calls `load_quick_codecs`.

Of a key that stands twice in a map the last value counts, in both codecs, as in Elixir's decoders.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from protocol.errors import InvalidFrame
from protocol.plain import MAX_DEPTH, PARSER_ERRORS, Encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

__all__ = [
    "MAX_DEPTH",
    "Codec",
    "Encoded",
    "codec_of",
    "decode",
    "encode",
    "glimpse",
    "load_quick_codecs",
]


class Codec(Enum):
    """How a map is written into a payload; the values are the names in ``hello``."""

    JSON = "json"
    MSGPACK = "msgpack"


class _Way(NamedTuple):
    decode: Callable[[bytes], dict[str, Any]]
    encode: Callable[[Mapping[str, Any]], Encoded]


_CODECS = {
    ord("{"): Codec.JSON,
    **dict.fromkeys([*range(0x80, 0x90), 0xDE, 0xDF], Codec.MSGPACK),
}

_ways: dict[Codec, _Way] = {}
"""How each codec is read and written now; empty for one that has not been needed."""


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
    return codec, (_ways.get(codec) or _begin(codec)).decode(payload)


def encode(codec: Codec, message: Mapping[str, Any]) -> Encoded:
    """The payload of a map.

    Keys become strings; tuples and sets become lists (sets sorted), dates and times ISO 8601
    strings, enums their values. In JSON a NaN or infinity becomes null, with a note.

    Raises:
        ValueError: a value has no form on the wire or is nested deeper than `MAX_DEPTH`; the
            text names its path.
    """
    return (_ways.get(codec) or _begin(codec)).encode(message)


def glimpse(payload: bytes) -> dict[Any, Any] | None:
    """What can be read of a payload that `decode` refused, or None.

    Its only use is to find the id that the refusal should carry.
    """
    try:
        top = _exact(codec_of(payload)).read_anything(payload)
    except (InvalidFrame, *PARSER_ERRORS):
        return None
    return top if isinstance(top, dict) else None


def load_quick_codecs() -> None:
    """Import what reads and writes ordinary messages ten times as fast, and use it from here on."""
    from protocol import quick_codecs as quick  # noqa: PLC0415 - 30 ms, which is why

    _ways[Codec.JSON] = _Way(quick.decode_json, quick.encode_json)
    _ways[Codec.MSGPACK] = _Way(quick.decode_msgpack, quick.encode_msgpack)


def _begin(codec: Codec) -> _Way:
    exact = _exact(codec)
    # The quick way may have come meanwhile, on another thread.
    return _ways.setdefault(codec, _Way(exact.decode, exact.encode))


def _exact(codec: Codec) -> ModuleType:
    """The codec's own file: hosts speak one of the two, so only that one is imported."""
    if codec is Codec.JSON:
        from protocol import json_codec  # noqa: PLC0415

        return json_codec
    from protocol import msgpack_codec  # noqa: PLC0415

    return msgpack_codec
