"""What the daemon costs as Elixir sees it, measured by the client's own benchmark."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests.elixir.running import CLIENT, needs_elixir, run
from tests.load.test_figures import held

if TYPE_CHECKING:
    from pathlib import Path

FIGURE = re.compile(r"^host call .* ([\d.]+) x floor$", re.MULTILINE)

pytestmark = [pytest.mark.load, needs_elixir]


def test_a_host_call_is_a_few_round_trips_of_a_pipe(tmp_path: Path) -> None:
    def measure() -> dict[str, float]:
        printed = run(
            ["mix", "run", "bench/host_calls.exs"],
            cwd=CLIENT,
            MIX_ENV="prod",
            MIX_BUILD_PATH=str(tmp_path),
            DSPY_BRIDGE_PYTHON=sys.executable,
        )
        found = FIGURE.search(printed)
        assert found, printed
        return {"over_floor": float(found[1])}

    held(measure, lambda seen: seen["over_floor"] <= 12)
