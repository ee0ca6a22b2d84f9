"""Frames: `protocol.frames`."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import FramingError
from protocol.frames import (
    FrameDecoder,
    LineDecoder,
    OversizedFrame,
    encode_frame,
    encode_line,
)
from tests.protocol.strategies import chunkings, patient

LIMIT = 64


def fed(decoder, chunks):
    return [item for chunk in chunks for item in decoder.feed(chunk)]


# --- packets ----------------------------------------------------------------------------------


def test_a_frame_is_its_length_in_four_big_endian_bytes_and_its_payload():
    assert encode_frame(b'{"id":1}') == b'\x00\x00\x00\x08{"id":1}'


def test_a_payload_whose_length_needs_five_bytes_is_refused():
    class Huge(bytes):
        def __len__(self):
            return 2**32

    with pytest.raises(ValueError, match="4294967295"):
        encode_frame(Huge())


@patient
@given(st.lists(st.binary(max_size=2 * LIMIT), max_size=8), st.data())
def test_frames_survive_any_chunking(payloads, data):
    stream = b"".join(map(encode_frame, payloads))
    decoder = FrameDecoder(LIMIT)

    items = fed(decoder, data.draw(chunkings(stream)))

    assert items == [
        payload if len(payload) <= LIMIT else OversizedFrame(len(payload), LIMIT)
        for payload in payloads
    ]
    assert decoder.at_boundary
    assert decoder.finish() == []


def test_a_header_split_into_single_bytes_is_read():
    decoder = FrameDecoder(LIMIT)
    assert fed(decoder, [b"\x00", b"\x00", b"\x00"]) == []
    assert not decoder.at_boundary
    assert fed(decoder, [b"\x02", b"o", b"k"]) == [b"ok"]


def test_an_empty_frame_is_an_empty_payload():
    assert FrameDecoder(LIMIT).feed(b"\x00\x00\x00\x00" * 2) == [b"", b""]


def test_a_frame_of_exactly_the_limit_is_read_and_one_byte_more_is_not():
    decoder = FrameDecoder(LIMIT)
    stream = encode_frame(b"a" * LIMIT) + encode_frame(b"b" * (LIMIT + 1)) + encode_frame(b"c")
    assert decoder.feed(stream) == [b"a" * LIMIT, OversizedFrame(LIMIT + 1, LIMIT), b"c"]


def test_an_oversized_frame_is_refused_from_its_header_alone():
    decoder = FrameDecoder(LIMIT)
    assert decoder.feed(b"\xff\xff\xff\xff") == [OversizedFrame(2**32 - 1, LIMIT)]
    assert not decoder.at_boundary


def test_a_four_gigabyte_frame_is_discarded_in_bounded_memory():
    decoder = FrameDecoder(LIMIT)
    chunk = bytes(2**20)
    tracemalloc.start()
    try:
        items = decoder.feed(b"\xff\xff\xff\xff")
        for _ in range(2**12 - 1):
            items += decoder.feed(chunk)
        items += decoder.feed(chunk[:-1] + encode_frame(b"next"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert items == [OversizedFrame(2**32 - 1, LIMIT), b"next"]
    # The last chunk is built here: it and its slice are all that is held.
    assert peak < 4 * len(chunk)


@pytest.mark.parametrize("text", [b'{"id', b"GET ", b" 0%|", b"    ", b"~~~~"])
def test_a_header_of_printable_text_means_a_peer_that_does_not_frame(text):
    decoder = FrameDecoder(LIMIT)
    assert decoder.feed(text) == []
    assert isinstance(decoder.broken, FramingError)
    assert repr(text.decode()) in str(decoder.broken)


def test_printable_text_is_no_length_even_under_a_limit_that_would_allow_it():
    decoder = FrameDecoder(2**32 - 1)
    decoder.feed(b"GET ")
    assert decoder.broken is not None


def test_a_header_with_one_unprintable_byte_is_a_length():
    assert FrameDecoder(LIMIT).feed(b"GET\x7f") == [OversizedFrame(0x4745547F, LIMIT)]


def test_a_broken_stream_stays_broken():
    decoder = FrameDecoder(LIMIT)
    decoder.feed(b"GET ")
    why = decoder.broken
    assert decoder.feed(encode_frame(b"ok")) == []
    assert decoder.finish() == []
    assert decoder.broken is why


def test_what_comes_before_the_break_is_given():
    assert FrameDecoder(LIMIT).feed(encode_frame(b"ok") + b"GET ") == [b"ok"]


@pytest.mark.parametrize(
    "start", [b"\x00", b"\x00\x00\x00\x03", b"\x00\x00\x00\x03ok", b"\xff" * 9]
)
def test_an_end_in_the_middle_of_a_frame_is_an_error(start):
    decoder = FrameDecoder(LIMIT)
    decoder.feed(start)
    assert not decoder.at_boundary
    assert decoder.finish() == []
    assert isinstance(decoder.broken, FramingError)


def test_payloads_do_not_share_the_memory_of_their_chunk():
    chunk = bytearray(encode_frame(b"kept"))
    [payload] = FrameDecoder(LIMIT).feed(chunk)
    chunk[:] = bytes(len(chunk))
    assert payload == b"kept"


def test_a_large_frame_in_small_chunks_is_held_about_twice_at_most():
    size = 16 * 2**20
    decoder = FrameDecoder(size)
    chunk = bytes(64 * 1024)
    tracemalloc.start()
    try:
        decoder.feed(size.to_bytes(4, "big"))
        for _ in range(size // len(chunk) - 1):
            assert decoder.feed(chunk) == []
        [payload] = decoder.feed(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(payload) == size
    assert peak < 2.5 * size


@pytest.mark.load
@pytest.mark.parametrize("decoder", [FrameDecoder, LineDecoder])
def test_two_hundred_thousand_small_frames_in_one_chunk_take_linear_time(decoder):
    wrap = encode_frame if decoder is FrameDecoder else encode_line
    stream = wrap(b'{"id":1}') * 200_000
    began = time.perf_counter()
    assert len(decoder(LIMIT).feed(stream)) == 200_000
    # About 0.1 s; slicing the rest off after each frame would take a minute.
    assert time.perf_counter() - began < 5


# --- lines ------------------------------------------------------------------------------------

lines = st.binary(max_size=2 * LIMIT).map(lambda line: line.replace(b"\n", b""))


def test_a_line_is_its_payload_and_a_line_feed():
    assert encode_line(b'{"id":1}') == b'{"id":1}\n'


def test_a_payload_with_a_line_feed_is_no_line():
    with pytest.raises(ValueError, match="line feed"):
        encode_line(b'{"id":\n1}')


@patient
@given(st.lists(lines, max_size=8), st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.data())
def test_lines_survive_any_chunking(payloads, ending, ended, data):
    stream = ending.join(payloads) + (ending if ended else b"")
    decoder = LineDecoder(LIMIT)

    items = fed(decoder, data.draw(chunkings(stream))) + decoder.finish()

    assert items == [
        OversizedFrame(LIMIT + 1, LIMIT) if len(line) > LIMIT else line.strip()
        for line in stream.split(b"\n")
        if len(line) > LIMIT or line.strip()
    ]
    assert decoder.at_boundary


def test_lf_and_crlf_end_a_line_and_blank_lines_are_skipped():
    decoder = LineDecoder(LIMIT)
    assert decoder.feed(b'{"a":1}\n\r\n  \t\n {"b":2} \r\n') == [b'{"a":1}', b'{"b":2}']


def test_the_last_line_needs_no_line_feed():
    decoder = LineDecoder(LIMIT)
    assert decoder.feed(b'{"a":1}\n{"b":2}') == [b'{"a":1}']
    assert not decoder.at_boundary
    assert decoder.finish() == [b'{"b":2}']
    assert decoder.finish() == []


def test_an_overlong_line_is_refused_once_and_the_next_one_is_read():
    decoder = LineDecoder(LIMIT)
    items = fed(decoder, [b"x" * LIMIT, b"x", b"x" * LIMIT, b"x\nok\n"])
    assert items == [OversizedFrame(LIMIT + 1, LIMIT), b"ok"]


def test_an_overlong_last_line_is_refused_only_once():
    decoder = LineDecoder(LIMIT)
    assert decoder.feed(b"x" * (LIMIT + 1)) == [OversizedFrame(LIMIT + 1, LIMIT)]
    assert not decoder.at_boundary
    assert decoder.finish() == []


def test_an_endless_line_is_discarded_in_bounded_memory():
    decoder = LineDecoder(LIMIT)
    chunk = b"x" * 2**20
    tracemalloc.start()
    try:
        items = [item for _ in range(256) for item in decoder.feed(chunk)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert items == [OversizedFrame(LIMIT + 1, LIMIT)]
    assert peak < 3 * len(chunk)
