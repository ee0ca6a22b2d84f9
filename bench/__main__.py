"""Run every scenario and print its figures: ``python -m bench [scenario …]``."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

from bench import sandbox_scenarios, scenarios

if TYPE_CHECKING:
    from collections.abc import Callable

SCENARIOS: dict[str, Callable[[], dict[str, float]]] = {
    "start": scenarios.start,
    "overhead": scenarios.overhead,
    "burst-200": functools.partial(scenarios.burst, 200),
    "burst-1000": functools.partial(scenarios.burst, 1000),
    "growth": scenarios.growth,
    "payload": scenarios.payload,
    "during-run-instant": scenarios.during_run,
    "during-run-50ms": functools.partial(scenarios.during_run, 50),
    "evaluation": scenarios.evaluation,
    "source-overhead": sandbox_scenarios.source_overhead,
    "parked-programs": sandbox_scenarios.parked_programs,
}


def main(names: list[str]) -> None:
    """Print the figures of the named scenarios, or of all."""
    for name in names or list(SCENARIOS):
        figures = SCENARIOS[name]()
        shown = "  ".join(f"{key} {value:.2f}" for key, value in figures.items())
        print(f"{name:<18} {shown}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
