"""What of a run outlives its process: one folder a run, plain JSON in it, no keys.

`run.json` holds what was asked and what came of it; `calls.jsonl` holds what its LM has answered,
so that a resumed run pays for nothing twice. Folders are named by a hash, because run ids are the
host's and may be anything. Only the owner may look inside: prompts are in there.
"""

from __future__ import annotations

import os
import shutil
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

__all__ = ["RunStore", "default_directory"]

MOST_KEPT = 200
"""Runs kept on disk; the oldest that are not running go first."""


def default_directory() -> Path:
    """Where runs are kept when nobody says: the user's state directory."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "dspy-bridge" / "runs"


class RunStore:
    """Runs on disk. Any thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()

    def record(self, tenant: str | None, run_id: str) -> Path:
        """The file that a run's LM calls are recorded in."""
        return self._folder(tenant, run_id) / "calls.jsonl"

    def save(self, tenant: str | None, run_id: str, content: dict[str, Any]) -> None:
        """Write a run's `run.json` whole or not at all."""
        folder = self._folder(tenant, run_id)
        with self._lock:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = folder / "run.json.new"
            draft.write_bytes(orjson.dumps(content, default=str))
            draft.chmod(0o600)
            draft.replace(folder / "run.json")

    def load(self, tenant: str | None, run_id: str) -> dict[str, Any] | None:
        """A run's `run.json`; None when there is none or it cannot be read."""
        return _read(self._folder(tenant, run_id) / "run.json")

    def all(self, tenant: str | None) -> list[dict[str, Any]]:
        """The runs of one tenant, the newest first."""
        found = [_read(path) for path in self._directory.glob("*/run.json")]
        mine = [run for run in found if run is not None and run.get("tenant") == tenant]
        return sorted(mine, key=lambda run: run.get("started_at", 0), reverse=True)

    def forget(self, tenant: str | None, run_id: str) -> None:
        """Delete a run's recorded calls, before it is run anew under its old id."""
        self.record(tenant, run_id).unlink(missing_ok=True)

    def prune(self, running: set[str]) -> None:
        """Delete the oldest runs above the bound, except those whose id is in `running`."""
        with self._lock:
            folders = sorted(self._directory.glob("*/run.json"), key=lambda p: p.stat().st_mtime)
            for path in folders[: max(0, len(folders) - MOST_KEPT)]:
                run = _read(path)
                if run is None or run.get("run_id") not in running:
                    shutil.rmtree(path.parent, ignore_errors=True)

    def _folder(self, tenant: str | None, run_id: str) -> Path:
        return self._directory / sha256(f"{tenant!r}\0{run_id}".encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return content if isinstance(content, dict) else None
