"""What source costs; `make bench` has the figures of a quiet machine."""

from __future__ import annotations

import pytest

from bench import sandbox_scenarios

pytestmark = pytest.mark.load


def test_a_program_of_one_module_costs_little_over_the_module(record_property):
    figures = sandbox_scenarios.source_overhead(rounds=5, calls=60)
    record_property("figures", figures)
    print(figures)
    # 2 ms is what is asked for; on a busy machine each of its waits for a processor is longer.
    assert figures["overhead_ms"] < 20


def test_two_thousand_programs_wait_on_two_workers(record_property):
    figures = sandbox_scenarios.parked_programs(2_000, latency_ms=50, workers=2)
    record_property("figures", figures)
    print(figures)
    assert figures["wrong"] == 0
    assert figures["rss_mb"] < 300
    assert figures["ping_p50_ms"] < 50
    assert figures["ping_p99_ms"] < 500
