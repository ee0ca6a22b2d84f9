"""Frames good, bad and cut short, against a spawned daemon: typed errors or a clean exit.

The decoder's own rules are tested in `tests/protocol`; here it is what the process does: answer,
go on, or leave with status 65 and a line on standard error.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.errors import CODES
from tests.daemon.raw_daemon import RawDaemon, framed, packed, read_any, written

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024

PING = {"id": 1, "command": "ping", "args": {"n": 1}}
PONG = {"id": 1, "result": {"n": 1}}

HELLO = {"id": "hello", "command": "hello", "args": {"protocol": [2]}}
SLOW_LM = {"provider": "embedded", "model": "echo", "config": {"latency_ms": 400}}
SLOW_FORWARD = (
    {"id": 10, "command": "configure", "args": {"lm": SLOW_LM}},
    {
        "id": 11,
        "command": "create_module",
        "args": {"id": "m", "type": "predict", "signature": "question -> answer"},
    },
    {"id": 12, "command": "forward", "args": {"module_id": "m", "inputs": {"question": "why"}}},
)


@pytest.fixture(scope="module")
def raw() -> Iterator[RawDaemon]:
    """One daemon in version 1 for the tests after which it lives on."""
    with RawDaemon() as daemon:
        yield daemon


@pytest.fixture
def fresh() -> Iterator[RawDaemon]:
    with RawDaemon() as daemon:
        yield daemon


def code_of(message: Any) -> str:
    """The code of an error reply of either version; fails on anything else."""
    assert sorted(message) == ["error", "id"], message
    error = message["error"]
    return str(error).partition(":")[0] if isinstance(error, str) else str(error["code"])


# Frames that are no message


@pytest.mark.parametrize(
    ("payload", "code", "request_id"),
    [
        (b"garbage", "invalid_frame", None),
        (b"{", "invalid_frame", None),
        (b'{"id":7,"command":', "invalid_frame", None),
        (b"[1,2]", "invalid_frame", None),
        (b'"ping"', "invalid_frame", None),
        (b"null", "invalid_frame", None),
        (b"", "invalid_frame", None),
        (b"\x81\xa2id", "invalid_frame", None),
        (b'\xef\xbb\xbf{"id":1,"command":"ping"}', "invalid_frame", None),
        (b"{}", "invalid_message", None),
        (b'{"command":"ping"}', "invalid_message", None),
        (b'{"id":null,"command":"ping"}', "invalid_message", None),
        (b'{"id":1.5,"command":"ping"}', "invalid_message", None),
        (b'{"id":7}', "invalid_message", 7),
        (b'{"id":7,"command":5}', "invalid_message", 7),
        (b'{"id":7,"command":"ping","args":[1]}', "invalid_message", 7),
        (msgpack.packb({"command": "ping"}), "invalid_message", None),
        (msgpack.packb({"id": 7}), "invalid_message", 7),
    ],
)
def test_a_frame_that_is_no_request_is_answered_and_the_connection_goes_on(
    raw: RawDaemon, payload: bytes, code: str, request_id: int | None
) -> None:
    raw.write(framed(payload))
    answer = raw.message()
    assert code_of(answer) == code
    assert answer["id"] == request_id
    assert raw.ask(PING) == PONG


def test_a_frame_over_the_limit_is_discarded_and_the_connection_goes_on(raw: RawDaemon) -> None:
    size = 65 * MIB
    raw.write(size.to_bytes(4, "big"))
    answer = raw.message()
    assert code_of(answer) == "frame_too_large"
    assert answer["id"] is None
    raw.write(bytes(size))
    assert raw.ask(PING) == PONG


def test_the_limit_of_the_command_line_counts() -> None:
    with RawDaemon("--max-frame", "1000") as daemon:
        daemon.write(framed(b" " * 1001))
        assert code_of(daemon.message()) == "frame_too_large"
        assert daemon.ask(PING) == PONG


def test_a_header_of_four_gigabytes_is_refused_in_bounded_memory(fresh: RawDaemon) -> None:
    assert fresh.ask(PING) == PONG
    before = fresh.resident()
    fresh.write(b"\xff\xff\xff\xff")
    answer = fresh.message()
    assert code_of(answer) == "frame_too_large"
    assert answer["id"] is None
    for _ in range(256):
        fresh.write(bytes(MIB))
    # DSPy's import goes on meanwhile and takes about 80 MiB of its own.
    assert fresh.resident() - before < 160 * MIB
    fresh.end_input()
    assert fresh.everything() == b""
    assert fresh.status() == os.EX_DATAERR


def test_a_reply_over_the_limit_is_an_error_in_its_place() -> None:
    with RawDaemon("--max-frame", "1000") as daemon:
        for number in range(30):
            args = {"id": f"module-{number}", "type": "predict", "signature": "a -> b"}
            assert "result" in daemon.ask({"id": 2, "command": "create_module", "args": args})
        answer = daemon.ask({"id": 3, "command": "list", "args": {}})
        assert answer["id"] == 3
        assert code_of(answer) == "frame_too_large"
        assert daemon.ask(PING) == PONG


# Peers that do not frame, and ends of input


@pytest.mark.parametrize(
    "data", [b'{"id":1,"command":"ping"}\n', b"GET / HTTP/1.1\r\n", b" 0%|   "]
)
def test_a_peer_that_does_not_frame_ends_the_daemon_with_a_line_on_stderr(
    fresh: RawDaemon, data: bytes
) -> None:
    fresh.write(data)
    assert fresh.status() == os.EX_DATAERR
    assert fresh.everything() == b""
    (line,) = fresh.log().splitlines()
    assert line.startswith("dspy-bridge: ")
    assert repr(data[:4].decode()) in line


@pytest.mark.parametrize(
    "cut", [b"\x00", b"\x00\x00\x00", b"\x00\x00\x00\x09", b"\x00\x00\x00\x09{}"]
)
def test_input_that_ends_in_mid_frame_ends_the_daemon_with_status_65(
    fresh: RawDaemon, cut: bytes
) -> None:
    fresh.write(written(PING) + cut)
    fresh.end_input()
    assert fresh.remaining() == [PONG]
    assert fresh.status() == os.EX_DATAERR
    (line,) = fresh.log().splitlines()
    assert line.startswith("dspy-bridge: ")


@pytest.mark.parametrize("rest", [b"GET / HTTP", b"\x00\x00\x00\x07{"])
def test_what_came_before_the_break_is_answered(fresh: RawDaemon, rest: bytes) -> None:
    slow = {"provider": "embedded", "model": "echo", "config": {"latency_ms": 60_000}}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("ping", {}),
        ("configure", {"lm": slow}),
        ("create_module", {"id": "m", "type": "predict", "signature": "question -> answer"}),
        ("forward", {"module_id": "m", "inputs": {"question": "why"}}),
    ]
    frames = [
        written({"id": number, "command": command, "args": args})
        for number, (command, args) in enumerate(requests)
    ]
    fresh.write(b"".join(frames) + rest)
    fresh.end_input()
    answers = fresh.remaining()
    assert sorted(answer["id"] for answer in answers) == [0, 1, 2, 3]
    assert answers[0] == {"id": 0, "result": {}}
    [last] = [answer for answer in answers if answer["id"] == 3]
    assert last["error"].startswith("cancelled:")
    assert fresh.status() == os.EX_DATAERR


def test_input_that_ends_at_once_is_no_fault(fresh: RawDaemon) -> None:
    fresh.end_input()
    assert fresh.everything() == b""
    assert fresh.status() == 0
    assert fresh.log() == ""


def test_input_that_ends_between_frames_is_a_goodbye(fresh: RawDaemon) -> None:
    fresh.write(written(PING) + written({**PING, "id": 2}))
    fresh.end_input()
    assert fresh.remaining() == [PONG, {**PONG, "id": 2}]
    assert fresh.status() == 0


def test_a_request_in_flight_at_the_end_of_input_is_answered_first(fresh: RawDaemon) -> None:
    fresh.write(b"".join(map(written, SLOW_FORWARD)))
    fresh.end_input()
    while (message := fresh.message())["id"] != 12:
        pass
    assert message == {"id": 12, "result": {"answer": "why"}}
    # Nothing is left to do: waiting for anything here would be waiting for a bound to pass.
    assert fresh.everything(timeout=3.0) == b""
    assert fresh.status() == 0
    assert fresh.log() == ""


def test_many_answers_that_are_ready_at_once_all_go_out_before_the_exit(fresh: RawDaemon) -> None:
    *setup, forward = SLOW_FORWARD
    for message in setup:
        assert "result" in fresh.ask(message)
    fresh.write(b"".join(written({**forward, "id": number}) for number in range(100, 300)))
    fresh.end_input()
    answered = [message["id"] for message in fresh.remaining() if "result" in message]
    assert sorted(answered) == list(range(100, 300))
    assert fresh.status() == 0


def test_input_that_ends_right_after_an_answer_ends_the_daemon_promptly(fresh: RawDaemon) -> None:
    fresh.write(b"".join(map(written, SLOW_FORWARD)))
    while fresh.message()["id"] != 12:
        pass
    fresh.end_input()
    assert fresh.everything(timeout=3.0) == b""
    assert fresh.status() == 0
    assert fresh.log() == ""


# Codecs


def test_each_request_is_answered_in_its_own_codec(raw: RawDaemon) -> None:
    wanted = []
    for number in range(50):
        message = {"id": number, "command": "ping", "args": {"text": f"é{number}"}}
        raw.write(packed(message) if number % 2 else written(message))
        wanted.append((number % 2 == 1, {"id": number, "result": {"text": f"é{number}"}}))
    for is_packed, reply in wanted:
        payload = raw.payload()
        assert payload is not None
        assert (payload[:1] != b"{") is is_packed
        assert read_any(payload) == reply


def test_slow_answers_keep_the_codec_of_their_requests(fresh: RawDaemon) -> None:
    for message in SLOW_FORWARD[:2]:
        assert "result" in fresh.ask(message)
    last = SLOW_FORWARD[2]
    fresh.write(packed({**last, "id": "packed"}) + written({**last, "id": "written"}))
    payloads = [fresh.payload(), fresh.payload()]
    found = {read_any(payload)["id"]: payload[:1] == b"{" for payload in payloads if payload}
    assert found == {"packed": False, "written": True}


@pytest.mark.parametrize("encode", [written, packed], ids=["json", "msgpack"])
def test_twenty_megabytes_come_back_as_they_went(raw: RawDaemon, encode: Any) -> None:
    args = {"text": "0123456789abcdef" * (20 * MIB // 16)}
    writing = raw.write_behind(encode({"id": 5, "command": "ping", "args": args}))
    assert raw.message() == {"id": 5, "result": args}
    writing.join()


def test_bytes_that_arrive_one_at_a_time_are_a_frame(raw: RawDaemon) -> None:
    for byte in written(PING) + packed(PING):
        raw.write(bytes([byte]))
    assert [raw.message(), raw.message()] == [PONG, PONG]


# Whatever the bytes

near_messages = st.fixed_dictionaries(
    {},
    optional={
        "id": st.none() | st.integers() | st.text(max_size=4) | st.floats(allow_nan=False),
        "command": st.sampled_from(["ping", "hello", "list", "forward", "get", "cancel", "stats"])
        | st.text(max_size=6)
        | st.none(),
        "args": st.none()
        | st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), max_size=3),
        "deadline_ms": st.integers(),
        "call": st.integers(0, 3),
    },
)


def _packed(message: Any) -> bytes:
    try:
        return bytes(msgpack.packb(message))
    except OverflowError:
        return b"\x81\xa2id\xcf"


payloads = st.one_of(
    st.binary(max_size=60),
    st.binary(max_size=60).map(lambda rest: b"{" + rest),
    st.binary(max_size=60).map(lambda rest: b"\x83" + rest),
    near_messages.map(json.dumps).map(str.encode),
    near_messages.map(_packed),
)
streams = st.one_of(
    st.lists(payloads.map(framed), max_size=6).map(b"".join),
    st.tuples(st.lists(payloads.map(framed), max_size=3).map(b"".join), st.binary(max_size=40)).map(
        b"".join
    ),
    st.binary(max_size=200),
)


def ending(stream: bytes) -> str:
    """How the stream stands after these bytes: `between` frames, `inside` one, or `unframed`."""
    position = 0
    while position + 4 <= len(stream):
        head = stream[position : position + 4]
        if all(0x20 <= byte <= 0x7E for byte in head):
            return "unframed"
        position += 4 + int.from_bytes(head, "big")
    return "between" if position == len(stream) else "inside"


class Survivor:
    """A daemon for many examples: a new one is spawned when an example had to end the last."""

    def __init__(self) -> None:
        self._daemon: RawDaemon | None = None

    def get(self) -> RawDaemon:
        if self._daemon is None:
            self._daemon = RawDaemon()
        return self._daemon

    def end(self) -> None:
        if self._daemon is not None:
            self._daemon.__exit__()
            self._daemon = None


@pytest.fixture(scope="module")
def survivor() -> Iterator[Survivor]:
    survivor = Survivor()
    yield survivor
    survivor.end()


def assert_typed(message: Any) -> None:
    """A reply or an event; an error has a code of the contract and no traceback."""
    if "event" in message:
        assert sorted(message) == ["data", "event", "id"]
    elif "error" in message:
        assert code_of(message) in CODES
        assert code_of(message) != "internal"
        assert "Traceback" not in str(message)
    else:
        assert sorted(message) == ["id", "result"]


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(stream=streams)
def test_any_bytes_lead_to_typed_errors_or_a_clean_exit(survivor: Survivor, stream: bytes) -> None:
    daemon = survivor.get()
    daemon.write(stream)
    stands = ending(stream)
    if stands == "between":
        mark = {"id": "mark", "command": "ping", "args": {"mark": stream.hex()}}
        daemon.write(written(mark))
        while (message := daemon.message()) != {"id": "mark", "result": mark["args"]}:
            assert_typed(message)
        return
    daemon.end_input()
    for message in daemon.remaining():
        assert_typed(message)
    assert daemon.status() == os.EX_DATAERR
    assert "Traceback" not in daemon.log()
    survivor.end()
