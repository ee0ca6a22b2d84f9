"""The main thread's loop: what is due is called, in order, whoever asked for it."""

from __future__ import annotations

import os
import signal
import threading
import time

from bridge.serving.loop import Loop

PATIENCE = 30.0


def fail(error):
    raise AssertionError(f"raised {error!r}")


def test_what_other_threads_ask_for_is_done_in_the_order_of_their_asking():
    loop, done = Loop(fail), []
    for number in range(5_000):
        loop.call_soon_threadsafe(done.append, number)
    threading.Thread(target=loop.call_soon_threadsafe, args=(done.append, "last")).start()
    loop.run_until(lambda: "last" in done, PATIENCE)
    assert done == [*range(5_000), "last"]


def test_timers_come_when_they_are_due_and_cancelled_ones_do_not():
    loop, done = Loop(fail), []
    begun = time.monotonic()
    loop.call_later(0.06, lambda: done.append("late"))
    loop.call_later(0.02, lambda: done.append("never")).cancel()
    loop.call_later(0.01, lambda: done.append("soon"))
    loop.run_until(lambda: "late" in done, PATIENCE)
    assert done == ["soon", "late"]
    assert time.monotonic() - begun >= 0.06


def test_a_call_that_asks_for_itself_again_does_not_keep_a_timer_waiting():
    loop, done = Loop(fail), []

    def again() -> None:
        loop.call_soon_threadsafe(again)

    again()
    loop.call_later(0.01, lambda: done.append("due"))
    loop.run_until(lambda: bool(done), PATIENCE)
    assert done == ["due"]


def test_a_run_with_an_end_ends_though_nothing_happens():
    begun = time.monotonic()
    Loop(fail).run_until(lambda: False, 0.05)
    assert 0.05 <= time.monotonic() - begun < PATIENCE


def test_a_writer_is_called_when_the_pipe_takes_bytes_again_until_it_is_removed():
    loop, calls = Loop(fail), []
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    full = False
    while not full:
        try:
            os.write(writer, b"x" * 65_536)
        except BlockingIOError:
            full = True

    def written() -> None:
        calls.append(1)
        loop.remove_writer(writer)

    loop.add_writer(writer, written)
    loop.run_until(lambda: bool(calls), 0.02)
    assert not calls
    os.read(reader, 1_000_000)
    loop.run_until(lambda: bool(calls), PATIENCE)
    loop.run_until(lambda: len(calls) > 1, 0.02)
    assert calls == [1]
    os.close(reader)
    os.close(writer)


def test_a_signal_wakes_it():
    loop, came = Loop(fail), []
    before = signal.getsignal(signal.SIGUSR1)
    try:
        loop.add_signal_handler(signal.SIGUSR1, lambda: came.append(1))
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        loop.run_until(lambda: bool(came), PATIENCE)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert came == [1]


def test_what_one_call_raises_is_told_and_the_others_go_on():
    errors, done = [], []
    loop = Loop(errors.append)
    loop.call_soon_threadsafe(lambda: 1 / 0)
    loop.call_later(0.0, lambda: int("x"))
    loop.call_soon_threadsafe(done.append, "next")
    loop.run_until(lambda: len(errors) == 2 and bool(done), PATIENCE)
    assert {type(error) for error in errors} == {ZeroDivisionError, ValueError}
    assert done == ["next"]
