"""Sessions: `protocol.session`, two real ones and a fake link."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import (
    DaemonSession,
    ErrorReply,
    FramingError,
    HostSession,
    LocalProtocolError,
    Request,
)
from protocol.errors import BridgeError, NotFound
from tests.protocol.link import JSON, MSGPACK, Link, frame, heard, only, session, take
from tests.protocol.strategies import (
    chunkings,
    from_daemon,
    from_host,
    ids,
    patient,
)

links = st.sampled_from([("packet", JSON), ("packet", MSGPACK), ("lines", JSON)])


# --- both sides together ----------------------------------------------------------------------


@patient
@given(links, st.lists(from_host, max_size=5), st.data())
def test_every_message_of_the_host_arrives_equal_however_it_is_cut(link, messages, data):
    pair = Link(*link, cut=lambda stream: data.draw(chunkings(stream)))
    items = pair.to_daemon(*map(pair.send, messages))
    assert heard(items) == [(message, link[1]) for message in messages]
    assert pair.daemon.at_boundary
    assert take(pair.daemon) == []


@patient
@given(
    links,
    st.lists(from_daemon.filter(lambda m: not isinstance(m, ErrorReply)), max_size=5),
    st.data(),
)
def test_every_message_of_the_daemon_arrives_equal_however_it_is_cut(link, messages, data):
    pair = Link(*link, cut=lambda stream: data.draw(chunkings(stream)))
    assert pair.to_host(*map(pair.send, messages)) == messages
    assert pair.host.at_boundary
    assert pair.host.receive_eof() == []


@patient
@given(links, st.sampled_from(BridgeError.__subclasses__()), st.none() | ids, st.text())
def test_every_error_arrives_with_its_code_in_both_versions(link, kind, id_, text):
    error = kind(text)
    for version in (1, 2):
        pair = Link(*link, version=version)
        arrived = only(pair.to_host(pair.daemon.encode_error(id_, error, pair.codec)))
        assert arrived.id == id_
        assert arrived.code == error.code
        assert isinstance(arrived.error, str if version == 1 else dict)


def test_a_version_2_error_is_its_wire_map():
    pair = Link()
    error = NotFound("no module 'x'", kind="module", id="x", need="spec")
    assert only(pair.to_host(pair.daemon.encode_error(1, error, JSON))) == ErrorReply(
        1, error.to_wire()
    )


# --- golden frames ----------------------------------------------------------------------------


def test_a_version_1_reply_is_byte_for_byte_the_seeds():
    daemon = DaemonSession()
    assert daemon.encode_reply(1, {"status": "configured"}, JSON) == (
        b'\x00\x00\x00\x29{"id":1,"result":{"status":"configured"}}'
    )


def test_a_version_1_error_is_byte_for_byte_the_seeds():
    daemon = DaemonSession()
    assert daemon.encode_error(1, NotFound("no module 'qa'", id="qa"), JSON) == (
        b"\x00\x00\x00\x2c" + b'{"id":1,"error":"not_found: no module \'qa\'"}'
    )


def test_a_version_1_request_is_byte_for_byte_the_seeds():
    assert HostSession().encode_request(1, "ping", {"a": None}) == (
        b'\x00\x00\x00\x2b{"id":1,"command":"ping","args":{"a":null}}'
    )


def test_a_messagepack_reply_is_byte_for_byte_as_specified():
    assert DaemonSession().encode_reply(7, {}, MSGPACK) == (
        b"\x00\x00\x00\x0d\x82\xa2id\x07\xa6result\x80"
    )


def test_a_line_is_a_json_object_and_a_line_feed_whatever_codec_is_asked_for():
    daemon = session(framing="lines")
    assert daemon.encode_reply(1, {}, MSGPACK) == b'{"id":1,"result":{}}\n'
    assert daemon.encode_cancel_call(2, MSGPACK) == b'{"cancel_call":2}\n'


# --- versions ---------------------------------------------------------------------------------


def test_a_connection_begins_in_version_1_and_sends_nothing_but_replies():
    daemon = DaemonSession()
    assert daemon.version == 1
    for send in (
        lambda: daemon.encode_event("ready", None, {}, JSON),
        lambda: daemon.encode_host_call(1, "tool", "search", {}, 1, JSON),
        lambda: daemon.encode_cancel_call(1, JSON),
    ):
        with pytest.raises(LocalProtocolError):
            send()


def test_an_upgrade_is_never_taken_back():
    daemon = DaemonSession()
    assert daemon.upgrade(1) == 1
    assert daemon.upgrade(2, MSGPACK) == 2
    assert daemon.upgrade(1) == 2


@pytest.mark.parametrize("version", [0, 3])
def test_an_unknown_version_cannot_be_agreed(version):
    with pytest.raises(LocalProtocolError):
        DaemonSession().upgrade(version)


def test_a_host_call_to_no_known_target_is_our_bug():
    with pytest.raises(LocalProtocolError):
        session().encode_host_call(1, "tools", "search", {}, 1, JSON)


def test_envelope_keys_are_ignored_in_version_1_and_checked_in_version_2():
    message = frame({"id": 1, "command": "ping", "deadline": 5})
    assert heard(take(DaemonSession(), message)) == [(Request(1, "ping", {}), JSON)]
    refused = only(take(session(), message))
    assert (refused.id, refused.error.code) == (1, "invalid_message")


def test_a_message_is_read_by_the_version_that_is_agreed_when_it_is_taken():
    daemon = DaemonSession()
    daemon.receive_data(
        frame({"id": 1, "command": "hello"})
        + 2 * frame({"id": 2, "command": "x", "deadline_ms": 5})
    )
    daemon.next_message()
    assert daemon.next_message().message == Request(2, "x", {})
    daemon.upgrade(2)
    assert daemon.pending
    assert daemon.next_message().message == Request(2, "x", {}, deadline_ms=5)
    assert not daemon.pending
    assert daemon.next_message() is None


def test_what_came_before_the_stream_broke_is_given_first():
    daemon = DaemonSession()
    daemon.receive_data(frame({"id": 1, "command": "x"}) + b"GET ")
    assert daemon.next_message().message == Request(1, "x", {})
    for _ in range(2):
        with pytest.raises(FramingError):
            daemon.next_message()


# --- codecs -----------------------------------------------------------------------------------


def test_each_request_tells_the_codec_of_its_reply():
    items = take(
        session(),
        frame({"id": 1, "command": "a"}, MSGPACK) + frame({"id": 2, "command": "b"}, JSON),
    )
    assert [item.codec for item in items] == [MSGPACK, JSON]


def test_what_no_request_caused_uses_the_codec_of_hello():
    daemon = DaemonSession()
    daemon.upgrade(2, MSGPACK)
    event = daemon.encode_event("ready", None, {})
    assert msgpack.unpackb(event[4:]) == {"event": "ready", "id": None, "data": {}}
    assert only(take(daemon, b"\xff\xff\xff\xff")).codec is MSGPACK


def test_a_line_that_is_no_json_object_is_refused():
    daemon = session(framing="lines")
    items = take(daemon, b'ping\n[1]\n\x81\xa2id\x01\n{"id":1,"command":"ping"}\n')
    assert [getattr(item, "error", None) and item.error.code for item in items] == [
        *["invalid_frame"] * 3,
        None,
    ]
    assert {item.codec for item in items} == {JSON}


def test_lines_cannot_carry_messagepack():
    with pytest.raises(ValueError, match="JSON"):
        HostSession(framing="lines", codec=MSGPACK)


@pytest.mark.parametrize("options", [{"framing": "packets"}, {"max_frame": 0}])
def test_a_session_refuses_what_it_cannot_do(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        DaemonSession(**options)
