"""What `protocol.session` makes of what a peer gets wrong, and of what cannot be sent."""

from __future__ import annotations

import math
import threading
import tracemalloc

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol import (
    Codec,
    FramingError,
    HostSession,
    Received,
    Refused,
    Reply,
    Request,
    encode,
    encode_frame,
    encode_line,
)
from protocol import errors as wire_errors
from protocol.errors import BridgeError, Busy, Internal
from tests.protocol.link import JSON, MSGPACK, Link, body, frame, heard, only, session, take
from tests.protocol.strategies import (
    chunkings,
    codecs,
    ids,
    maps,
    patient,
    values,
)

# --- what a host gets wrong -------------------------------------------------------------------


def test_an_oversized_frame_is_refused_and_the_connection_goes_on():
    daemon = session(max_frame=100)
    items = take(daemon, encode_frame(bytes(101)) + frame({"id": 1, "command": "ping"}))
    assert items[0].id is None
    assert items[0].error.code == "frame_too_large"
    assert items[0].error.details == {"size": 101, "limit": 100}
    assert heard(items[1:]) == [(Request(1, "ping", {}), JSON)]


def test_a_four_gigabyte_header_and_a_stream_of_payload_stay_in_bounded_memory():
    daemon = session(max_frame=1024)
    chunk = bytes(2**20)
    tracemalloc.start()
    try:
        items = take(daemon, b"\xff\xff\xff\xff")
        for _ in range(256):
            items += take(daemon, chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert only(items).error.code == "frame_too_large"
    assert peak < len(chunk) + 2**18


@pytest.mark.parametrize("payload", [b"", b"x", b"{", b"[1]", b"\x81", b"\x83t\x00", b'"a"'])
def test_a_frame_that_is_no_map_is_refused_without_an_id(payload):
    refused = only(take(session(), encode_frame(payload)))
    assert (refused.id, refused.error.code) == (None, "invalid_frame")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"id":7,"command":"ping","args":{"a":NaN}}',
        b'{"id":7,"command":"ping","args":{"a":' + b"[" * 900 + b"]" * 900 + b"}}",
        msgpack.packb({"id": 7, "command": "ping", "args": {"at": msgpack.Timestamp(1)}}),
        msgpack.packb({"id": 7, "command": "ping", "args": {1: 2}}),
    ],
)
def test_a_frame_with_a_value_the_wire_does_not_carry_is_refused_by_its_id(payload):
    refused = only(take(session(), encode_frame(payload)))
    assert (refused.id, refused.error.code) == (7, "invalid_frame")
    assert refused.codec is (JSON if payload[:1] == b"{" else MSGPACK)


@patient
@given(codecs, ids)
@example(MSGPACK, 2**64 - 1)
def test_a_broken_message_is_refused_by_its_id(codec, id_):
    refused = only(take(session(), frame({"id": id_, "command": 5}, codec)))
    assert (refused.id, refused.error.code) == (id_, "invalid_message")
    assert refused.codec is codec


def test_a_huge_integer_id_comes_back_exactly():
    huge = 10**200 + 7
    daemon = session()
    item = only(take(daemon, frame({"id": huge, "command": "ping"})))
    assert body(daemon.encode_reply(item.message.id, {}, item.codec))["id"] == huge


@pytest.mark.parametrize(
    "payload",
    [
        encode(JSON, {"call": 3, "results": 1}).payload,
        msgpack.packb({"call": 3, "result": {1: 2}}),
    ],
)
def test_a_broken_answer_tells_the_call_that_waits_for_it(payload):
    refused = only(take(session(), encode_frame(payload)))
    assert (refused.id, refused.call) == (None, 3)


@pytest.mark.parametrize("rest", [b"\x00", b"\x00\x00\x00\x09{"])
def test_an_end_in_the_middle_of_a_frame_is_a_framing_error(rest):
    daemon = session()
    take(daemon, frame({"id": 1, "command": "ping"}) + rest)
    assert not daemon.at_boundary
    with pytest.raises(FramingError):
        take(daemon)


def test_the_last_line_is_given_at_the_end_of_input():
    daemon = session(framing="lines")
    assert take(daemon, b'{"id":1,"command":"ping"}') == []
    assert heard(take(daemon)) == [(Request(1, "ping", {}), JSON)]


framed_noise = st.lists(
    st.binary(max_size=40).map(encode_frame)
    | st.binary(max_size=40)
    | maps.map(frame)
    | st.builds(lambda start, rest: encode_frame(start + rest), st.just(b'{"id":'), st.binary()),
    max_size=5,
).map(b"".join)


@patient
@given(framed_noise, st.sampled_from(["packet", "lines"]), st.sampled_from([1, 2]), st.data())
def test_any_bytes_lead_to_items_or_a_framing_error_and_nothing_else(
    stream, framing, version, data
):
    daemon = session(version, framing=framing, max_frame=64)
    try:
        items = [item for chunk in data.draw(chunkings(stream)) for item in take(daemon, chunk)]
        items += take(daemon)
    except FramingError:
        assert framing == "packet"
        return
    for item in items:
        if isinstance(item, Refused):
            assert isinstance(item.error, BridgeError)
            assert daemon.encode_error(item.id, item.error, item.codec)
        else:
            assert isinstance(item, Received)


