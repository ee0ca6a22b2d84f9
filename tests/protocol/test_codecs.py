"""JSON and MessagePack: `protocol.codecs` and `protocol.plain`."""

from __future__ import annotations

import base64
import math

import msgpack
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.codecs import MAX_DEPTH, Codec, codec_of, decode, encode, glimpse
from protocol.errors import InvalidFrame
from tests.protocol.link import round_trip, same
from tests.protocol.strategies import (
    codecs,
    json_values,
    maps,
    msgpack_values,
    patient,
    python_values,
    texts,
)

pytestmark = pytest.mark.usefixtures("way")

both = pytest.mark.parametrize("codec", Codec)


def nested(levels):
    """A map with ``levels`` maps and lists within each other, itself included."""
    value = 1
    for _ in range(levels - 1):
        value = [value]
    return {"a": value}


# --- the first byte ---------------------------------------------------------------------------


@given(st.integers(0, 255))
def test_the_first_byte_tells_the_codec_or_refuses(byte):
    payload = bytes([byte, 0, 0])
    if byte == 0x7B:
        assert codec_of(payload) is Codec.JSON
    elif 0x80 <= byte <= 0x8F or byte in (0xDE, 0xDF):
        assert codec_of(payload) is Codec.MSGPACK
    else:
        with pytest.raises(InvalidFrame):
            codec_of(payload)


def test_an_empty_frame_has_no_codec():
    with pytest.raises(InvalidFrame):
        decode(b"")


# --- round trips ------------------------------------------------------------------------------


@patient
@given(codecs, maps)
def test_what_both_codecs_carry_survives_a_round_trip(codec, message):
    assert same(round_trip(codec, message), message)


@patient
@given(st.dictionaries(texts, json_values, max_size=4))
@example({"a": 2**64, "b": [-(2**63) - 1], "c": 10**4000})
@example({"a": 2**64 - 1, "b": -(2**63), "c": 9999999999999999999.0})
def test_integers_of_any_size_survive_json(message):
    assert same(round_trip(Codec.JSON, message), message)


@patient
@given(st.dictionaries(texts, msgpack_values, max_size=4))
@example({"a": math.inf, "b": -math.inf})
@example({"key": b"\xc4\xd6\xff"})
def test_bytes_and_infinities_survive_messagepack(message):
    assert same(round_trip(Codec.MSGPACK, message), message)


def test_nan_survives_messagepack():
    assert math.isnan(round_trip(Codec.MSGPACK, {"a": math.nan})["a"])


@patient
@given(st.dictionaries(texts, python_values, max_size=4))
def test_both_codecs_agree_on_whatever_python_hands_in(message):
    decoded = {}
    for codec in Codec:
        try:
            decoded[codec] = decode(encode(codec, message).payload)[1]
        except ValueError as error:
            decoded[codec] = type(error)

    assert same(*(_comparable(decoded[codec]) for codec in Codec))


def _comparable(value):
    """What is left where the codecs may differ by their rules: NaN, bytes, long integers."""
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    return value


# --- strings ----------------------------------------------------------------------------------


@both
def test_lone_surrogates_are_replaced_in_strings_and_keys(codec):
    message = {"a\udc00": "x\ud800y", "b": ["ä\udfff"]}
    assert round_trip(codec, message) == {"a\ufffd": "x\ufffdy", "b": ["ä\ufffd"]}


def test_lone_surrogate_escapes_in_json_are_replaced_and_pairs_are_kept():
    payload = rb'{"a":"x\ud800y","b\uDC00":"\ud83d\ude00","c":"\u00e4"}'
    assert decode(payload)[1] == {"a": "x\ufffdy", "b\ufffd": "😀", "c": "ä"}


def test_invalid_utf8_is_replaced_in_messagepack_and_refused_in_json():
    assert decode(b"\x81\xa1a\xa2\xff!")[1] == {"a": "\ufffd!"}
    for broken in (b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\xff\\u0041"}'):
        with pytest.raises(InvalidFrame):
            decode(broken)


def test_long_digits_in_a_string_are_no_number():
    message = {"a": "1" * 40, "b": 1.5, "c": [None, True, {"d": "ä"}]}
    assert same(round_trip(Codec.JSON, message), message)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400"])
@pytest.mark.parametrize("beside", [b"1", b"12345678901234567890123", rb'"\ud800"'])
def test_json_with_a_number_that_is_none_is_refused(number, beside):
    with pytest.raises(InvalidFrame):
        decode(b'{"a":' + number + b',"b":' + beside + b"}")


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b'{"a":1',
        b'{"a":1}}',
        b'{"a":1}{"b":2}',
        b'{"a":1} x',
        b'{"a":01}',
        b'{1:"a"}',
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":"\n"}',
        b'{"a":12345678901234567890123}}',
        b'{"a":' + b"1" * 5000 + b"}",
        b"\x81",
        b"\x81\xa1a",
        b"\x81\xa1a\x01\x00",
        b"\x81\xa1a\xc1",
        b"\x81\xa1a\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\x90\x01",
        b"\x81\x80\x01",
    ],
)
def test_a_payload_that_is_not_exactly_one_map_is_refused(payload):
    with pytest.raises(InvalidFrame):
        decode(payload)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (msgpack.packb({"args": {7: 1}}), "args: the map key 7 is not a string"),
        (msgpack.packb({7: 1}), "the frame: the map key 7 is not a string"),
        (msgpack.packb({"args": {b"k": 1}}), "args: the map key b'k' is not a string"),
        (msgpack.packb({"args": {None: 1}}), "the map key None"),
        (msgpack.packb({"args": [msgpack.Timestamp(1)]}), "args.0: a MessagePack timestamp"),
        (msgpack.packb({"a": msgpack.ExtType(5, b"x")}), "a: the MessagePack extension type 5"),
        (b"\x81\xa1a\xc7\x0c\xff" + b"\xff" * 12, "MessagePack"),
        (b"\x83\x74\x00\x00\x00\x01", "term_to_binary"),
        (b"\x81\xa1a\x01\x00\x00", "2 bytes follow the map"),
    ],
)
def test_a_refusal_says_where_and_what(payload, said):
    with pytest.raises(InvalidFrame) as caught:
        decode(payload)
    assert said in str(caught.value)


