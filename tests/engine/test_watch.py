"""The thread that stands at all sockets and at the clock."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.engine.lms.watch import READ, SocketWait, nap
from bridge.scope import Scope, Stopped, current_scope
from bridge.strand import Strand, drive
from protocol.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

PATIENCE = 30.0


def on_a_thread(job: Callable[[], None]) -> None:
    threading.Thread(target=job, daemon=True).start()


class Waiting:
    """Strands that wait for sockets, and what became of each."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[int, bool]] = []
        self._changed = threading.Condition()

    def begin(self, number: int, fd: int, seconds: float) -> None:
        async def wait() -> None:
            came = await SocketWait(fd, READ, seconds, known=False)
            with self._changed:
                self.outcomes.append((number, came))
                self._changed.notify_all()

        Strand(wait(), on_a_thread).go_on()

    def until(self, count: int) -> list[tuple[int, bool]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.outcomes) >= count, PATIENCE)
            return list(self.outcomes)


def test_a_wait_for_what_does_not_come_ends_in_time_and_one_for_what_comes_does_not():
    waiting = Waiting()
    pairs = [socket.socketpair() for _ in range(3)]
    begun = time.monotonic()
    waiting.begin(0, pairs[0][0].fileno(), 3600.0)
    waiting.begin(1, pairs[1][0].fileno(), 0.05)
    waiting.begin(2, pairs[2][0].fileno(), 3600.0)
    pairs[2][1].sendall(b"x")
    assert sorted(waiting.until(2)) == [(1, False), (2, True)]
    assert time.monotonic() - begun >= 0.05
    pairs[0][1].sendall(b"x")
    assert (0, True) in waiting.until(3)
    for pair in pairs:
        for end in pair:
            end.close()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.01, 0.02, 0.03]), min_size=1, max_size=12))
def test_waits_end_each_at_its_own_time_whatever_order_they_come_in(times):
    waiting = Waiting()
    pairs = [socket.socketpair() for _ in times]
    for number, (seconds, pair) in enumerate(zip(times, pairs, strict=True)):
        waiting.begin(number, pair[0].fileno(), seconds)
    assert sorted(waiting.until(len(times))) == [(n, False) for n in range(len(times))]
    for pair in pairs:
        for end in pair:
            end.close()


def nap_ended_by(stopped: bool, run: Callable[[Coroutine[Any, None, None]], None]) -> Any:
    """What ended a request's nap: `Stopped`, or None for the time."""
    scope = Scope()
    outcome: list[BaseException | None] = []
    over = threading.Event()

    async def sleep() -> None:
        current_scope.set(scope)
        try:
            await nap(3600.0 if stopped else 0.02)
            outcome.append(None)
        except Stopped as error:
            outcome.append(error)
        over.set()

    run(sleep())
    if stopped:
        ends = time.monotonic() + PATIENCE
        while not scope._aborts:
            assert time.monotonic() < ends
            time.sleep(0.001)
        scope.stop(Cancelled("enough"))
    assert over.wait(PATIENCE)
    return outcome[0]


WAYS = {
    "driven": lambda work: on_a_thread(lambda: drive(work)),
    "a strand": lambda work: Strand(work, on_a_thread).go_on(),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_nap_ends_by_itself_or_with_its_request(way):
    for stopped in (False, True):
        assert isinstance(nap_ended_by(stopped, WAYS[way]), Stopped) is stopped


def test_who_sleeps_without_epoll_sleeps_on_its_thread(monkeypatch):
    monkeypatch.setattr("bridge.engine.lms.watch._the_watch", lambda: None)
    ours, theirs = socket.socketpair()
    waiting = Waiting()
    waiting.begin(0, ours.fileno(), 0.01)
    assert waiting.until(1) == [(0, False)]
    theirs.sendall(b"x")
    waiting.begin(1, ours.fileno(), PATIENCE)
    assert (1, True) in waiting.until(2)
    ours.close()
    theirs.close()


@pytest.mark.parametrize("stopped", [False, True])
def test_a_strand_naps_without_epoll_on_its_thread(monkeypatch, stopped):
    monkeypatch.setattr("bridge.engine.lms.watch._the_watch", lambda: None)

    def begin(work: Coroutine[Any, None, None]) -> None:
        on_a_thread(lambda: Strand(work, on_a_thread).go_on())

    assert isinstance(nap_ended_by(stopped, begin), Stopped) is stopped


def test_where_there_is_no_thread_for_the_watch_a_wait_is_held_without_it(monkeypatch):
    def starved(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("bridge.engine.lms.watch._watch", None)
    monkeypatch.setattr(threading.Thread, "start", starved)
    near, far = socket.socketpair()
    with near, far:
        far.send(b"x")
        wait = SocketWait(near.fileno(), READ, 1.0, known=False)
        wait.hold()
        assert wait.came
