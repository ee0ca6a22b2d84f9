"""What of a run outlives its process: one folder a run, plain JSON in it, no keys.

`request.json` holds what was asked, `run.json` how far it came, `result.json` what came of it, and
`calls.jsonl` what its LM has answered, so that a resumed run pays for nothing twice. Folders are
named by a hash, because run ids are the host's and may be anything. Only the owner may look
inside: prompts are in there.

Daemons may share a directory. Whichever runs a run holds its folder's lock, which the system takes
back when that daemon ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import orjson

__all__ = ["MOST_KEPT", "Hold", "Mask", "RunStore", "default_directory"]

MOST_KEPT = 200
"""Runs kept on disk; the oldest that are not running go first."""

LOOKS = 5
LOOK_SECONDS = 0.01
"""How often, and how far apart, a lock is tried: whoever only looks at it holds it for a moment."""

Part = Literal["request", "run", "result"]

Mask = Callable[[bytes], bytes]
"""Takes the secrets out of what is written."""


def default_directory() -> Path:
    """Where runs are kept when nobody says: the user's state directory."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "dspy-bridge" / "runs"


class Hold:
    """The lock of one run's folder. `release` it when the run has ended."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def release(self) -> None:
        """Let others run it; later calls do nothing."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


class RunStore:
    """Runs on disk. Any thread; every method may raise OSError."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()

    def hold(self, tenant: str | None, run_id: str) -> Hold | None:
        """The lock of a run's folder, which is made; None while somebody else has it."""
        folder = self._folder(tenant, run_id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _locked(folder)

    def is_held(self, tenant: str | None, run_id: str) -> bool:
        """Whether a daemon is running this run."""
        return _is_held(self._folder(tenant, run_id))

    def record(self, tenant: str | None, run_id: str) -> Path:
        """The file that a run's LM calls are recorded in."""
        return self._folder(tenant, run_id) / "calls.jsonl"

    def clear(self, tenant: str | None, run_id: str) -> None:
        """Delete what an earlier run of the same id left, before it is run anew."""
        folder = self._folder(tenant, run_id)
        for name in ("calls.jsonl", "result.json", "request.json", "run.json"):
            (folder / name).unlink(missing_ok=True)

    def save(
        self, tenant: str | None, run_id: str, part: Part, content: dict[str, Any], mask: Mask
    ) -> None:
        """Write one part of a run whole or not at all."""
        folder = self._folder(tenant, run_id)
        with self._lock:
            draft = folder / f"{part}.json.new"
            draft.touch(mode=0o600)
            draft.write_bytes(mask(orjson.dumps(content, default=_plain)))
            draft.replace(folder / f"{part}.json")

    def load(self, tenant: str | None, run_id: str, part: Part) -> dict[str, Any] | None:
        """One part of a run; None when there is none or it cannot be read."""
        return _read(self._folder(tenant, run_id) / f"{part}.json")

    def all(self, tenant: str | None) -> list[dict[str, Any]]:
        """The `run` part of each of one tenant's runs, in no order."""
        found = [_read(path) for path in self.directory.glob("*/run.json")]
        return [run for run in found if run is not None and run.get("tenant") == tenant]

    def prune(self) -> None:
        """Delete the oldest runs above the bound, except those that are running."""
        with self._lock:
            folders = sorted(self.directory.glob("*/run.json"), key=_written)
            for path in folders[: max(0, len(folders) - MOST_KEPT)]:
                if not _is_held(path.parent):
                    shutil.rmtree(path.parent, ignore_errors=True)

    def _folder(self, tenant: str | None, run_id: str) -> Path:
        return self.directory / sha256(f"{tenant!r}\0{run_id}".encode()).hexdigest()[:32]


def _plain(value: Any) -> str:
    # As on the wire: a host that writes JSON sends bytes in base64.
    return b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return content if isinstance(content, dict) else None


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        # Another daemon prunes as well.
        return 0.0


def _locked(folder: Path) -> Hold | None:
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(LOOKS):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOOK_SECONDS)
        else:
            return Hold(fd)
    os.close(fd)
    return None


def _is_held(folder: Path) -> bool:
    try:
        fd = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared: two that look at once must not take each other for the run's daemon.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
