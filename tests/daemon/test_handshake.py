"""`hello`, `ping`, `ready`: what is said before DSPy is there, what may be sent meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bridge.client import RequestFailed
from protocol import Codec
from tests.daemon.raw_daemon import RawDaemon, packed, read_any, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridge.client import Port

HELLO = {"id": "hello", "command": "hello", "args": {"protocol": [1, 2], "accepts": ["events"]}}
ECHO = {"lm": {"provider": "embedded", "model": "echo"}}
MODULE = {"id": "m", "type": "predict", "signature": "question -> answer"}


@pytest.fixture
def raw() -> Iterator[RawDaemon]:
    with RawDaemon() as daemon:
        yield daemon


def request(request_id: Any, command: str, args: Any = None, **envelope: Any) -> dict[str, Any]:
    return {"id": request_id, "command": command, "args": args or {}, **envelope}


def fault_paths(error: Any) -> list[str]:
    return [fault["path"] for fault in error["details"]["faults"]]


# Order


def test_hello_and_ping_are_answered_before_dspy_is_imported(raw: RawDaemon) -> None:
    raw.write(written(HELLO) + written(request(2, "ping", {"n": 1})))
    hello, pong, ready = raw.message(), raw.message(), raw.message()
    assert hello["id"] == "hello"
    assert hello["result"]["dspy"]["ready"] is False
    assert pong == {"id": 2, "result": {"n": 1}}
    assert ready["event"] == "ready"


def test_ready_follows_once_and_says_how_long_the_import_took(raw: RawDaemon) -> None:
    raw.write(written(HELLO))
    raw.message()
    ready = raw.message()
    assert sorted(ready) == ["data", "event", "id"]
    assert ready["id"] is None
    assert ready["data"]["seconds"] > 0
    again = raw.ask({**HELLO, "id": "again"})
    assert again["result"]["dspy"]["ready"] is True
    raw.end_input()
    assert raw.everything() == b""


@pytest.mark.parametrize(("encode", "first"), [(written, b"{"), (packed, b"\x83")])
def test_ready_comes_in_the_codec_of_hello(raw: RawDaemon, encode: Any, first: bytes) -> None:
    raw.write(encode(HELLO))
    raw.message()
    payload = raw.payload()
    assert payload is not None
    assert payload[:1] == first
    assert read_any(payload)["event"] == "ready"


def test_hello_need_not_come_first(raw: RawDaemon) -> None:
    assert raw.ask(request(1, "configure", ECHO)) == {"id": 1, "result": {"status": "configured"}}
    assert raw.ask(HELLO)["result"]["protocol"] == 2


def test_requests_sent_right_after_the_spawn_wait_and_are_answered(raw: RawDaemon) -> None:
    forward = {"module_id": "m", "inputs": {"question": "why"}}
    raw.write(
        written(HELLO)
        + written(request(1, "configure", ECHO))
        + written(request(2, "create_module", MODULE))
        + written(request(3, "forward", forward))
        + written(request(4, "list"))
    )
    replies = [message for message in _until(raw, 3) if "event" not in message]
    ids = [reply["id"] for reply in replies]
    # Only the forward needs DSPy: everything else is answered in order, and it comes last.
    assert ids == ["hello", 1, 2, 4, 3]
    assert replies[-1]["result"]["answer"] == "why"


def test_a_request_waits_for_dspy_only_as_long_as_its_deadline(raw: RawDaemon) -> None:
    forward = {"module_id": "m", "inputs": {"question": "why"}}
    raw.write(
        written(HELLO)
        + written(request(2, "create_module", MODULE))
        + written(request(3, "forward", forward, deadline_ms=1))
    )
    answer = _until(raw, 3)[-1]
    assert answer["error"]["code"] == "deadline_exceeded"


def test_a_request_that_waits_for_dspy_can_be_cancelled(raw: RawDaemon) -> None:
    forward = {"module_id": "m", "inputs": {"question": "why"}}
    raw.write(
        written(HELLO)
        + written(request(2, "create_module", MODULE))
        + written(request(3, "forward", forward))
        + written(request(4, "cancel", {"request": 3}))
    )
    messages = _until(raw, 4)
    assert [message["id"] for message in messages[-2:]] == [3, 4]
    assert messages[-2]["error"]["code"] == "cancelled"
    assert messages[-1]["result"] == {"cancelled": True}


def _until(raw: RawDaemon, request_id: Any) -> list[Any]:
    """Messages up to the answer of this request."""
    messages = [raw.message()]
    while "event" in messages[-1] or messages[-1]["id"] != request_id:
        messages.append(raw.message())
    return messages


# Versions


@pytest.mark.parametrize(
    ("offered", "chosen"), [([1], 1), ([2], 2), ([1, 2], 2), ([2, 1], 2), ([2, 3, 99], 2)]
)
def test_the_highest_version_that_both_speak_is_chosen(
    raw: RawDaemon, offered: list[int], chosen: int
) -> None:
    assert raw.ask(request(1, "hello", {"protocol": offered}))["result"]["protocol"] == chosen


def test_hello_without_arguments_chooses_the_newest(raw: RawDaemon) -> None:
    assert raw.ask(request(1, "hello"))["result"]["protocol"] == 2


def test_hello_that_stays_at_version_1_brings_no_events_and_string_errors(raw: RawDaemon) -> None:
    raw.ask(request(1, "hello", {"protocol": [1]}))
    raw.write(written(request(2, "create_module", MODULE)))
    raw.write(written(request(3, "forward", {"module_id": "m", "inputs": {"question": "q"}})))
    assert raw.message()["id"] == 2
    answer = raw.message()
    assert answer["id"] == 3
    assert isinstance(answer["error"], str)


def test_an_unknown_version_is_refused_and_version_1_goes_on(raw: RawDaemon) -> None:
    answer = raw.ask(request(1, "hello", {"protocol": [3, 4]}))
    assert answer["error"].startswith("unsupported: ")
    assert raw.ask(request(2, "get"))["error"].startswith("invalid_args: ")


def test_a_refused_hello_leaves_unknown_envelope_keys_ignored(raw: RawDaemon) -> None:
    answer = raw.ask(request(1, "hello", {"protocol": [2], "protokol": [1]}))
    assert answer["error"].startswith("invalid_args: ")
    assert raw.ask(request(2, "ping", dealine_ms=5)) == {"id": 2, "result": {}}


def test_requests_in_the_chunk_of_hello_are_read_in_its_version(raw: RawDaemon) -> None:
    raw.write(written(HELLO) + written(request(2, "ping", dedline_ms=5)))
    assert raw.message()["id"] == "hello"
    answer = raw.message()
    assert answer["error"]["code"] == "invalid_message"
    assert fault_paths(answer["error"]) == ["dedline_ms"]


def test_version_2_is_not_taken_back(daemon: Port) -> None:
    assert daemon.call("hello", {"protocol": [1]})["protocol"] in {1, 2}
    with pytest.raises(RequestFailed) as failed:
        daemon.call("get", {})
    assert failed.value.error["code"] == "invalid_args"


@pytest.mark.parametrize(
    ("args", "path"),
    [
        ({"protocols": [2]}, "protocols"),
        ({"protocol": 2}, "protocol"),
        ({"protocol": ["2"]}, "protocol"),
        ({"protocol": [True]}, "protocol"),
        ({"accepts": ["everything"]}, "accepts"),
        ({"client": "elixir"}, "client"),
        ({"client": {"nom": "x"}}, "client"),
    ],
)
def test_hello_names_the_path_of_what_is_wrong(
    daemon: Port, args: dict[str, Any], path: str
) -> None:
    with pytest.raises(RequestFailed) as failed:
        daemon.call("hello", args)
    assert failed.value.code == "invalid_args"
    assert fault_paths(failed.value.error) == [path]


# What it tells


def test_hello_tells_what_the_daemon_is_and_can_do(daemon: Port) -> None:
    told = daemon.hello()
    assert told["server"]["pid"] == daemon.process.pid
    assert told["server"]["name"] == "dspy-bridge"
    assert told["dspy"]["version"].startswith("3.")
    assert told["codecs"] == ["json", "msgpack"]
    assert {"hello", "ping", "configure", "forward", "shutdown"} <= set(told["commands"])
    assert {"openai", "anthropic", "cohere", "local", "embedded"} <= set(told["lm_providers"])
    assert told["limits"]["max_frame"] == 64 * 1024 * 1024
    assert told["limits"]["default_deadline_ms"] > 0


def test_the_module_types_that_hello_tells_are_told_in_full(daemon: Port) -> None:
    told = daemon.hello()["modules"]
    with pytest.raises(RequestFailed) as failed:
        daemon.call("create_module", {"id": "x", "type": "nothing like it", "signature": "a -> b"})
    assert all(name in failed.value.error["message"] for name in told)


def test_every_command_that_hello_tells_is_known_and_strict(daemon: Port) -> None:
    for name in daemon.hello()["commands"]:
        if name != "ping":
            with pytest.raises(RequestFailed) as failed:
                daemon.call(name, {"no such": "argument"})
            assert failed.value.code == "invalid_args", name


@pytest.mark.parametrize("codec", list(Codec))
def test_ping_gives_back_whatever_it_was_given(spawn: Callable[..., Port], codec: Codec) -> None:
    port = spawn(codec=codec)
    args = {"": None, "ä": [1, -1, 2**63, 0.5, {"deep": [[]]}], "b": True}
    assert port.call("ping", args) == args


def test_a_host_that_accepts_no_events_is_sent_none(raw: RawDaemon) -> None:
    raw.ask(request(1, "hello", {"protocol": [2], "accepts": ["calls"]}))
    raw.ask(request(2, "configure", {"lm": {"model": "embedded/echo"}}))
    raw.ask(request(3, "create_module", {"id": "m", "type": "predict", "signature": "q -> a"}))
    # A forward waits for DSPy, whose `ready` would come before its answer.
    answer = raw.ask(request(4, "forward", {"module_id": "m", "inputs": {"q": "x"}}))
    assert answer["id"] == 4


def test_a_ping_with_the_id_of_a_request_in_flight_is_refused(raw: RawDaemon) -> None:
    raw.ask(request(1, "hello", {"protocol": [2], "accepts": []}))
    slow = {"model": "embedded/echo", "config": {"latency_ms": 2_000}}
    raw.ask(request(2, "configure", {"lm": slow}))
    raw.ask(request(3, "create_module", {"id": "m", "type": "predict", "signature": "q -> a"}))
    raw.write(written(request(4, "forward", {"module_id": "m", "inputs": {"q": "x"}})))
    assert raw.ask(request(4, "ping"))["error"]["code"] == "duplicate_id"
    assert raw.message()["result"]["a"] == "x"
