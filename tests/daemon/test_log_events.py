"""A host that hears events gets the log as events; nobody has to read standard error for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bridge.log import MOST_TOLD, Log

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from bridge.client import Port


def late_answer(port: Port) -> None:
    """What a daemon logs at level debug: an answer to a call that nobody made."""
    port.answer(4711, result=None)
    port.call("ping")


def lines_of(port: Port) -> list[dict[str, Any]]:
    return [event.data for event in drained(port) if event.event == "log"]


def drained(port: Port) -> list[Any]:
    events = []
    while not port.events.empty():
        events.append(port.events.get())
    return events


def test_a_line_of_the_log_is_an_event(spawn: Callable[..., Port]) -> None:
    port = spawn("--log-level", "debug")
    port.hello()
    late_answer(port)
    assert {"level": "debug", "event": "late_answer", "call": "4711"} in lines_of(port)


def test_what_is_below_the_level_is_not_told(spawn: Callable[..., Port]) -> None:
    port = spawn()
    port.hello()
    late_answer(port)
    assert lines_of(port) == []
    port.call("configure", {"log_level": "debug"})
    late_answer(port)
    assert len(lines_of(port)) == 1


def test_what_is_told_is_not_written_too(capsys: pytest.CaptureFixture[str]) -> None:
    log, told = Log("warning"), []
    log.tell = lambda line: told.append(line) or True
    log.warning("odd", number=1)
    log.info("ordinary")
    assert told == [{"level": "warning", "event": "odd", "number": 1}]
    assert capsys.readouterr().err == ""


def test_what_the_host_does_not_take_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log("warning")
    log.tell = lambda _: False
    log.warning("odd", number=1)
    written = json.loads(capsys.readouterr().err)
    assert (written["level"], written["event"], written["number"]) == ("warning", "odd", 1)


def test_a_fault_that_repeats_itself_does_not_drown_the_host(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log, told = Log("warning"), []
    log.tell = lambda line: told.append(line) or True
    for number in range(10 * MOST_TOLD):
        log.warning("odd", number=number)
    # The second may have changed meanwhile, and again on a busy machine.
    written = capsys.readouterr().err.count("\n")
    assert len(told) >= MOST_TOLD
    assert len(told) + written == 10 * MOST_TOLD
    assert written > 0


def test_a_line_of_a_run_says_which_run_it_was() -> None:
    log, told = Log("warning"), []
    log.tell = lambda line: told.append(line) or True
    log.relay({"level": "error", "event": "internal", "error": "KeyError"}, run_id="r")
    assert told == [{"level": "error", "event": "internal", "error": "KeyError", "run_id": "r"}]