# --- replies ----------------------------------------------------------------------------------


def test_a_nan_in_a_result_is_told_in_its_meta_warnings():
    reply = body(session().encode_reply(1, {"score": math.nan}, JSON))
    assert reply["result"] == {
        "score": None,
        "_meta": {"warnings": ["result.score: NaN became null"]},
    }


def test_warnings_join_those_of_the_result_and_its_map_is_left_alone():
    result = {"score": math.inf, "_meta": {"latency_ms": 5, "warnings": ["slow"]}}
    reply = body(session().encode_reply(1, result, JSON))
    assert reply["result"]["_meta"] == {
        "latency_ms": 5,
        "warnings": ["slow", "result.score: Infinity became null"],
    }
    assert result == {"score": math.inf, "_meta": {"latency_ms": 5, "warnings": ["slow"]}}


@pytest.mark.parametrize(
    ("version", "result", "expected"),
    [(1, {"score": math.nan}, {"score": None}), (2, [math.nan], [None])],
)
def test_version_1_and_results_that_are_no_map_have_no_meta(version, result, expected):
    assert body(session(version).encode_reply(1, result, JSON))["result"] == expected


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("framing", ["packet", "lines"])
def test_a_reply_over_the_limit_becomes_an_error_for_that_id(version, framing):
    daemon = session(version, framing=framing, max_frame=300)
    host = HostSession(framing=framing)
    arrived = only(host.receive_data(daemon.encode_reply(7, "x" * 300, JSON)))
    assert (arrived.id, arrived.code) == (7, "frame_too_large")


def test_a_reply_of_exactly_the_limit_is_sent():
    text = "x" * (300 - len('{"id":7,"result":""}'))
    assert body(session(max_frame=300).encode_reply(7, text, JSON))["result"] == text
    arrived = body(session(max_frame=300).encode_reply(7, text + "x", JSON))
    assert arrived["error"]["details"] == {"size": 301, "limit": 300}


@pytest.mark.parametrize("codec", Codec)
def test_a_result_of_no_wire_form_becomes_an_error_for_that_id(codec):
    pair = Link(codec=codec)
    arrived = only(pair.to_host(pair.daemon.encode_reply(7, {"a": object()}, codec)))
    assert (arrived.id, arrived.code) == (7, Internal.code)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "error",
    [
        Busy("x" * 5000, retry_after_ms=5),
        Busy("later", response="x" * 5000),
        Busy("later", thing=object()),
    ],
)
def test_an_error_that_cannot_be_sent_whole_keeps_its_code(version, error):
    daemon = session(version, max_frame=1000)
    arrived = only(HostSession().receive_data(daemon.encode_error(7, error, JSON)))
    assert (arrived.id, arrived.code) == (7, "busy")


def test_an_event_over_the_limit_is_left_out():
    assert session(max_frame=100).encode_event("log", 1, {"text": "x" * 100}, JSON) is None


def test_a_host_call_over_the_limit_fails_where_it_is_made():
    with pytest.raises(wire_errors.FrameTooLarge) as caught:
        session(max_frame=100).encode_host_call(1, "tool", "t", {"q": "x" * 100}, 1, JSON)
    assert caught.value.details["limit"] == 100


def test_a_request_over_the_limit_fails_where_it_is_made():
    with pytest.raises(wire_errors.FrameTooLarge):
        HostSession(max_frame=100).encode_request(1, "ping", {"q": "x" * 100})


def test_a_misspelt_envelope_key_is_a_type_error_of_the_host():
    with pytest.raises(TypeError):
        HostSession().encode_request(1, "ping", deadline=5)


def test_a_frame_of_the_daemon_that_is_no_message_is_an_item_for_the_host():
    items = HostSession(max_frame=50).receive_data(frame({"id": 1}) + b"\xff\xff\xff\xff")
    assert [(item.id, item.error.code) for item in items] == [
        (1, "invalid_message"),
        (None, "frame_too_large"),
    ]


@patient
@given(values, codecs)
def test_a_reply_carries_any_value(value, codec):
    pair = Link(codec=codec)
    assert pair.to_host(pair.daemon.encode_reply(1, value, codec)) == [Reply(1, value)]


def test_several_threads_may_encode_at_once():
    daemon = session()
    frames, barrier = {}, threading.Barrier(4)

    def work(name):
        barrier.wait()
        frames[name] = [
            encoded
            for number in range(200)
            for encoded in (
                daemon.encode_reply(number, {"by": name, "odd": {number}}, Codec.MSGPACK),
                daemon.encode_error(number, Busy(name), JSON),
            )
        ]

    threads = [threading.Thread(target=work, args=(f"thread {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    for name, encoded in frames.items():
        arrived = HostSession().receive_data(b"".join(encoded))
        assert arrived[::2] == [Reply(n, {"by": name, "odd": [n]}) for n in range(200)]
        assert [error.error["message"] for error in arrived[1::2]] == [name] * 200


def test_a_session_of_lines_reads_crlf_as_typed_by_a_person():
    pair = Link("lines")
    typed = b'  {"id":1,"command":"ping"}\r\n\r\n'
    assert heard(pair.to_daemon(typed)) == [(Request(1, "ping", {}), JSON)]
    assert encode_line(b"{}") == b"{}\n"
