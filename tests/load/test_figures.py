"""The figures that the README promises, with the head room that a busy machine needs.

Orders and ratios are asserted; `make bench` gives the figures themselves.
"""

from __future__ import annotations

import pytest

from bench import scenarios

pytestmark = pytest.mark.load


def test_hello_is_answered_long_before_dspy_is_imported_and_memory_is_small_then():
    figures = scenarios.start(rounds=3)
    assert figures["hello_ms"] < figures["ready_ms"] / 3
    assert figures["hello_ms"] < 1_500
    assert figures["rss_ready_mb"] < 110


def test_the_bridge_costs_little_over_dspy_itself():
    figures = scenarios.overhead(rounds=5)
    assert figures["ratio"] < 2.5


@pytest.mark.parametrize(("requests", "wall_ms"), [(200, 5_000), (1_000, 18_000)])
def test_a_burst_waits_for_one_lm_call_not_for_all_of_them(requests: int, wall_ms: float):
    figures = scenarios.burst(requests)
    assert figures["wall_ms"] < wall_ms
    assert figures["ping_p50_ms"] < 50
    assert figures["rss_mb"] < 300


def test_memory_is_flat_over_twenty_thousand_forwards():
    assert scenarios.growth()["grown_mb"] < 5
