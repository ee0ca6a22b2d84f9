"""Who runs now, and in whose turn."""

from __future__ import annotations

from bridge.scope import Scope
from bridge.serving.admission import Admission


def admission(at_once: int) -> tuple[Admission, list[str]]:
    return Admission(max_concurrent=at_once, max_queued=100), []


def test_raising_the_bound_starts_those_who_wait():
    gate, ran = admission(1)
    assert gate.admit(Scope(), lambda: ran.append("first")) is not None
    for name in ("second", "third"):
        assert gate.admit(Scope(), lambda name=name: ran.append(name)) is None
    gate.max_concurrent = 10
    jobs = gate.refill()
    assert (len(jobs), gate.queued, gate.running) == (2, 0, 3)
    for job in jobs:
        job()
    assert ran == ["second", "third"]


def test_nobody_gets_in_before_those_who_wait():
    gate, ran = admission(1)
    running = gate.admit(Scope(), lambda: ran.append("first"))
    assert gate.admit(Scope(), lambda: ran.append("second")) is None
    gate.max_concurrent = 2
    assert gate.admit(Scope(), lambda: ran.append("third")) is None
    assert running is not None
    running()
    assert ran == ["first", "second", "third"]
    assert (gate.running, gate.queued) == (0, 0)
