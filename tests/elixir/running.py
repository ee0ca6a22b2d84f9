"""Runs Elixir for tests, and says whether there is any."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests import readme

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CLIENT", "ELIXIR", "needs_elixir", "run"]

ELIXIR = shutil.which("elixir")
CLIENT = readme.ROOT / "elixir_client_stub"

PATIENCE = 300

needs_elixir = pytest.mark.skipif(
    ELIXIR is None and not os.environ.get("REQUIRE_ELIXIR"), reason="there is no Elixir here"
)


def run(argv: list[str], *, cwd: Path, **env: str) -> str:
    """Run to its end; fail with all that it printed when it fails."""
    ran = subprocess.run(
        argv,
        cwd=cwd,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout
