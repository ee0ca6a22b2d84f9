"""Who runs now, and in whose turn."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.scope import Scope
from bridge.serving.admission import Admission
from bridge.settings import Limits
from protocol.errors import Busy


class Gate(Admission):
    """An admission whose bounds a test may change, and what has run."""

    def __init__(self, at_once: int, **limits: int) -> None:
        self.limits = Limits(max_concurrent=at_once, **{"max_queued": 100, **limits})
        super().__init__(lambda: self.limits)
        self.ran: list[Any] = []

    def take(self, name: Any, scope: Scope | None = None, size: int = 0) -> Any:
        def job() -> None:
            self.ran.append(name)
            following = self.ended()
            if following is not None:
                following()

        return self.admit(scope or Scope(), job, size)

    def widen(self, at_once: int) -> None:
        self.limits = self.limits._replace(max_concurrent=at_once)


def test_raising_the_bound_starts_those_who_wait():
    gate = Gate(1)
    assert gate.take("first") is not None
    for name in ("second", "third"):
        assert gate.take(name) is None
    gate.widen(10)
    jobs = gate.refill()
    assert (len(jobs), gate.queued, gate.running) == (2, 0, 3)
    for job in jobs:
        job()
    assert gate.ran == ["second", "third"]


def test_nobody_gets_in_before_those_who_wait():
    gate = Gate(1)
    running = gate.take("first")
    assert gate.take("second") is None
    gate.widen(2)
    assert gate.take("third") is None
    running()
    assert gate.ran == ["first", "second", "third"]
    assert (gate.running, gate.queued) == (0, 0)


def test_the_queue_is_bounded_in_bytes_and_takes_any_one_when_it_is_empty():
    gate = Gate(1, max_queued_bytes=1_000)
    running = gate.take("runs", size=5_000)
    assert gate.take("larger than the bound", size=2_000) is None
    with pytest.raises(Busy):
        gate.take("one more", size=1)
    running()
    running = gate.take("runs")
    assert gate.take("half", size=500) is None
    assert gate.take("the other half", size=500) is None
    with pytest.raises(Busy):
        gate.take("too much", size=1)
    assert gate.take("of no size") is None
    assert gate.queued_bytes == 1_000
    running()
    assert gate.queued_bytes == 0


def test_what_is_withdrawn_never_runs_and_leaves_nothing_behind():
    gate = Gate(1)
    running = gate.take("runs")
    scopes = [Scope(tenant=tenant) for tenant in ("a", "a", "b")]
    for number, scope in enumerate(scopes):
        gate.take(number, scope, size=10)

    class Arguments:
        pass

    kept = weakref.ref(arguments := Arguments())
    last = Scope(tenant="c")
    gate.admit(last, lambda arguments=arguments: None, 10)
    del arguments
    for scope in (scopes[0], scopes[2], last):
        gate.withdraw(scope)
        gate.withdraw(scope)
    gc.collect()
    assert kept() is None
    assert (gate.queued, gate.queued_bytes) == (1, 10)
    running()
    assert gate.ran == ["runs", 1]
    assert (gate.running, gate.queued, gate.queued_bytes) == (0, 0, 0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.booleans()), max_size=30))
def test_whatever_is_withdrawn_the_rest_runs_in_turns_and_in_order(waiting):
    gate = Gate(1)
    running = gate.take(None)
    scopes = []
    for number, (tenant, size, _) in enumerate(waiting):
        scopes.append(Scope(tenant=tenant))
        gate.take((tenant, number), scopes[-1], size)
    left = []
    for number, (scope, (tenant, size, withdrawn)) in enumerate(zip(scopes, waiting, strict=True)):
        if withdrawn:
            gate.withdraw(scope)
        else:
            left.append((tenant, number, size))
    assert (gate.queued, gate.queued_bytes) == (len(left), sum(size for *_, size in left))
    running()
    assert sorted(gate.ran[1:]) == sorted((tenant, number) for tenant, number, _ in left)
    for tenant in "abc":
        mine = [number for name, number in gate.ran[1:] if name == tenant]
        assert mine == sorted(mine)
    assert (gate.running, gate.queued, gate.queued_bytes) == (0, 0, 0)
