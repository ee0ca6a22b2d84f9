"""Few workers for many sessions: who waits lends its worker, and loses nothing by it."""

from __future__ import annotations

import threading

import pytest

from bridge.sandbox.bounds import Bounds
from bridge.sandbox.monty import Called, Ended
from bridge.sandbox.workers import Workers
from bridge.settings import Limits

LIMITS = Limits(sandbox_workers=1)
BOUNDS = Bounds.of(LIMITS)


def never():
    """The check of a request that goes on."""


@pytest.fixture(scope="module")
def workers():
    return Workers(LIMITS)


def test_a_session_that_waits_is_written_down_when_another_needs_its_worker(workers):
    with workers.session(BOUNDS, never) as outer:
        turn = outer.start("kept = [1, 2]\nkept.append(ask())\nreturn kept", {})
        assert isinstance(turn, Called)
        with outer.waiting(), workers.session(BOUNDS, never) as inner:
            assert inner.start("return 7", {}) == Ended(7)
        assert outer.turn(lambda seat: seat.answer(3)) == Ended([1, 2, 3])


def test_a_session_that_nobody_wants_the_worker_of_keeps_it(workers):
    with workers.session(BOUNDS, never) as session:
        session.start("ask()\nreturn 1", {})
        with session.waiting():
            pass
        assert session.printed == ""
        assert session.turn(lambda seat: seat.answer(None)) == Ended(1)


def test_many_sessions_share_one_worker_and_do_not_mix(workers):
    found = {}

    def run(number):
        with workers.session(BOUNDS, never) as session:
            session.start(
                "seen = [n]\nfor i in range(3):\n    seen.append(ask(i))\nreturn seen",
                {"n": number},
            )
            for _ in range(3):
                with session.waiting():
                    barrier.wait(30)
                turn = session.turn(lambda seat: seat.answer(number))
            found[number] = turn

    barrier = threading.Barrier(5)
    threads = [threading.Thread(target=run, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {number: Ended([number] * 4) for number in range(5)}


def test_who_gives_up_waiting_for_a_worker_leaves_it_to_the_next(workers):
    class OverError(Exception):
        pass

    looked = threading.Event()

    def over():
        looked.set()
        raise OverError

    def wait_in_vain():
        with pytest.raises(OverError), workers.session(BOUNDS, over) as session:
            session.start("return 1", {})

    with workers.session(BOUNDS, never) as session:
        session.start("ask()\nreturn 1", {})
        thread = threading.Thread(target=wait_in_vain)
        thread.start()
        assert looked.wait(30)
        thread.join(30)
    with workers.session(BOUNDS, never) as session:
        assert session.start("return 2", {}) == Ended(2)


def test_an_error_while_it_waits_leaves_the_worker_to_the_next(workers):
    def fail_while_waiting():
        with workers.session(BOUNDS, never) as session:
            session.start("ask()", {})
            with session.waiting():
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_waiting()
    with workers.session(BOUNDS, never) as session:
        assert session.start("return 3", {}) == Ended(3)