def test_of_a_key_that_stands_twice_the_last_value_counts_in_both_codecs():
    assert decode(b'{"a":1,"a":2}')[1] == {"a": 2}
    assert decode(b"\x82\xa1a\x01\xa1a\x02")[1] == {"a": 2}
    assert decode(b'{"a":1,"a":12345678901234567890123}')[1] == {"a": 12345678901234567890123}


@patient
@given(st.binary(max_size=60) | st.sampled_from(b"{\x81\x82\xde\xdf").map(lambda b: bytes([b])))
@example(b"\x81\xa1a" + b"\xdd\x00\x00\x00\x10" * 12)
def test_any_bytes_are_a_map_or_refused(payload):
    _decode_or_refuse(payload)


@patient
@given(st.sampled_from([b"{", b"\x81", b"\x82\xa1a", b'{"a":']), st.binary(max_size=60))
def test_any_bytes_behind_a_good_beginning_are_a_map_or_refused(start, rest):
    _decode_or_refuse(start + rest)


@patient
@given(codecs, maps, st.data())
def test_any_damage_to_a_good_payload_leaves_a_map_or_is_refused(codec, message, data):
    payload = bytearray(encode(codec, message).payload)
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    _decode_or_refuse(bytes(payload))


def _decode_or_refuse(payload):
    """What is decoded can be sent back by both codecs; what is refused may still be glimpsed."""
    try:
        _, message = decode(payload)
    except InvalidFrame:
        assert isinstance(glimpse(payload), dict | None)
        return
    for codec in Codec:
        encode(codec, message)


# --- depth ------------------------------------------------------------------------------------


def test_the_depth_is_what_orjson_writes():
    orjson.dumps(nested(MAX_DEPTH))
    with pytest.raises(TypeError):
        orjson.dumps(nested(MAX_DEPTH + 1))


@both
@pytest.mark.parametrize("leaf", [1, 2**70, "\ud800", {1}, b"x"])
def test_the_deepest_message_is_carried_and_one_level_more_is_refused(codec, leaf):
    deepest = nested(MAX_DEPTH - (1 if isinstance(leaf, set) else 0))
    holder = deepest["a"]
    while isinstance(holder[0], list):
        holder = holder[0]
    holder[0] = leaf
    payload = encode(codec, deepest).payload
    decode(payload)
    with pytest.raises(ValueError, match="nested deeper"):
        encode(codec, {"a": [deepest["a"]]})


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 500, 1_000, 1_030, 100_000])
@pytest.mark.parametrize("leaf", [b"1", b"1" * 30, rb'"\ud800"'])
def test_a_depth_bomb_in_json_is_refused(levels, leaf):
    within = levels - 1
    with pytest.raises(InvalidFrame):
        decode(b'{"a":' + b"[" * within + leaf + b"]" * within + b"}")
    with pytest.raises(InvalidFrame):
        decode(b'{"a":' * levels + leaf + b"}" * levels)
    with pytest.raises(InvalidFrame):
        decode(b'{"a":' * levels)


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 500, 1_000, 1_030, 100_000])
def test_a_depth_bomb_in_messagepack_is_refused(levels):
    with pytest.raises(InvalidFrame):
        decode(b"\x81\xa1a" + b"\x91" * (levels - 1) + b"\x01")
    with pytest.raises(InvalidFrame):
        decode(b"\x81\xa1a" * levels + b"\x01")


def test_brackets_in_strings_are_no_depth():
    message = {"a": "[{" * 1000, "b": [[1]] * 1000}
    assert round_trip(Codec.JSON, message) == message


@both
def test_a_value_that_contains_itself_is_refused(codec):
    circle = []
    circle += [circle, circle]
    with pytest.raises(ValueError, match="nested deeper"):
        encode(codec, {"a": circle})


# --- glimpses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        b'{"id":7,"a":NaN}',
        b'{"id":7,"a":' + b"[" * 300 + b"]" * 300 + b"}",
        msgpack.packb({"id": 7, "a": msgpack.Timestamp(1)}),
        msgpack.packb({"id": 7, "a": {1: 2}}),
    ],
)
def test_the_id_of_a_refused_map_can_be_read(payload):
    with pytest.raises(InvalidFrame):
        decode(payload)
    assert glimpse(payload)["id"] == 7


@pytest.mark.parametrize("payload", [b"", b"x", b'{"id":7', b"\x82\xa2id\x07", b"\x83t\x00"])
def test_nothing_is_glimpsed_of_what_is_no_map(payload):
    assert glimpse(payload) is None
