"""The test server, seen by clients that know nothing but HTTP: what other tests rely on."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from . import LMServer, LMServerProcess, UnknownBehaviourError

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
COMPATIBLE = "/compatibility/v1/chat/completions"
COHERE = "/v2/chat"
PATHS = [CHAT, "/any/prefix/chat/completions", RESPONSES, MESSAGES, COMPATIBLE, COHERE]
SECRET = "sk-secret-0123456789"


@pytest.fixture(scope="module")
def running() -> Iterator[LMServer]:
    with LMServer() as server:
        yield server


@pytest.fixture
def server(running: LMServer) -> LMServer:
    running.wait_for(lambda: running.open_connections == 0)
    running.reset()
    return running


def body_for(path: str, model: str, text: str = "Why?", **more: Any) -> bytes:
    given_input = {"input": text} if path == RESPONSES else {"messages": [user(text)]}
    return json.dumps({"model": model, **given_input, **more}).encode()


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def post(
    server: LMServer, path: str, model: str, *, key: str = "k", **more: Any
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    try:
        headers = {"Authorization": f"Bearer {key}"}
        connection.request("POST", path, body_for(path, model, **more), headers)
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()
    finally:
        connection.close()


def open_request(server: LMServer, model: str, path: str = CHAT, **more: Any) -> socket.socket:
    body = body_for(path, model, **more)
    link = socket.create_connection((server.host, server.port), timeout=10)
    link.sendall(b"POST %b HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(body)))
    link.sendall(body)
    return link


def text_in(path: str, reply: dict[str, Any]) -> str:
    if path.endswith("/chat/completions"):
        return str(reply["choices"][0]["message"]["content"])
    if path == RESPONSES:
        return str(reply["output"][0]["content"][0]["text"])
    content = reply["content"] if path == MESSAGES else reply["message"]["content"]
    return str(content[0]["text"])


def events_in(content: bytes) -> list[dict[str, Any]]:
    lines = (line for line in content.decode().splitlines() if line.startswith("data: "))
    return [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]


def message_in(reply: dict[str, Any]) -> str:
    return str(reply.get("error", reply)["message"])


@pytest.mark.parametrize("path", PATHS)
def test_every_wire_format_answers_with_the_model_and_the_end_of_the_input(
    server: LMServer, path: str
) -> None:
    status, _, content = post(server, path, "gpt-x", text="Where is the north pole?")
    assert status == 200
    assert text_in(path, json.loads(content)) == "gpt-x: Where is the north pole?"
    assert server.requests[0].path == path
    assert server.requests[0].headers["authorization"] == "Bearer k"
    assert server.requests[0].body["model"] == "gpt-x"


def test_each_format_reports_finish_and_usage_in_its_own_words(server: LMServer) -> None:
    replies = {path: json.loads(post(server, path, "m")[2]) for path in PATHS}
    seen = server.requests[0]
    chat, responses, messages = replies[CHAT], replies[RESPONSES], replies[MESSAGES]
    assert (seen.input_tokens, seen.output_tokens) == (1, 2)
    assert chat["choices"][0]["finish_reason"] == "stop"
    assert chat["usage"]["total_tokens"] == 3
    assert responses["status"] == "completed"
    assert responses["usage"]["output_tokens"] == 2
    assert messages["stop_reason"] == "end_turn"
    assert messages["usage"]["input_tokens"] == 1
    assert replies[COHERE]["finish_reason"] == "COMPLETE"
    assert replies[COHERE]["usage"]["tokens"] == {"input_tokens": 1, "output_tokens": 2}


@pytest.mark.parametrize(
    ("kind", "status"), [("auth", 401), ("rate-limit", 429), ("context-length", 400)]
)
@pytest.mark.parametrize("path", [CHAT, MESSAGES, COMPATIBLE, COHERE])
def test_error_bodies_are_the_providers_own(
    server: LMServer, path: str, kind: str, status: int
) -> None:
    sent, headers, content = post(server, path, kind, key=SECRET)
    reply = json.loads(content)
    assert sent == status
    assert message_in(reply)
    assert ("error" in reply) == (path in (CHAT, MESSAGES))
    assert SECRET not in content.decode()
    assert headers["retry-after"] == ("0.05" if status == 429 else None)


@pytest.mark.parametrize(("fault", "status"), [("echo-key-401", 401), ("echo-key-500", 500)])
@pytest.mark.parametrize("path", [CHAT, MESSAGES, COHERE])
def test_only_the_echo_faults_repeat_the_key(
    server: LMServer, path: str, fault: str, status: int
) -> None:
    sent, _, content = post(server, path, fault, key=SECRET)
    assert sent == status
    assert SECRET in message_in(json.loads(content))


@pytest.mark.parametrize(
    ("model", "statuses"),
    [
        ("rate-limit-2-then-ok", [429, 429, 200, 200]),
        ("fail-500-then-ok", [500, 200]),
        ("always-500", [500, 500]),
        ("m+rate-limit-then-ok+fail-500-2-then-ok", [429, 500, 500, 200]),
        ("not-found", [404]),
        ("m+stal", [404]),
    ],
)
def test_faults_last_as_long_as_the_name_says(
    server: LMServer, model: str, statuses: list[int]
) -> None:
    assert [post(server, CHAT, model)[0] for _ in statuses] == statuses


def test_attempts_are_counted_per_model_and_key(server: LMServer) -> None:
    keys = ["a", "b", "a", "b"]
    assert [post(server, CHAT, "fail-500-then-ok", key=key)[0] for key in keys] == [
        500, 500, 200, 200,
    ]  # fmt: skip


@pytest.mark.parametrize(("fault", "body"), [("garbage", b"<html>"), ("empty", b"")])
def test_garbage_and_empty_replies_are_200_and_not_json(
    server: LMServer, fault: str, body: bytes
) -> None:
    status, _, content = post(server, CHAT, fault)
    assert status == 200
    assert content.startswith(body)
    with pytest.raises(json.JSONDecodeError):
        json.loads(content)


@pytest.mark.parametrize(
    ("fault", "chat", "messages", "cohere"),
    [
        ("refuse", "content_filter", "refusal", "ERROR"),
        ("truncate", "length", "max_tokens", "MAX_TOKENS"),
    ],
)
def test_refused_and_truncated_replies_say_so(
    server: LMServer, fault: str, chat: str, messages: str, cohere: str
) -> None:
    replies = {path: json.loads(post(server, path, fault)[2]) for path in PATHS}
    assert replies[CHAT]["choices"][0]["finish_reason"] == chat
    assert replies[MESSAGES]["stop_reason"] == messages
    assert replies[COHERE]["finish_reason"] == cohere
    assert replies[RESPONSES]["status"] == "incomplete"


@pytest.mark.parametrize("stream", [False, True])
def test_cut_closes_without_a_byte(server: LMServer, stream: bool) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        post(server, CHAT, "cut", stream=stream)
    assert server.closed_early == 0


@pytest.mark.parametrize("stream", [False, True])
def test_cut_body_closes_in_the_middle(server: LMServer, stream: bool) -> None:
    with pytest.raises(http.client.IncompleteRead):
        post(server, CHAT, "cut-body", stream=stream)
    assert server.closed_early == 0


@pytest.mark.parametrize("model", ["stall", "stall-body", "trickle", "slow-60000", "oversized"])
def test_a_client_that_closes_early_is_noticed_at_once(server: LMServer, model: str) -> None:
    with open_request(server, model):
        server.wait_for(lambda: server.in_flight(model) == 1)
        closed_at = time.monotonic()
    server.wait_for(lambda: server.closed_early == 1)
    [received] = server.requests
    assert received.closed_early
    assert received.ended_at is not None
    assert received.ended_at - closed_at < 0.1
    assert server.in_flight() == 0


def test_a_stream_left_in_the_middle_is_noticed_at_once(server: LMServer) -> None:
    with open_request(server, "m+words-500+gap-10", path=MESSAGES, stream=True) as link:
        received = b""
        while b"text_delta" not in received:
            received += link.recv(65536)
        closed_at = time.monotonic()
    server.wait_for(lambda: server.closed_early == 1)
    ended_at = server.requests[0].ended_at
    assert ended_at is not None
    assert ended_at - closed_at < 0.1


def test_stall_sends_nothing(server: LMServer) -> None:
    with open_request(server, "stall") as link:
        link.settimeout(0.1)
        with pytest.raises(TimeoutError):
            link.recv(1)
    assert server.requests[0].status is None


def test_an_oversized_reply_is_well_formed_and_as_large_as_said(server: LMServer) -> None:
    _, headers, content = post(server, CHAT, "oversized-5")
    assert int(headers["content-length"]) == len(content)
    assert len(text_in(CHAT, json.loads(content))) == 5_000_000


def test_an_oversized_stream_is_as_large_as_said(server: LMServer) -> None:
    _, _, content = post(server, CHAT, "oversized-5", stream=True)
    assert 5_000_000 < len(content) < 6_000_000
    assert content.endswith(b"data: [DONE]\n\n")


def test_trickle_sends_the_whole_body_a_byte_at_a_time(server: LMServer) -> None:
    began = time.monotonic()
    status, _, content = post(server, COHERE, "trickle-1")
    assert status == 200
    assert text_in(COHERE, json.loads(content)).startswith("trickle-1: ")
    assert time.monotonic() - began > len(content) * 0.001


def test_slow_waits_as_long_as_said(server: LMServer) -> None:
    began = time.monotonic()
    post(server, CHAT, "slow-50")
    assert 0.05 <= time.monotonic() - began < 1.0


def test_openai_streams_word_sized_pieces_and_usage_when_asked(server: LMServer) -> None:
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    events = events_in(post(server, CHAT, "m", text="one two three", **options)[2])
    pieces = [event["choices"][0]["delta"].get("content") for event in events if event["choices"]]
    assert [piece for piece in pieces if piece] == ["m: ", "one ", "two ", "three"]
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["usage"]["completion_tokens"] == 4


def test_anthropic_streams_its_named_events(server: LMServer) -> None:
    _, headers, content = post(server, MESSAGES, "m", text="one two", stream=True)
    events = events_in(content)
    deltas = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert headers["content-type"].startswith("text/event-stream")
    assert deltas == ["m: ", "one ", "two"]
    assert [event["type"] for event in events][-3:] == [
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[-2]["usage"]["output_tokens"] == 3


@pytest.mark.parametrize(
    ("path", "kind"), [(RESPONSES, "response.completed"), (COHERE, "message-end")]
)
def test_the_other_formats_stream_to_their_end(server: LMServer, path: str, kind: str) -> None:
    assert events_in(post(server, path, "m", stream=True)[2])[-1]["type"] == kind


def test_a_gap_spreads_a_stream_over_time(server: LMServer) -> None:
    began = time.monotonic()
    post(server, CHAT, "m+words-10+gap-10", stream=True)
    assert time.monotonic() - began > 0.1


def test_scripts_and_behaviours_can_be_set_per_model_until_reset(server: LMServer) -> None:
    server.script("m", "first", "second")
    texts = [text_in(CHAT, json.loads(post(server, CHAT, "m")[2])) for _ in range(3)]
    assert texts == ["first", "second", "m: Why?"]
    server.set_behaviour("m", "auth")
    assert post(server, CHAT, "m")[0] == 401
    server.reset()
    assert post(server, CHAT, "m")[0] == 200
    assert len(server.requests) == 1


def test_an_unknown_behaviour_is_refused_with_the_nearest_one(server: LMServer) -> None:
    with pytest.raises(UnknownBehaviourError, match="'stall'"):
        server.set_behaviour("m", "stal")


def test_one_connection_serves_many_requests(server: LMServer) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    for _ in range(3):
        connection.request("POST", CHAT, body_for(CHAT, "m"))
        assert connection.getresponse().read()
    assert server.peak_connections == 1
    connection.close()
    server.wait_for(lambda: server.open_connections == 0)


def test_a_body_that_is_not_a_request_and_an_unknown_path_are_refused(server: LMServer) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    for path, body, status in ((CHAT, b"[1]", 400), (CHAT, b"{}", 400), ("/v9", b"{}", 404)):
        connection.request("POST", path, body)
        reply = connection.getresponse()
        assert reply.status == status
        assert "message" in json.loads(reply.read())["error"]
    connection.close()


def test_waiting_for_what_never_happens_ends_with_the_stats(server: LMServer) -> None:
    with pytest.raises(TimeoutError, match="open_connections"):
        server.wait_for(lambda: server.closed_early == 1, timeout=0.01)


@pytest.mark.load
def test_five_hundred_slow_requests_wait_together_in_process_mode() -> None:
    body = body_for(CHAT, "slow-200")

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST {CHAT} HTTP/1.1\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        reply = await reader.read()
        writer.close()
        return reply

    async def ask_all(port: int) -> list[bytes]:
        return await asyncio.gather(*(ask(port) for _ in range(500)))

    with LMServerProcess() as server:
        began = time.monotonic()
        replies = asyncio.run(ask_all(server.port))
        assert time.monotonic() - began < 1.5
        stats = server.stats()
    assert all(reply.startswith(b"HTTP/1.1 200 OK") for reply in replies)
    assert stats["peak_in_flight"] == 500
    assert stats["received"] == 500


def test_a_server_process_is_controlled_over_http() -> None:
    with LMServerProcess("--keep", "1") as server:
        server.set_behaviour("m", "auth")
        server.script("n", "scripted")
        for model in ("m", "n"):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("POST", CHAT, body_for(CHAT, model), {"X-Api-Key": SECRET})
            content = connection.getresponse().read()
            connection.close()
        assert text_in(CHAT, json.loads(content)) == "scripted"
        assert server.stats()["by_status"] == {"401": 1, "200": 1}
        assert [outline["model"] for outline in server.requests()] == ["n"]
        server.reset()
        assert server.stats()["received"] == 0
