"""The way in: who reads the pipe, and when."""

from __future__ import annotations

import os
import select
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest

from bridge.serving.reading import Reading
from bridge.serving.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOON = 20.0
"""Seconds by which everything here has long happened."""

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="only epoll is shared")


@dataclass
class Pipe:
    """A pipe that is read: every byte goes into the inbox of its number, with who read it."""

    writer: int
    inboxes: dict[int, SimpleQueue[int]] = field(default_factory=dict)
    strays: SimpleQueue[int] = field(default_factory=SimpleQueue)
    ended: threading.Event = field(default_factory=threading.Event)
    failures: SimpleQueue[BaseException] = field(default_factory=SimpleQueue)
    wanted: bool = True
    fault: Exception | None = None

    def inbox(self, number: int) -> SimpleQueue[int]:
        inbox: SimpleQueue[int] = SimpleQueue()
        self.inboxes[number] = inbox
        return inbox

    def write(self, *numbers: int) -> None:
        os.write(self.writer, bytes(numbers))

    def take(self, data: bytes) -> tuple[list[Callable[[], None]], bool]:
        if self.fault is not None:
            raise self.fault
        for number in data:
            self.inboxes.get(number, self.strays).put(threading.get_ident())
        return [], self.wanted


@contextmanager
def reading() -> Iterator[tuple[Reading, Pipe]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    pipe = Pipe(writer)
    read = Reading(reader, Workers(), pipe.take, pipe.ended.set, pipe.failures.put)
    read.begin()
    try:
        yield read, pipe
    finally:
        read.stop()


def listening(read: Reading, inbox: SimpleQueue[int], seconds: float = SOON) -> Listener:
    listener = Listener(read, inbox, seconds)
    listener.start()
    return listener


class Listener(threading.Thread):
    """A thread that listens; `heard` is what it heard."""

    def __init__(self, read: Reading, inbox: SimpleQueue[int], seconds: float) -> None:
        super().__init__(daemon=True)
        self._listen = lambda: read.listen(inbox, seconds)
        self.heard: int | None = None

    def run(self) -> None:
        self.heard = self._listen()

    def result(self) -> int | None:
        self.join(SOON)
        assert not self.is_alive()
        return self.heard


def test_who_listens_reads_its_own_answer() -> None:
    with reading() as (read, pipe):
        listener = listening(read, pipe.inbox(1))
        while read._watched:
            threading.Event().wait(0.001)
        pipe.write(1)
        assert listener.result() == listener.ident


def test_who_listens_hears_nothing_when_its_time_is_over() -> None:
    with reading() as (read, pipe):
        assert read.listen(pipe.inbox(1), 0.01) is None


def test_the_others_read_again_when_nobody_listens_any_more() -> None:
    with reading() as (read, pipe):
        read.listen(pipe.inbox(1), 0.01)
        pipe.write(9)
        assert pipe.strays.get(timeout=SOON) != threading.get_ident()


def test_who_listens_reads_for_the_others_too() -> None:
    with reading() as (read, pipe):
        first, second = pipe.inbox(1), pipe.inbox(2)
        listeners = [listening(read, first), listening(read, second)]
        pipe.write(2, 9, 1)
        assert pipe.strays.get(timeout=SOON)
        assert all(listener.result() for listener in listeners)


def test_a_nudge_has_who_listens_look_into_its_inbox() -> None:
    with reading() as (read, pipe):
        inbox = pipe.inbox(1)
        listener = listening(read, inbox)
        inbox.put(-1)
        read.nudge()
        assert listener.result() == -1


def test_the_end_of_input_is_heard_while_somebody_listens() -> None:
    with reading() as (read, pipe):
        inbox = pipe.inbox(1)
        listener = listening(read, inbox)
        os.close(pipe.writer)
        assert pipe.ended.wait(SOON)
        inbox.put(-1)
        assert listener.result() == -1


def test_who_listens_still_hears_what_others_say_after_the_stop() -> None:
    with reading() as (read, pipe):
        inbox = pipe.inbox(1)
        listener = listening(read, inbox)
        read.stop()
        inbox.put(-1)
        assert listener.result() == -1


def test_nobody_reads_on_after_a_pause_until_it_is_over() -> None:
    with reading() as (read, pipe):
        inbox = pipe.inbox(1)
        pipe.wanted = False
        listener = listening(read, inbox)
        pipe.write(9)
        assert pipe.strays.get(timeout=SOON)
        pipe.write(1)
        assert read.listen(pipe.inbox(2), 0.05) is None
        pipe.wanted = True
        read.resume()
        assert listener.result()


def test_a_failure_while_somebody_listens_is_told_and_not_raised_there() -> None:
    with reading() as (read, pipe):
        inbox = pipe.inbox(1)
        listener = listening(read, inbox)
        pipe.fault = RuntimeError("broken")
        pipe.write(1)
        assert pipe.failures.get(timeout=SOON) is pipe.fault
        inbox.put(-1)
        assert listener.result() == -1


def test_no_answer_is_lost_among_many_who_listen() -> None:
    with reading() as (read, pipe):
        for _ in range(50):
            listeners = {number: listening(read, pipe.inbox(number)) for number in range(20)}
            for number in sorted(listeners, key=lambda n: n * 7 % 20):
                pipe.write(number)
            assert all(listener.result() for listener in listeners.values())


def test_a_thread_that_computes_reads_what_is_there_and_does_not_wait_for_more():
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    pipe = Pipe(writer)
    # Nobody stands at this pipe: whoever does has not got the interpreter.
    read = Reading(reader, Workers(), pipe.take, pipe.ended.set, pipe.failures.put)
    inbox = pipe.inbox(1)
    read.look()
    assert inbox.empty()
    pipe.write(1)
    read._look_next = 0.0
    read.look()
    assert inbox.get_nowait() == threading.get_ident()
    pipe.write(1)
    read.look()
    assert inbox.empty(), "it has looked a moment ago"
    read._look_next = 0.0
    read.look()
    assert inbox.get_nowait() == threading.get_ident()
    read.stop()


def test_a_look_leaves_the_pipe_to_those_who_stand_there():
    with reading() as (read, pipe):
        inbox = pipe.inbox(1)
        for _ in range(50):
            read._look_next = 0.0
            read.look()
            pipe.write(1)
            assert inbox.get(timeout=SOON)
        assert pipe.failures.empty()
