"""Many streams over one pipe: each whole and in order, until it is cancelled, late or not read."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

import pytest

from bridge.client import Port, RequestFailed
from tests.daemon.asking import create, lm_at, new_id, program
from tests.daemon.lm_maps import seen
from tests.daemon.raw_daemon import PATIENCE, RawDaemon, packed
from tests.daemon.streaming import Hearing, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAMS = 50
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def port() -> Iterator[Port]:
    """A daemon with the module `qa`: question -> reasoning, answer."""
    with Port(stderr=subprocess.DEVNULL) as port:
        port.hello()
        port.wait_ready()
        port.call(
            "create_module",
            {"id": "qa", "type": "chain_of_thought", "signature": "question -> answer"},
        )
        yield port


def ask_streamed(port: Port, lm: Any, question: str = "why?", **envelope: Any) -> Hearing:
    args = {"module_id": "qa", "inputs": {"question": question}}
    return Hearing(port, "forward", args, lm=lm, **envelope)


def error_of(hearing: Hearing) -> str:
    with pytest.raises(RequestFailed) as caught:
        hearing.result()
    return caught.value.code


def test_of_fifty_streams_half_are_cancelled_and_the_others_are_whole(port, lm_server):
    whole, cancelled = [], []
    for number in range(STREAMS // 2):
        model = f"{new_id('whole')}+words-20+gap-10"
        whole.append(ask_streamed(port, lm_at(lm_server, model), f"question {number}"))
        # Far longer than the test: only a cancel ends it.
        model = f"{new_id('cancelled')}+words-1000+gap-200"
        cancelled.append((model, ask_streamed(port, lm_at(lm_server, model))))
    lm_server.wait_for(lambda: all(any(hearing.chunks()) for _, hearing in cancelled), PATIENCE)
    for _, hearing in cancelled:
        assert port.call("cancel", {"request": hearing.id}) == {"cancelled": True}
    for model, hearing in cancelled:
        assert error_of(hearing) == "cancelled"
        (received,) = seen(lm_server, model)
        assert lm_server.wait_for(lambda received=received: received.closed_early, PATIENCE)
    for hearing in whole:
        assert hearing.calls() == {1: texts(hearing.result(PATIENCE))}
    assert port.events.empty(), "an event came behind its reply"


def test_nothing_comes_behind_the_reply_of_a_cancelled_stream(port, lm_server):
    for _ in range(20):
        # As fast as it goes, so that the cancel falls between any two pieces.
        model = f"{new_id('racing')}+words-2000"
        hearing = ask_streamed(port, lm_at(lm_server, model))
        lm_server.wait_for(lambda hearing=hearing: any(hearing.chunks()), PATIENCE)
        port.call("cancel", {"request": hearing.id})
        wait([hearing.future], PATIENCE)
        heard = len(hearing.events)
        port.call("stats")
        assert len(hearing.events) == heard
    assert port.events.empty(), "an event came behind its reply"


def test_a_deadline_ends_a_stream_and_closes_its_connection(port, lm_server):
    model = f"{new_id('late')}+words-1000+gap-100"
    hearing = ask_streamed(port, lm_at(lm_server, model), deadline_ms=1500)
    assert error_of(hearing) == "deadline_exceeded"
    (received,) = seen(lm_server, model)
    assert lm_server.wait_for(lambda: received.closed_early, PATIENCE)
    assert hearing.chunks()


def test_a_stream_that_stalls_at_its_end_times_out_by_its_beginning(port, lm_server):
    # It speaks for about a second, then says nothing more: the time of both is bounded.
    model = f"{new_id('stalls')}+words-200+trickle-1"
    begun = time.monotonic()
    hearing = ask_streamed(port, lm_at(lm_server, model, timeout_s=1.0))
    assert error_of(hearing) == "lm_timeout"
    assert time.monotonic() - begun < 10
    (received,) = seen(lm_server, model)
    assert lm_server.wait_for(lambda: received.closed_early, PATIENCE)


def test_streams_of_a_program_with_steps_side_by_side_are_each_in_order(port, lm_server):
    look = create(port, "predict", "topic -> answer")
    topics = [f"topic {number}" for number in range(30)]
    each = {
        "each": topics,
        "as": "topic",
        "do": [{"call": "look", "in": {"topic": "$topic"}, "as": "found"}],
        "collect": "$found.answer",
        "into": "answers",
        "parallel": True,
    }
    steps = [each, {"output": {"answers": "$answers"}}]
    made = program(port, {"look": look}, steps=steps)
    lm = lm_at(lm_server, f"{new_id('beside')}+words-30")
    args = {"program_id": made, "inputs": {}}
    hearings = [Hearing(port, "execute", args, lm=lm) for _ in range(4)]
    for hearing in hearings:
        result = hearing.result()
        assert sorted(fields["answer"] for fields in hearing.calls().values()) == sorted(
            result["answers"]
        )


# A host that does not read


UNREAD, WORDS = 40, 4_000
EVENT = 120
"""Bytes of a `chunk` event with one word, at least."""


def test_a_host_that_does_not_read_costs_no_more_than_the_replies(lm_server):
    with RawDaemon() as daemon:
        greet(daemon)
        # Once read, so that threads and connections are there; then not.
        speak(daemon, lm_server, "read")
        read_all(daemon, "read")
        before = daemon.resident()
        model = speak(daemon, lm_server, "unread")
        lm_server.wait_for(
            lambda: len(seen(lm_server, model)) == UNREAD and not lm_server.in_flight(model),
            PATIENCE,
        )
        grown = daemon.resident() - before
        answers, events = read_all(daemon, "unread")
        for name, chunks in events.items():
            assert [chunk["index"] for chunk in chunks] == list(range(len(chunks)))
            assert "".join(chunk["text"] for chunk in chunks) == answers[name]["answer"]
        assert len(events) == UNREAD
        assert grown < UNREAD * WORDS * EVENT, "what is not read is not kept as events"
        assert sum(map(len, events.values())) < UNREAD * WORDS / 2, "pieces are merged"


def greet(daemon: RawDaemon) -> None:
    daemon.write(packed({"id": 0, "command": "hello", "args": {"protocol": [2]}}))
    while daemon.message().get("event") != "ready":
        pass


def speak(daemon: RawDaemon, lm_server: Any, name: str) -> str:
    """Ask for long streams, and for a pong behind them; the model's name."""
    model = f"{new_id(name)}+words-{WORDS}"
    for number in range(UNREAD):
        args = {"prompt": f"q{number}", "lm": lm_at(lm_server, model)}
        request = {"id": f"{name}-{number}", "command": "generate", "args": args, "stream": True}
        daemon.write(packed(request))
    daemon.write(packed({"id": f"{name}-ping", "command": "ping", "args": {}}))
    return model


