"""The exact way and the quick way of each codec: the same values, whatever the bytes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol import json_codec, msgpack_codec, quick_codecs
from protocol.errors import InvalidFrame
from tests.protocol.link import same
from tests.protocol.strategies import json_values, maps, msgpack_values, patient, texts

WAYS = {
    "json": (
        json_codec.decode,
        json_codec.encode,
        quick_codecs.decode_json,
        quick_codecs.encode_json,
    ),
    "msgpack": (
        msgpack_codec.decode,
        msgpack_codec.encode,
        quick_codecs.decode_msgpack,
        quick_codecs.encode_msgpack,
    ),
}
each = st.sampled_from(sorted(WAYS))


def read(decode, payload):
    """The map, or that it is none."""
    try:
        return decode(payload)
    except InvalidFrame:
        return InvalidFrame


@patient
@given(each, maps | st.dictionaries(texts, json_values | msgpack_values, max_size=3))
@example("json", {"a": 1e-7, "b": 1e16, "c": -0.0, "d": 2**70, "e": "\x00\x7f\u2028"})
def test_what_one_way_writes_the_other_reads_the_same(name, message):
    exact_decode, exact_encode, quick_decode, quick_encode = WAYS[name]
    exact, quick = exact_encode(message), quick_encode(message)
    assert exact.notes == quick.notes
    assert same(exact_decode(quick.payload), quick_decode(exact.payload))


@patient
@given(each, st.binary(max_size=60), st.sampled_from([b"", b'"a":', b"\xa1a"]))
@example("json", b"1}", b'{"a":')
@example("json", b"1e999}", b'"a":')
def test_both_ways_refuse_the_same_bytes(name, rest, start):
    exact_decode, _, quick_decode, _ = WAYS[name]
    payload = (b"{" if name == "json" else b"\x81") + start + rest
    assert same(read(exact_decode, payload), read(quick_decode, payload))


@patient
@given(each, maps.filter(bool), st.data())
def test_both_ways_take_the_same_damage(name, message, data):
    exact_decode, _, quick_decode, quick_encode = WAYS[name]
    payload = bytearray(quick_encode(message).payload)
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(1, len(payload) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(payload)
    assert same(read(exact_decode, damaged), read(quick_decode, damaged))


@pytest.mark.parametrize(
    ("payload", "other"), [('b"{}"', "msgpack"), (r'b"\x80"', "json"), (r'b"\x80"', "dataclasses")]
)
def test_a_first_message_imports_no_more_than_its_own_codec(payload, other):
    program = f"""
import sys
from protocol import DaemonSession, encode_frame
session = DaemonSession()
session.receive_data(encode_frame({payload}))
item = session.next_message()
session.encode_error(item.id, item.error, item.codec)
assert "orjson" not in sys.modules
assert {other!r} not in sys.modules, {other!r}
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
