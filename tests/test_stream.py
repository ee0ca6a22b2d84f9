"""A request's stream: what it merges, waits for, holds back and drops."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.scope import Scope, Stopped, current_scope
from bridge.secrets import Secrets
from bridge.stream import LONGEST_PIECE, Stream, Utterance
from protocol.errors import Cancelled

SECRETS = ("sk-secret-1", "sk-secret-1-and-more", "abcabcab")


class Pipe:
    """A way out whose crowds come when the test says; remembers what was sent."""

    def __init__(self) -> None:
        self.crowded = False
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.waiting: set[threading.Event] = set()
        self.somebody_waits = threading.Event()

    def when_roomy(self, wake: threading.Event) -> None:
        self.waiting.add(wake)
        self.somebody_waits.set()

    def forget(self, wake: threading.Event) -> None:
        self.waiting.discard(wake)

    def clear(self) -> None:
        self.crowded = False
        for wake in list(self.waiting):
            wake.set()

    def texts(self) -> list[str]:
        return [data["text"] for _, data in self.sent]


def stream_to(pipe: Pipe, secrets: Secrets | None = None) -> Stream:
    safe = (secrets or Secrets()).safe
    return Stream(lambda name, data: pipe.sent.append((name, data)), pipe, safe, 1 << 26)


@pytest.fixture
def scope():
    """The current request's scope."""
    token = current_scope.set(scope := Scope())
    yield scope
    current_scope.reset(token)


def test_pieces_that_meet_a_crowd_are_one_when_there_is_room() -> None:
    pipe = Pipe()
    utterance = Utterance(stream_to(pipe), {"call": 1})
    utterance.say("a", "one ")
    pipe.crowded = True
    for piece in ("two ", "three "):
        utterance.say("a", piece)
    utterance.say("b", "four")
    pipe.crowded = False
    utterance.say("b", "!")
    assert [(data["field"], data["text"], data["index"]) for _, data in pipe.sent] == [
        ("a", "one ", 0),
        ("a", "two three ", 1),
        ("b", "four!", 0),
    ]


def test_a_field_that_begins_anew_forgets_what_was_kept_of_it() -> None:
    pipe = Pipe()
    utterance = Utterance(stream_to(pipe), {})
    utterance.say("a", "wrong")
    pipe.crowded = True
    utterance.say("a", " and more")
    utterance.begin_anew("a")
    pipe.crowded = False
    utterance.say("a", "right")
    assert [(data["text"], data["index"]) for _, data in pipe.sent] == [("wrong", 0), ("right", 0)]


@given(texts=st.lists(st.text(min_size=1)), crowds=st.lists(st.booleans()))
def test_whatever_the_crowds_nothing_is_lost_and_indexes_count(
    texts: list[str], crowds: list[bool]
) -> None:
    pipe = Pipe()
    utterance = Utterance(stream_to(pipe), {})
    for number, text in enumerate(texts):
        pipe.crowded = number < len(crowds) and crowds[number]
        utterance.say("a", text)
    pipe.crowded = False
    utterance.flush()
    assert "".join(pipe.texts()) == "".join(texts)
    assert [data["index"] for _, data in pipe.sent] == list(range(len(pipe.sent)))


def test_what_was_merged_goes_out_in_pieces_of_a_bounded_size() -> None:
    pipe = Pipe()
    utterance = Utterance(stream_to(pipe), {})
    pipe.crowded = True
    utterance.say("a", "x" * (2 * LONGEST_PIECE + 1))
    pipe.crowded = False
    utterance.flush()
    assert list(map(len, pipe.texts())) == [LONGEST_PIECE, LONGEST_PIECE, 1]


def test_who_has_ended_a_call_waits_until_there_is_room(scope: Scope) -> None:
    pipe = Pipe()
    utterance = Utterance(stream_to(pipe), {})
    pipe.crowded = True
    utterance.say("a", "kept")

    def flush() -> None:
        current_scope.set(scope)
        utterance.flush()

    thread = threading.Thread(target=flush)
    thread.start()
    assert pipe.somebody_waits.wait(10)
    assert pipe.sent == []
    pipe.clear()
    thread.join(10)
    assert pipe.texts() == ["kept"]
    assert pipe.waiting == set()


def test_a_wait_for_room_ends_when_the_request_does(scope: Scope) -> None:
    pipe = Pipe()
    pipe.crowded = True
    stream = stream_to(pipe)
    stopper = threading.Thread(
        target=lambda: (pipe.somebody_waits.wait(10), scope.stop(Cancelled("stop")))
    )
    stopper.start()
    with pytest.raises(Stopped):
        stream.status({"status": "tool_start"})
    stopper.join(10)
    assert pipe.sent == []
    assert pipe.waiting == set()


def test_nothing_is_sent_once_it_is_closed() -> None:
    pipe = Pipe()
    stream = stream_to(pipe)
    stream.close()
    stream.chunk({"text": "late"})
    stream.status({"status": "late"})
    assert pipe.sent == []


@given(data=st.data())
def test_a_secret_is_never_cut_however_it_comes(data: Any) -> None:
    secrets = Secrets()
    for secret in SECRETS:
        secrets.add(secret)
    morsels = [*SECRETS, "sk-", "abc", "ab", "c", " ", "s", "1", "-and-more"]
    texts = data.draw(st.lists(st.sampled_from(morsels) | st.text(max_size=2), max_size=12))
    texts = [text for text in texts if text]
    whole = "".join(texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    edges = [0, *cuts, len(whole)]
    pipe = Pipe()
    utterance = Utterance(stream_to(pipe, secrets), {})
    for start, end in pairwise(edges):
        if start < end:
            utterance.say("a", whole[start:end])
    utterance.flush()
    assert "".join(pipe.texts()) == whole
    assert "".join(map(secrets.mask_text, pipe.texts())) == secrets.mask_text(whole)
