"""Many streams over one pipe: each whole and in order, until it is cancelled, late or not read."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

import pytest

from bridge.client import Port, RequestFailed
from bridge.serving.outbox import ROOMY
from bridge.stream import LONGEST_PIECE
from protocol import Codec, ErrorReply, Event, HostSession, Reply
from tests.daemon.asking import create, lm_at, new_id, program
from tests.daemon.lm_maps import seen
from tests.daemon.raw_daemon import PATIENCE, RawDaemon
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
    for _, hearing in cancelled:
        hearing.wait_for_chunk()
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
        hearing.wait_for_chunk()
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


UNREAD = 40


def greeted(daemon: RawDaemon) -> HostSession:
    """The host's side of a connection in version 2, once DSPy is there."""
    host = HostSession(codec=Codec.MSGPACK)
    daemon.write(host.encode_request("hello", "hello", {"protocol": [2]}))
    while True:
        for message in host.receive_data(daemon.read()):
            if isinstance(message, Event) and message.event == "ready":
                return host


def generate(host: HostSession, name: str, lm: Any) -> bytes:
    return host.encode_request(name, "generate", {"prompt": name, "lm": lm}, stream=True)


def read_until(daemon: RawDaemon, host: HostSession, last: str) -> list[Any]:
    """All messages up to the reply to `last`."""
    messages: list[Any] = []
    while True:
        for message in host.receive_data(daemon.read()):
            messages.append(message)
            if getattr(message, "id", None) == last and not isinstance(message, Event):
                return messages


def test_what_a_host_does_not_read_is_merged_and_never_lost(lm_server):
    model = f"{new_id('unread')}+words-500"
    lm = lm_at(lm_server, model)
    with RawDaemon() as daemon:
        host = greeted(daemon)
        for number in range(UNREAD):
            daemon.write(generate(host, f"s{number}", lm))
        for number in range(UNREAD):
            # The LM's server is further than the daemon, but the daemon is somewhere on the way.
            lm_server.wait_for(
                lambda number=number: (
                    sum(r.ended_at is not None for r in seen(lm_server, model)) > number
                ),
                PATIENCE,
            )
            daemon.write(host.encode_request(f"stats{number}", "stats"))
        replies: dict[Any, Any] = {}
        heard: dict[Any, list[str]] = {}
        while len(replies) < 2 * UNREAD:
            for message in host.receive_data(daemon.read()):
                if isinstance(message, Reply):
                    replies[message.id] = message.result
                elif message.event == "chunk":
                    assert message.id not in replies
                    pieces = heard.setdefault(message.id, [])
                    assert message.data["index"] == len(pieces)
                    pieces.append(message.data["text"])
    for number in range(UNREAD):
        assert "".join(heard[f"s{number}"]) == replies[f"s{number}"]["text"]
        pending = replies[f"stats{number}"]["pending_output"]
        assert pending < ROOMY + UNREAD * LONGEST_PIECE, "events pile up"


def test_a_stream_that_nobody_reads_can_be_cancelled(lm_server):
    model = f"{new_id('given-up')}+words-100000"
    with RawDaemon() as daemon:
        host = greeted(daemon)
        daemon.write(generate(host, "unread", lm_at(lm_server, model)))
        lm_server.wait_for(
            lambda: seen(lm_server, model) and not lm_server.in_flight(model), PATIENCE
        )
        daemon.write(host.encode_request("cancel", "cancel", {"request": "unread"}))
        messages = read_until(daemon, host, "cancel")
        assert isinstance(messages[-2], ErrorReply)
        assert messages[-2].error["code"] == "cancelled"
        texts_heard = [
            m.data["text"] for m in messages if isinstance(m, Event) and "text" in m.data
        ]
        assert sum(map(len, texts_heard)) < MIB
