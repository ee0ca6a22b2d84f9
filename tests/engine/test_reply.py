"""HTTP replies: what they are does not depend on how they come, and none is believed too much."""

from __future__ import annotations

import gzip
import math
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from dspy._vendor.lm15.transports._exceptions import (
    ProtocolError,
    ReadError,
    ReadTimeout,
    TransportError,
)
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine.lms.reply import MOST_HEAD, Reply, ReplyTooLarge
from bridge.strand import drive

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_REPLY = 5_000


class Wire:
    """A connection on which these pieces come, and then the end, or what is raised."""

    def __init__(
        self, *pieces: bytes, then: Exception | None = None, ends: float = math.inf
    ) -> None:
        self.pieces = iter(pieces)
        self.then = then
        self.ends = ends

    async def receive(self, _: int) -> bytes:
        piece = next(self.pieces, None)
        if piece is None and self.then is not None:
            raise self.then
        return piece or b""


class Given:
    """What became of the connection; None while the reply has it."""

    reusable: bool | None = None

    def back(self, reusable: bool) -> None:
        assert self.reusable is None
        self.reusable = reusable


def reply_on(wire: Any, given_back: Given | None = None) -> Reply:
    back = (given_back or Given()).back
    reply = Reply(wire, max_reply=MAX_REPLY, release=back)
    drive(reply.read_head())
    return reply


def with_length(body: bytes, *headers: str) -> bytes:
    head = "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers])
    return head.encode() + b"\r\n\r\n" + body


def chunked(body: bytes, *headers: str) -> bytes:
    head = "\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *headers])
    cut = [body[at : at + 7] for at in range(0, len(body), 7)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in cut)
    return head.encode() + b"\r\n\r\n" + chunks + b"0\r\n\r\n"


def until_the_end(body: bytes, *headers: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", *headers]).encode() + b"\r\n\r\n" + body


FRAMINGS = [with_length, chunked, until_the_end]
CODINGS = [
    (None, bytes),
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("identity", bytes),
]


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    at = sorted(draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=12)))
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True) if a < b]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(("coding", "encode"), CODINGS)
@given(body=st.binary(max_size=300), data=st.data())
def test_a_body_is_the_same_however_it_is_cut(framing, coding, encode, body, data):
    headers = ["X-One: 1", "x-one:  2 "] + ([f"Content-Encoding: {coding}"] if coding else [])
    pieces = data.draw(cut(framing(encode(body), *headers)))
    whole, stepwise = reply_on(Wire(*pieces)), reply_on(Wire(*pieces))
    assert (whole.status, whole.reason, whole.http_version) == (200, "OK", "HTTP/1.1")
    assert whole.headers_all("X-ONE") == ["1", "2"]
    assert whole.read() == body
    assert b"".join(stepwise) == body


@given(data=st.binary(max_size=300))
def test_whatever_comes_is_a_reply_or_a_transport_error(data):
    with suppress(TransportError):
        reply_on(Wire(data)).read()


@pytest.mark.parametrize(
    ("came", "reusable"),
    [
        (with_length(b"ok"), True),
        (chunked(b"ok"), True),
        (with_length(b"ok", "Connection: close"), False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", False),
        (until_the_end(b"ok"), False),
        (with_length(b"ok") + b"and more", False),
        (with_length(b"ok") + with_length(b"no"), False),
    ],
)
def test_a_connection_is_used_again_when_it_is_as_it_was(came, reusable):
    given_back = Given()
    assert reply_on(Wire(came), given_back).read() == b"ok"
    assert given_back.reusable is reusable


def test_a_reply_that_is_not_read_to_its_end_takes_its_connection_with_it():
    given_back = Given()
    with reply_on(Wire(with_length(b"long")[:-1], then=TimeoutError()), given_back):
        pass
    assert given_back.reusable is False


def test_pieces_are_given_as_they_come():
    def later() -> Iterator[bytes]:
        yield chunked(b"first").removesuffix(b"0\r\n\r\n")
        assert b"".join(heard) == b"first"
        yield b"6\r\nsecond\r\n0\r\n\r\n"

    wire = Wire()
    wire.pieces = later()
    heard: list[bytes] = []
    for piece in reply_on(wire):
        heard.append(piece)
    assert b"".join(heard) == b"firstsecond"


def test_what_comes_before_the_reply_is_passed_over():
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
    reply = reply_on(Wire(b"HTTP/1.1 100 Continue\r\n\r\n" + hints + with_length(b"ok", "A: b")))
    assert reply.status == 200
    assert reply.header("link") is None
    assert reply.read() == b"ok"


def test_a_reply_without_a_body_ends_with_its_head():
    reply = reply_on(Wire(b"HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n"))
    assert (reply.status, reply.read()) == (204, b"")


@pytest.mark.parametrize(
    ("wire", "error"),
    [
        (Wire(), ReadError),
        (Wire(b"HTTP/1.1 200"), ReadError),
        (Wire(then=TimeoutError()), ReadTimeout),
        (Wire(then=ConnectionResetError()), ReadError),
        (Wire(b"SSH-2.0-OpenSSH_9.2\r\n"), ProtocolError),
        (Wire(*[b"HTTP/1.1 200 OK\r\n", *[b"A: b\r\n" * 2_000] * 10]), ProtocolError),
        (Wire(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"), None),
        (Wire(with_length(b"x", "Content-Encoding: br")), ProtocolError),
        (Wire(with_length(b"x", "Content-Encoding: gzip, gzip")), ProtocolError),
    ],
)
def test_a_head_that_is_none_is_an_error(wire, error):
    given_back = Given()
    with pytest.raises(error or TransportError):
        reply_on(wire, given_back)
    assert given_back.reusable is not None


@pytest.mark.parametrize(
    ("wire", "error"),
    [
        (Wire(with_length(b"cut")[:-1]), ProtocolError),
        (Wire(chunked(b"cut")[:-5]), ProtocolError),
        (Wire(chunked(b"bad").replace(b"3\r\n", b"z\r\n")), ProtocolError),
        (Wire(with_length(b"slow")[:-1], then=TimeoutError()), ReadTimeout),
        (Wire(with_length(b"x" * (MAX_REPLY + 1))), ReplyTooLarge),
        (Wire(with_length(gzip.compress(bytes(50 * MAX_REPLY)), "Content-Encoding: gzip")), None),
        (Wire(with_length(gzip.compress(b"cut")[:-9], "Content-Encoding: gzip")), ProtocolError),
        (Wire(with_length(b"not it", "Content-Encoding: gzip")), ProtocolError),
    ],
)
def test_a_body_that_is_none_is_an_error(wire, error):
    given_back = Given()
    with pytest.raises(error or ReplyTooLarge):
        reply_on(wire, given_back).read()
    assert given_back.reusable is not None


def test_a_head_may_have_so_many_bytes():
    header = f"A: {'x' * (MOST_HEAD - 200)}"
    assert reply_on(Wire(with_length(b"ok", header))).read() == b"ok"


def test_a_reply_that_drips_is_left_when_the_time_is_over():
    wire = Wire(*[b"%c" % byte for byte in with_length(b"never")], ends=-math.inf)
    with pytest.raises(ReadTimeout):
        reply_on(wire)
