"""What a run costs the calls beside it, and what an evaluation takes; `make bench` has figures.

Ratios are of one machine at one time; absolute times have ten times the room that they need.
"""

from __future__ import annotations

import pytest

from bench import scenarios

pytestmark = pytest.mark.load


@pytest.mark.parametrize("latency_ms", [0, 50])
def test_calls_are_hardly_slower_beside_a_run(latency_ms, record_property):
    figures = scenarios.during_run(latency_ms, rounds=2, seconds=2.0)
    record_property("figures", figures)
    print(latency_ms, figures)
    assert figures["p99_ratio"] < 5
    assert figures["p50_ratio"] < 3


def test_an_evaluation_waits_for_its_lm_and_hardly_for_itself(record_property):
    # 1,000 rows at 100 ms, 64 at once: 1.6 s of waiting.
    figures = scenarios.evaluation(1_000, 100, 64)
    record_property("figures", figures)
    print(figures)
    assert figures["wall_s"] < 20
