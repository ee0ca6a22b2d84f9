"""What both roles of the connection share: the framing, the limit, and frames to maps.

The law of this file: it knows no message but by its id. What the maps say is the business of
`protocol.session`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from protocol.codecs import Codec, codec_of, decode, encode, glimpse
from protocol.errors import BridgeError, FrameTooLarge, InvalidFrame
from protocol.frames import (
    DEFAULT_MAX_FRAME,
    FrameDecoder,
    LineDecoder,
    OversizedFrame,
    encode_frame,
    encode_line,
)
from protocol.messages import Id, id_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Framing", "LocalProtocolError", "Peer", "Refused"]

Framing: TypeAlias = Literal["packet", "lines"]


class LocalProtocolError(RuntimeError):
    """This side was about to send what the protocol does not allow here: a bug of ours."""


class Refused(NamedTuple):
    """A frame that is no message: answer ``error`` to ``id`` (None if it could not be read).

    ``call`` is set when the frame was a broken answer to that host call: its waiter should fail.
    """

    id: Id | None
    error: BridgeError
    codec: Codec
    call: Id | None = None


class Peer:
    """One end of the connection.

    Args:
        framing: ``"packet"`` (4-byte lengths) or ``"lines"`` (one JSON object a line).
        max_frame: payload bytes, in both directions.
        codec: for what no received message caused.

    Raises:
        ValueError: an argument is none of these, or asks for MessagePack in lines.
    """

    def __init__(
        self,
        framing: Framing = "packet",
        max_frame: int = DEFAULT_MAX_FRAME,
        codec: Codec = Codec.JSON,
    ) -> None:
        if framing not in ("packet", "lines"):
            raise ValueError(f"framing must be 'packet' or 'lines', not {framing!r}")
        if max_frame < 1:
            raise ValueError(f"max_frame must be a positive number of bytes, not {max_frame}")
        self._lines = framing == "lines"
        if self._lines and codec is not Codec.JSON:
            raise ValueError("lines carry JSON only: MessagePack has line feeds of its own")
        self.max_frame = max_frame
        self.codec = codec
        self._decoder = (LineDecoder if self._lines else FrameDecoder)(max_frame)

    @property
    def at_boundary(self) -> bool:
        """Whether the peer may end its stream here without losing a message."""
        return self._decoder.at_boundary

    def _read(self, frame: bytes | OversizedFrame) -> tuple[Codec, dict[str, Any]] | Refused:
        if isinstance(frame, OversizedFrame):
            error = FrameTooLarge(
                f"a frame of {frame.size} bytes is over the limit of {frame.limit}; "
                "it was discarded",
                size=frame.size,
                limit=frame.limit,
            )
            return Refused(None, error, self.codec)
        if self._lines and not frame.startswith(b"{"):
            return Refused(None, InvalidFrame("a line must be a JSON object"), self.codec)
        try:
            return decode(frame)
        except InvalidFrame as error:
            top = glimpse(frame)
            return self._refused(top, error, self._codec_meant(frame))

    def _refused(self, top: dict[Any, Any] | None, error: BridgeError, codec: Codec) -> Refused:
        """What stands for a map that is no message; `top` is None where not even a map is."""
        return Refused(id_of(top), error, codec)

    def _codec_meant(self, frame: bytes) -> Codec:
        try:
            return codec_of(frame)
        except InvalidFrame:
            return self.codec

    def _choose(self, codec: Codec | None) -> Codec:
        return Codec.JSON if self._lines else codec or self.codec

    def _fit(self, payload: bytes) -> bytes | None:
        """The bytes of a frame, or None if the peer would refuse it."""
        return self._wrap(payload) if len(payload) <= self.max_frame else None

    def _wrap(self, payload: bytes) -> bytes:
        return encode_line(payload) if self._lines else encode_frame(payload)

    def _encode_or_raise(self, codec: Codec | None, message: Mapping[str, Any], what: str) -> bytes:
        payload = encode(self._choose(codec), message).payload
        frame = self._fit(payload)
        if frame is None:
            raise self._too_large(what, len(payload))
        return frame

    def _too_large(self, what: str, size: int) -> FrameTooLarge:
        return FrameTooLarge(
            f"{what} of {size} bytes is over the limit of {self.max_frame}",
            size=size,
            limit=self.max_frame,
        )
