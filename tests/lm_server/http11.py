"""HTTP/1.1 for a server, sans-IO: request bytes in, requests out; heads and chunks of replies out.

As small as a test server can be: no pipelining limits, no trailers kept, no compression. What it
cannot read raises `MalformedRequestError`, after which the connection is of no further use.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

MAX_HEAD: Final = 64 * 1024
"""Bytes of request line and headers; a client that sends more is not speaking HTTP."""

LAST_CHUNK: Final = b"0\r\n\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class MalformedRequestError(Exception):
    """The bytes are not an HTTP/1.1 request."""


@dataclass(slots=True)
class HttpRequest:
    """One request: `headers` lower-cased, `path` without its query."""

    method: str
    path: str
    headers: dict[str, str]
    keep_alive: bool
    body: bytes = b""


class RequestParser:
    """Turns any chunking of a connection's bytes into its requests."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: HttpRequest | None = None
        self._chunks: list[bytes] | None = None
        self._length = 0
        self._continue_due = False

    def feed(self, data: bytes) -> list[HttpRequest]:
        """Take bytes; give the requests they completed. Raises MalformedRequestError."""
        self._buffer += data
        requests = []
        while (request := self._next_request()) is not None:
            requests.append(request)
        return requests

    def take_continue(self) -> bool:
        """Whether a client waits for `100 Continue` before it sends its body; asked once."""
        due, self._continue_due = self._continue_due, False
        return due

    def _next_request(self) -> HttpRequest | None:
        if self._head is None and not self._read_head():
            return None
        request = self._head
        body = self._read_chunks() if self._chunks is not None else self._read_sized()
        if request is None or body is None:
            return None
        request.body = body
        self._head, self._chunks, self._continue_due = None, None, False
        return request

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise MalformedRequestError(f"no end of headers in {MAX_HEAD} bytes")
            return False
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        try:
            method, target, version = lines[0].split(" ")
            self._length = int(headers.get("content-length", "0"))
        except ValueError:
            raise MalformedRequestError(f"not an HTTP/1.1 head: {lines[0][:80]!r}") from None
        if not version.startswith("HTTP/1.") or self._length < 0:
            raise MalformedRequestError(f"not an HTTP/1.1 head: {lines[0][:80]!r}")
        self._chunks = [] if "chunked" in headers.get("transfer-encoding", "").lower() else None
        self._continue_due = headers.get("expect", "").lower() == "100-continue"
        connection = headers.get("connection", "").lower()
        keep_alive = connection != "close" if version != "HTTP/1.0" else connection == "keep-alive"
        self._head = HttpRequest(method, target.partition("?")[0], headers, keep_alive)
        return True

    def _read_sized(self) -> bytes | None:
        if len(self._buffer) < self._length:
            return None
        body = bytes(self._buffer[: self._length])
        del self._buffer[: self._length]
        return body

    def _read_chunks(self) -> bytes | None:
        chunks = self._chunks if self._chunks is not None else []
        while (end := self._buffer.find(b"\r\n")) >= 0:
            try:
                size = int(self._buffer[:end].partition(b";")[0], 16)
            except ValueError:
                raise MalformedRequestError("a chunk without a size") from None
            if size == 0:
                last = self._buffer.find(b"\r\n\r\n", end)
                if last < 0:
                    return None
                del self._buffer[: last + 4]
                return b"".join(chunks)
            if len(self._buffer) < end + size + 4:
                return None
            chunks.append(bytes(self._buffer[end + 2 : end + 2 + size]))
            del self._buffer[: end + size + 4]
        return None


def encode_head(
    status: int, headers: dict[str, str], *, length: int | None, keep_alive: bool = True
) -> bytes:
    """The status line and headers of a reply; `length` None means a chunked body."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
    lines.append("connection: keep-alive" if keep_alive else "connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def encode_chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; `data` must not be empty (that would end the body)."""
    return b"%x\r\n%b\r\n" % (len(data), data)
