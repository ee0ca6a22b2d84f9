"""One HTTP reply, read as it comes, within bounds.

The parser is llhttp, by `httptools`: what this file adds is what the parser leaves to its user,
which is where the bytes come from, how many may come, when a body ends that has no length, and
what was compressed although we asked that it be not.
"""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING

from dspy._vendor.lm15.transports import TransportResponse
from dspy._vendor.lm15.transports._exceptions import ProtocolError, ReadError, ReadTimeout
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from bridge.strand import drive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridge.engine.lms.sockets import PatientSocket

__all__ = ["Reply", "ReplyTooLarge"]

CHUNK = 64 * 1024
"""Bytes of one read."""

MOST_HEAD = 64 * 1024
"""Bytes of a head, which is far above what any server sends."""

INFLATED = {"gzip": 47, "x-gzip": 47, "deflate": 47}
"""What zlib takes for a coding: 32 + 15, either header, the largest window."""


class ReplyTooLarge(ProtocolError):  # type: ignore[misc]  # noqa: N818 - what the reply is
    """An HTTP reply has more than `max_reply` bytes."""

    def __init__(self, max_reply: int) -> None:
        super().__init__(f"the LM's reply is larger than {max_reply} bytes")


class Reply(TransportResponse):  # type: ignore[misc]
    """A reply; `whole` and `read` give its body, iteration the pieces of it as they come.

    Args:
        wire: where it comes from; `wire.ends` is when it must be whole.
        max_reply: bytes of body, as sent and as inflated; more is a ReplyTooLarge.
        release: told once, at the end, whether the connection can be used again.

    Raises:
        ReadTimeout: it was not whole in time.
        ReadError: the server closed before the head, or the connection broke.
        ProtocolError: it is not HTTP, or ends too early.
    """

    def __init__(
        self, wire: PatientSocket, *, max_reply: int, release: Callable[[bool], None]
    ) -> None:
        super().__init__(
            status=0, reason="", headers=[], http_version="", chunks=iter(()), release=release
        )
        self._wire = wire
        self._max_reply = max_reply
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._came = 0
        self._has_head = False
        self._has_length = False
        self._reusable = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._inflater: zlib._Decompress | None = None

    async def read_head(self) -> None:
        """Read until the body begins; give the connection back if that fails."""
        try:
            while not self._has_head:
                await self._read_some()
            self._inflater = self._inflater_for_body()
        except BaseException:
            self.close()
            raise

    def read(self) -> bytes:
        """`whole`, on this thread."""
        return drive(self.whole())

    async def whole(self) -> bytes:
        """The rest of the body."""
        try:
            pieces = self._inflated()
            while not self._complete:
                await self._read_some()
                pieces += self._inflated()
            return b"".join(pieces)
        finally:
            self.close()

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._inflated()
            while not self._complete:
                drive(self._read_some())
                yield from self._inflated()
        finally:
            self.close()

    def close(self) -> None:
        """Give the connection back. More than once is fine."""
        # The parser holds us, too.
        self._parser = None
        self._release_once(body_consumed=self._complete and self._reusable)

    def _inflater_for_body(self) -> zlib._Decompress | None:
        codings = [coding for coding in self._named("content-encoding") if coding != "identity"]
        if len(codings) > 1 or not set(codings) <= INFLATED.keys():
            raise ProtocolError(f"the reply is encoded as {', '.join(codings)}, unasked")
        return zlib.decompressobj(INFLATED[codings[0]]) if codings else None

    def _named(self, name: str) -> list[str]:
        """What the headers of this name list, in small letters."""
        return [
            part.strip().lower()
            for key, value in self.headers
            if key.lower() == name
            for part in value.split(",")
        ]

    async def _read_some(self) -> None:
        if self._came and time.monotonic() > self._wire.ends:
            # Bytes that are there already are no wait, which would have ended by itself.
            raise ReadTimeout("the reply was not complete in time")
        try:
            data = await self._wire.receive(CHUNK)
        except TimeoutError as error:
            raise ReadTimeout("the server sent nothing in time") from error
        except OSError as error:
            raise ReadError(f"read failed: {error}") from error
        if not data:
            self._end_of_stream()
            return
        self._came += len(data)
        assert self._parser is not None  # noqa: S101 - for the type checker
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as error:
            raise ProtocolError("the server switches to another protocol") from error
        except HttpParserError as error:
            if not self._complete:
                raise ProtocolError(f"the reply is not HTTP: {error}") from error
            # What follows a whole reply is nobody's.
            self._reusable = False
        if not self._has_head and self._came > MOST_HEAD:
            raise ProtocolError(f"the reply's head has more than {MOST_HEAD} bytes")
        if self._size > self._max_reply:
            raise ReplyTooLarge(self._max_reply)

    def _end_of_stream(self) -> None:
        self._reusable = False
        if not self._has_head:
            raise ReadError("server closed connection before sending response")
        if self._has_length:
            raise ProtocolError("the server closed the connection in the middle of the body")
        self._complete = True

    def _inflated(self) -> list[bytes]:
        """The pieces that came, as the server had them before it compressed them."""
        pieces, self._pieces = self._pieces, []
        if self._inflater is None:
            return pieces
        try:
            inflated = [self._inflate(self._inflater, piece) for piece in pieces]
        except zlib.error as error:
            raise ProtocolError(f"the reply cannot be decompressed: {error}") from error
        if self._complete and self._size and not self._inflater.eof:
            raise ProtocolError("the compressed reply ends too early")
        return [piece for piece in inflated if piece]

    def _inflate(self, inflater: zlib._Decompress, piece: bytes) -> bytes:
        self._size -= len(piece)
        inflated = inflater.decompress(piece, self._max_reply - self._size + 1)
        self._size += len(inflated)
        if self._size > self._max_reply:
            raise ReplyTooLarge(self._max_reply)
        return inflated

    # What the parser calls

    def on_message_begin(self) -> None:
        """A reply begins; a second one is nobody's."""
        self._reusable = False
        if not self._has_head:
            self.reason = ""

    def on_status(self, reason: bytes) -> None:
        """A piece of the text behind the status."""
        if not self._has_head:
            self.reason += reason.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if not self._has_head:
            self.headers.append((name.decode("latin-1"), value.decode("latin-1").strip()))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        parser = self._parser
        if self._has_head or parser is None:
            return
        self.status = parser.get_status_code()
        if self.status // 100 == 1:
            # "Continue", or hints: the reply is yet to come.
            self.headers.clear()
            return
        self.http_version = f"HTTP/{parser.get_http_version()}"
        self._has_length = bool(self._named("content-length") or self._named("transfer-encoding"))
        self._has_head = True

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if not self._complete:
            self._pieces.append(data)
            self._size += len(data)

    def on_message_complete(self) -> None:
        """The reply is whole."""
        if self._has_head and not self._complete and self._parser is not None:
            self._complete = True
            self._reusable = self._parser.should_keep_alive()
