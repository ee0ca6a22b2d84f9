"""The lines that the project holds itself to, each measured as `make bench` measures it.

Whatever else runs on a machine can only make a figure worse, so a line is held when one of a few
tries holds it. A burst is also compared with plain DSPy on the same machine in the same minute, and
the start with that of a Python that does nothing: a machine that is too slow for the line is too
slow for those, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bench import scenarios

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.load

TRIES = 3

Figures = dict[str, float]


def held(measure: Callable[[], Figures], holds: Callable[[Figures], Any]) -> None:
    """One of a few measurements holds the line; else show them all."""
    seen: list[Figures] = []
    for _ in range(TRIES):
        seen.append(measure())
        if holds(seen[-1]):
            return
    pytest.fail(f"in none of {TRIES} tries: {seen}")


def test_hello_is_answered_long_before_dspy_is_imported():
    held(
        lambda: scenarios.start(rounds=5),
        lambda seen: seen["hello_ms"] < 150 or seen["hello_ms"] < 6 * seen["bare_ms"],
    )


def test_memory_is_small_when_dspy_is_imported():
    assert scenarios.start(rounds=1)["rss_ready_mb"] < 110


def test_the_bridge_costs_little_over_dspy_itself():
    held(scenarios.overhead, lambda seen: seen["ratio"] <= 1.25)


@pytest.mark.parametrize(("requests", "wall_ms"), [(200, 500), (1_000, 1_800)])
def test_a_burst_waits_for_one_lm_call_not_for_all_of_them(requests: int, wall_ms: float):
    held(
        lambda: scenarios.burst(requests),
        lambda seen: (
            (seen["wall_ms"] < wall_ms or seen["ratio"] < 0.7)
            and seen["ping_p50_ms"] < 10
            and seen["rss_mb"] < 250
        ),
    )


def test_a_ping_does_not_wait_behind_a_thousand_calls():
    held(lambda: scenarios.burst(1_000), lambda seen: seen["ping_p99_ms"] < 20)


def test_memory_is_flat_over_twenty_thousand_forwards():
    assert scenarios.growth()["grown_mb"] < 5


@pytest.mark.parametrize("latency_ms", [0, 50])
def test_calls_are_hardly_slower_beside_a_run(latency_ms: int):
    held(
        lambda: scenarios.during_run(latency_ms, rounds=3, seconds=2.0),
        lambda seen: seen["p99_ratio"] <= 1.5 and seen["p50_ratio"] <= 1.5,
    )


def test_an_evaluation_waits_for_its_lm_and_hardly_for_itself():
    # 1,000 rows at 100 ms, 64 at once: 1.6 s of waiting.
    held(lambda: scenarios.evaluation(1_000, 100, 64), lambda seen: seen["wall_s"] < 2.2)
