"""Items on several threads: in order, bounded, and the first failure ends it."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.engine import parallel
from bridge.engine.parallel import Places, in_parallel
from bridge.turnstile import turnstile

PATIENCE = 30.0

here: ContextVar[str] = ContextVar("here")


class Together:
    """Counts who works at once, and lets nobody go on before `count` of them have."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._changed = threading.Condition()
        self.now = 0
        self.most = 0

    def __call__(self, item: Any) -> Any:
        with turnstile.outside(), self._changed:
            self.now += 1
            self.most = max(self.most, self.now)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self.most >= self._count, PATIENCE)
            self.now -= 1
        return item


@settings(deadline=None)
@given(st.lists(st.integers(), max_size=40), st.integers(1, 8))
def test_results_are_those_of_map_in_order(items: list[int], at_most: int) -> None:
    assert in_parallel(lambda item: item * 2, items, at_most) == [item * 2 for item in items]


def test_so_many_are_at_work_at_once_and_no_more() -> None:
    work = Together(4)
    assert in_parallel(work, range(16), 4) == list(range(16))
    assert work.most == 4


def test_every_item_has_the_callers_context_and_changes_a_copy_of_it() -> None:
    here.set("outside")

    def work(item: int) -> str:
        found = here.get()
        here.set(f"changed by {item}")
        return found

    assert in_parallel(work, range(8), 3) == ["outside"] * 8
    assert here.get() == "outside"


@settings(deadline=None)
@given(st.sets(st.integers(0, 19), min_size=1), st.integers(1, 6))
def test_the_first_failure_in_order_is_raised(failing: set[int], at_most: int) -> None:
    def work(item: int) -> None:
        if item in failing:
            raise KeyError(item)

    with pytest.raises(KeyError) as caught:
        in_parallel(work, range(20), at_most)
    # Those that had begun beside it have ended; the first of them in order is told.
    assert caught.value.args[0] in failing
    if at_most == 1:
        assert caught.value.args[0] == min(failing)


def test_no_item_begins_after_a_failure() -> None:
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 2:
            raise KeyError(item)

    with pytest.raises(KeyError):
        in_parallel(work, range(100), 1)
    assert begun == [0, 1, 2]


def test_what_ends_a_thread_is_raised_and_not_lost() -> None:
    def work(item: int) -> None:
        raise SystemExit(item)

    with pytest.raises(SystemExit):
        in_parallel(work, range(4), 4)


def test_the_process_has_a_fixed_number_of_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "places", places := Places(3))
    # Two callers and the three places there are: whatever the batches would like.
    work = Together(5)
    batches = [threading.Thread(target=in_parallel, args=(work, range(10), 8)) for _ in range(2)]
    for batch in batches:
        batch.start()
    for batch in batches:
        batch.join(PATIENCE)
        assert not batch.is_alive()
    assert work.most == 5
    assert places.free == 3


def test_a_batch_without_a_place_gets_those_that_become_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parallel, "places", places := Places(2))
    assert places.take(2) == 2
    together = Together(3)

    def work(item: int) -> None:
        if item == 0:
            places.give(2)
        else:
            together(item)

    in_parallel(work, range(4), 3)
    assert together.most == 3
    assert places.free == 2


def test_without_a_thread_to_spare_the_caller_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "places", places := Places(8))

    class NoThread:
        def __init__(self, **_: Any) -> None:
            pass

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(parallel.threading, "Thread", NoThread)
    assert in_parallel(lambda item: item, range(5), 4) == list(range(5))
    assert places.free == 8