def read_all(daemon: RawDaemon, name: str) -> tuple[dict[Any, Any], dict[Any, list[Any]]]:
    """Every reply by id, and every chunk by id; a chunk behind its reply fails."""
    answers: dict[Any, Any] = {}
    events: dict[Any, list[Any]] = {}
    while len(answers) < UNREAD + 1:
        message = daemon.message()
        if message.get("event") == "chunk":
            assert message["id"] not in answers
            events.setdefault(message["id"], []).append(message["data"])
        elif "event" not in message:
            result = message["result"]
            answers[message["id"]] = {"answer": result.get("text")}
    assert f"{name}-ping" in answers
    return answers, events


def test_a_stream_that_nobody_reads_can_be_cancelled(lm_server):
    with RawDaemon() as daemon:
        greet(daemon)
        model = f"{new_id('given-up')}+words-100000"
        args = {"prompt": "?", "lm": lm_at(lm_server, model)}
        daemon.write(packed({"id": 1, "command": "generate", "args": args, "stream": True}))
        lm_server.wait_for(
            lambda: seen(lm_server, model) and not lm_server.in_flight(model), PATIENCE
        )
        daemon.write(packed({"id": 2, "command": "cancel", "args": {"request": 1}}))
        messages = [daemon.message()]
        while messages[-1].get("id") != 2:
            messages.append(daemon.message())
        assert messages[-2]["id"] == 1
        assert messages[-2]["error"]["code"] == "cancelled"
        assert sum(len(packed(message)) for message in messages) < MIB
