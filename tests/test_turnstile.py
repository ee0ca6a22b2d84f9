"""The turnstile: so many inside at a time, in order, and nobody for ever outside."""

from __future__ import annotations

import gc
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from bridge import turnstile as module
from bridge.turnstile import Turnstile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 30.0


@pytest.fixture
def turnstile(monkeypatch: pytest.MonkeyPatch) -> Turnstile:
    """One with one place, whose patience never ends, unless a test says so."""
    monkeypatch.setattr(module, "PATIENCE", PATIENCE)
    return Turnstile(1)


def start(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def queued(turnstile: Turnstile, count: int) -> None:
    """Wait until that many stand in the queue."""
    ends = time.monotonic() + PATIENCE
    while len(turnstile._queue) != count:
        assert time.monotonic() < ends
        time.sleep(0.001)


@contextmanager
def occupied(turnstile: Turnstile) -> Iterator[threading.Event]:
    """Somebody inside until the event is set."""
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with turnstile.inside():
            inside.set()
            leave.wait(PATIENCE)

    thread = start(stay)
    assert inside.wait(PATIENCE)
    yield leave
    leave.set()
    thread.join(PATIENCE)


def test_those_who_wait_go_in_one_at_a_time_in_the_order_of_their_coming(turnstile):
    order: list[int] = []
    at_once: list[int] = []

    def pass_through(number: int) -> None:
        with turnstile.inside():
            at_once.append(number)
            assert len(at_once) == 1
            order.append(number)
            at_once.pop()

    with occupied(turnstile) as leave:
        threads = []
        for number in range(8):
            threads.append(start(lambda number=number: pass_through(number)))
            queued(turnstile, number + 1)
        leave.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert order == list(range(8))
    assert not turnstile.occupied


def test_there_are_as_many_inside_as_there_are_places(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", PATIENCE)
    turnstile = Turnstile(2)
    third = threading.Event()
    with occupied(turnstile), occupied(turnstile) as leave:
        turnstile.when_free(third.set, start)
        queued(turnstile, 1)
        assert not third.is_set()
        leave.set()
        assert third.wait(PATIENCE)


def test_what_was_done_in_turn_leaves_nothing_for_the_garbage_collector(turnstile):
    done: list[threading.Event] = [threading.Event() for _ in range(20)]
    gc.collect()
    gc.disable()
    try:
        for event in done:
            turnstile.when_free(event.set, lambda job: job())
            assert event.is_set()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_whoever_is_outside_leaves_the_place_to_others(turnstile):
    with turnstile.inside(), turnstile.outside(), occupied(turnstile):
        pass
    assert not turnstile.occupied


def test_a_job_gets_a_thread_only_when_its_turn_comes(turnstile):
    begun: list[str] = []
    done = threading.Event()

    def submit(job: Callable[[], None]) -> None:
        begun.append("thread")
        start(job)

    with occupied(turnstile) as leave:
        turnstile.when_free(done.set, submit)
        assert not begun
        leave.set()
        assert done.wait(PATIENCE)
    assert begun == ["thread"]


def test_the_thread_that_ends_a_job_does_those_behind_it(turnstile):
    threads: list[int] = []
    done = threading.Event()
    with occupied(turnstile) as leave:
        for _ in range(5):
            turnstile.when_free(lambda: threads.append(threading.get_ident()), start)
        turnstile.when_free(done.set, start)
        leave.set()
        assert done.wait(PATIENCE)
    assert len(threads) == 5
    assert len(set(threads)) == 1


def test_a_job_that_waits_lets_the_next_one_begin(turnstile):
    release, second = threading.Event(), threading.Event()
    first_ended = threading.Event()

    def first() -> None:
        with turnstile.outside():
            release.wait(PATIENCE)
        first_ended.set()

    turnstile.when_free(first, start)
    turnstile.when_free(second.set, start)
    assert second.wait(PATIENCE)
    assert not first_ended.is_set()
    release.set()
    assert first_ended.wait(PATIENCE)


@pytest.mark.parametrize("inside", [False, True])
def test_a_thread_waits_until_it_is_called_in_and_is_then_where_it_was(turnstile, inside):
    found: list[bool] = []
    ready = threading.Event()

    def wait() -> None:
        ticket = turnstile.ticket()
        tickets.append(ticket)
        ready.set()
        assert turnstile.wait(ticket, PATIENCE)
        found.append(turnstile.occupied)

    def work() -> None:
        if inside:
            with turnstile.inside():
                wait()
        else:
            wait()

    tickets: list[module.Ticket] = []
    thread = start(work)
    assert ready.wait(PATIENCE)
    turnstile.call_in(tickets[0])
    turnstile.call_in(tickets[0])
    thread.join(PATIENCE)
    assert found == [inside]
    assert not turnstile.occupied


def test_a_wait_that_nobody_ends_ends_by_its_timeout(turnstile):
    with turnstile.inside():
        ticket = turnstile.ticket()
        assert not turnstile.wait(ticket, 0.01)
        assert turnstile.occupied
        turnstile.call_in(ticket)  # too late: it must not take a place that nobody leaves
    assert not turnstile.occupied


def test_whoever_never_leaves_cannot_keep_the_others_out(turnstile, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    inside, jobs = threading.Event(), threading.Event()
    with occupied(turnstile):

        def go_in() -> None:
            with turnstile.inside():
                inside.set()

        start(go_in)
        turnstile.when_free(jobs.set, start)
        assert inside.wait(PATIENCE)
        assert jobs.wait(PATIENCE)
    ends = time.monotonic() + PATIENCE
    while turnstile.occupied and time.monotonic() < ends:
        time.sleep(0.001)
    assert not turnstile.occupied


def test_between_two_jobs_there_is_a_moment_for_something_else(turnstile):
    order: list[str] = []
    over = threading.Event()
    turnstile.between_jobs = lambda: order.append("between")
    with occupied(turnstile) as leave:
        turnstile.when_free(lambda: order.append("first"), start)
        turnstile.when_free(lambda: order.append("second"), start)
        turnstile.when_free(over.set, start)
        leave.set()
        assert over.wait(PATIENCE)
    assert order[:4] == ["first", "between", "second", "between"]


def test_a_guard_that_gets_no_thread_is_started_by_the_next_who_waits(turnstile, monkeypatch):
    with occupied(turnstile) as leave:
        with monkeypatch.context() as starved:
            starved.setattr(module.threading, "Thread", Starved)
            turnstile.when_free(lambda: None, lambda job: job())
        queued(turnstile, 1)
        assert turnstile._guard is None
        turnstile.when_free(lambda: None, lambda job: job())
        assert turnstile._guard is not None
        leave.set()
    queued(turnstile, 0)


class Starved(threading.Thread):
    """Where the system has no thread to give."""

    def start(self) -> None:
        raise RuntimeError("can't start new thread")
