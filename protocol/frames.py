"""Bytes to payloads and back: length-prefixed packets (Erlang's ``{packet, 4}``) and lines.

The law of this file: the size alone decides. A payload that will be refused is never kept, so the
memory held is at most ``max_frame`` plus the chunk just fed, whatever the peer announces or sends.
Both decoders give the same items for any chunking of the same bytes. What a payload says is the
business of `protocol.codecs`.
"""

from __future__ import annotations

from typing import NamedTuple

from protocol.errors import FramingError

__all__ = [
    "DEFAULT_MAX_FRAME",
    "FrameDecoder",
    "LineDecoder",
    "OversizedFrame",
    "encode_frame",
    "encode_line",
]

DEFAULT_MAX_FRAME = 64 * 1024 * 1024
"""Payload bytes. A training set fits; two of them in memory at once do not hurt the host."""

_HEADER_SIZE = 4
_MAX_LENGTH = 2**32 - 1

_LEAST_PRINTABLE = 0x20202020
"""Four spaces read as a length: below it, a header cannot be four printable characters."""


class OversizedFrame(NamedTuple):
    """Stands for a payload of ``size`` bytes that was discarded, being over ``limit`` bytes.

    The size of a line is not known beforehand: there it is ``limit + 1``, the first byte too many.
    """

    size: int
    limit: int


def encode_frame(payload: bytes) -> bytes:
    """The payload behind its 4-byte big-endian length.

    Raises:
        ValueError: the length does not fit into 4 bytes.
    """
    size = len(payload)
    if size > _MAX_LENGTH:
        raise ValueError(f"a frame holds at most {_MAX_LENGTH} bytes, not {size}")
    return size.to_bytes(_HEADER_SIZE, "big") + payload


def encode_line(payload: bytes) -> bytes:
    """The payload and a line feed.

    Raises:
        ValueError: the payload has a line feed of its own and would arrive as two lines.
    """
    if b"\n" in payload:
        raise ValueError("a payload sent as a line must not contain a line feed")
    return payload + b"\n"


class FrameDecoder:
    """Cuts a stream of length-prefixed frames into payloads of at most ``max_frame`` bytes.

    Attributes:
        broken: why nothing more can be read from this peer; None as long as it can. What came
            before is given all the same.
    """

    __slots__ = ("_body", "_head", "_max_frame", "_size", "_skip", "broken")

    def __init__(self, max_frame: int) -> None:
        self._max_frame = max_frame
        self._head = b""
        self._body = bytearray()
        self._size: int | None = None
        self._skip = 0
        self.broken: FramingError | None = None

    @property
    def at_boundary(self) -> bool:
        """Whether the stream may end here: neither a header nor a payload is in progress."""
        return not self._head and self._size is None and not self._skip

    def feed(self, data: bytes) -> list[bytes | OversizedFrame]:
        """Take the next bytes of the stream; give what they completed, in order.

        A header of four printable characters breaks the stream: it is text.
        """
        data = bytes(data)
        end = len(data)
        position = 0
        items: list[bytes | OversizedFrame] = []
        while position < end and self.broken is None:
            if self._skip:
                step = min(self._skip, end - position)
                self._skip -= step
                position += step
                continue
            if self._size is None:
                position = self._read_header(data, position, items)
                if self._size is None:
                    continue
            position = self._read_body(data, position, items)
        return items

    def _read_header(self, data: bytes, position: int, items: list[bytes | OversizedFrame]) -> int:
        stop = position + _HEADER_SIZE - len(self._head)
        head = self._head + data[position:stop]
        if len(head) < _HEADER_SIZE:
            self._head = head
            return stop
        self._head = b""
        size = int.from_bytes(head, "big")
        if size > self._max_frame or size >= _LEAST_PRINTABLE:
            if all(0x20 <= byte <= 0x7E for byte in head):
                self.broken = FramingError(
                    f"expected a 4-byte length, got the text {head.decode('ascii')!r}: the peer "
                    "does not send length-prefixed frames ({packet, 4}), or something printed "
                    "into the stream"
                )
                return stop
            if size > self._max_frame:
                items.append(OversizedFrame(size, self._max_frame))
                self._skip = size
                return stop
        self._size = size
        return stop

    def _read_body(self, data: bytes, position: int, items: list[bytes | OversizedFrame]) -> int:
        assert self._size is not None  # noqa: S101 - for the type checker
        stop = position + self._size - len(self._body)
        if stop > len(data):
            self._body += memoryview(data)[position:]
            return len(data)
        if self._body:
            self._body += memoryview(data)[position:stop]
            items.append(bytes(self._body))
            # A new buffer, not a cleared one: the memory of a large frame is given back.
            self._body = bytearray()
        else:
            items.append(data[position:stop])
        self._size = None
        return stop

    def finish(self) -> list[bytes | OversizedFrame]:
        """The stream has ended; a packet stream holds nothing back, so the list is empty.

        An end inside a frame breaks the stream.
        """
        if self.broken is None and not self.at_boundary:
            self.broken = FramingError(f"the input ended {self._place()}")
        return []

    def _place(self) -> str:
        if self._head:
            return f"after {len(self._head)} of a header's 4 bytes"
        if self._size is not None:
            return f"after {len(self._body)} of a frame's {self._size} bytes"
        return f"{self._skip} bytes before the end of a frame"


class LineDecoder:
    """Cuts a stream into lines of at most ``max_frame`` bytes, counted before the line feed.

    A line is given without the white space around it, so LF and CRLF do equally; lines of nothing
    but white space are skipped.

    Attributes:
        broken: None, always: every stream of bytes is a stream of lines.
    """

    __slots__ = ("_discarding", "_line", "_max_frame", "broken")

    def __init__(self, max_frame: int) -> None:
        self.broken: FramingError | None = None
        self._max_frame = max_frame
        self._line = bytearray()
        self._discarding = False

    @property
    def at_boundary(self) -> bool:
        """Whether the last byte fed ended a line (or none was fed)."""
        return not self._line and not self._discarding

    def feed(self, data: bytes) -> list[bytes | OversizedFrame]:
        """Take the next bytes of the stream; give the lines they completed, in order."""
        items: list[bytes | OversizedFrame] = []
        *ended, rest = bytes(data).split(b"\n")
        for piece in ended:
            self._extend(piece, items)
            self._end_line(items)
        self._extend(rest, items)
        return items

    def finish(self) -> list[bytes | OversizedFrame]:
        """The stream has ended: the last line needs no line feed."""
        items: list[bytes | OversizedFrame] = []
        self._end_line(items)
        return items

    def _extend(self, piece: bytes, items: list[bytes | OversizedFrame]) -> None:
        if self._discarding:
            return
        if len(self._line) + len(piece) > self._max_frame:
            items.append(OversizedFrame(self._max_frame + 1, self._max_frame))
            self._discarding = True
            self._line = bytearray()
        else:
            self._line += piece

    def _end_line(self, items: list[bytes | OversizedFrame]) -> None:
        if line := self._line.strip():
            items.append(bytes(line))
        if self._line:
            self._line = bytearray()
        self._discarding = False
