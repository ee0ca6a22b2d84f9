"""What the daemon costs as Elixir sees it, measured by the client's own benchmark."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests import readme
from tests.load.test_figures import held

if TYPE_CHECKING:
    from pathlib import Path

CLIENT = readme.ROOT / "elixir_client_stub"
PATIENCE = 300
FIGURE = re.compile(r"^host call .* ([\d.]+) x floor$", re.MULTILINE)

pytestmark = [
    pytest.mark.load,
    pytest.mark.skipif(
        shutil.which("mix") is None and not os.environ.get("REQUIRE_ELIXIR"),
        reason="there is no Elixir here",
    ),
]


def test_a_host_call_is_a_few_round_trips_of_a_pipe(tmp_path: Path) -> None:
    def measure() -> dict[str, float]:
        ran = subprocess.run(
            ["mix", "run", "bench/host_calls.exs"],
            cwd=CLIENT,
            env={
                **os.environ,
                "MIX_ENV": "prod",
                "MIX_BUILD_PATH": str(tmp_path),
                "DSPY_BRIDGE_PYTHON": sys.executable,
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        found = FIGURE.search(ran.stdout)
        assert found, ran.stdout + ran.stderr
        return {"over_floor": float(found[1])}

    held(measure, lambda seen: seen["over_floor"] <= 12)
