"""The runs of this daemon: what each is doing, and the ones that others left on disk."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bridge.runs.child import Child, Orders
from protocol.errors import BridgeError, Busy, Cancelled, InvalidArgs, NotFound, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bridge.runs.store import RunStore
    from bridge.scope import Scope

__all__ = ["Run", "Runs"]

MOST_RUNNING = 8
"""Runs at once: each is a process with a DSPy of its own, 75 MB and more."""

SAVE_SECONDS = 1.0
"""Between two writes of a run's progress to disk."""


@dataclass(slots=True, eq=False)
class Run:
    """One run as `run_get` shows it. Written by its own thread only."""

    run_id: str
    tenant: str | None
    optimizer: str
    program_id: str
    request: dict[str, Any]
    status: str = "running"
    started_at: float = field(default_factory=time.time)
    ended_at: float | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    child: Child | None = None
    saved_at: float = 0.0

    def to_wire(self, *, whole: bool) -> dict[str, Any]:
        """The run's row; `whole` with its result."""
        best = self.progress.get("best_score")
        score = best if self.result is None else self.result.get("score")
        wire = {
            "run_id": self.run_id,
            "status": self.status,
            "optimizer": self.optimizer,
            "program_id": self.program_id,
            "score": score,
            "best_score": best if best is not None else score,
            "trials": self.progress.get("trial", 0),
            "progress": self.progress,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "error": self.error,
        }
        return {**wire, "result": self.result} if whole else wire

    def to_disk(self) -> dict[str, Any]:
        """All that another daemon needs to show it or to resume it."""
        return {**self.to_wire(whole=True), "tenant": self.tenant, "request": self.request}


class Runs:
    """Starts runs, waits for them, tells of them. Any thread."""

    def __init__(self, store: RunStore, log_level: str) -> None:
        self._store = store
        self._log_level = log_level
        self._lock = threading.Lock()
        self._runs: dict[tuple[str | None, str], Run] = {}

    def record(self, tenant: str | None, run_id: str, *, fresh: bool) -> Path:
        """The file of a run's LM calls; empty when it is begun anew under its old id."""
        if fresh:
            self._store.forget(tenant, run_id)
        return self._store.record(tenant, run_id)

    def begin(self, run: Run) -> None:
        """Take a run in; raise Busy, or InvalidArgs when its id is running already."""
        with self._lock:
            running = [other for other in self._runs.values() if other.status == "running"]
            if any((o.tenant, o.run_id) == (run.tenant, run.run_id) for o in running):
                raise InvalidArgs.at("run_id", f"{run.run_id!r} is running")
            if len(running) >= MOST_RUNNING:
                raise Busy(f"{MOST_RUNNING} runs are in progress; repeat when one has ended")
            self._runs[run.tenant, run.run_id] = run
        self._save(run, now=True)
        self._store.prune({other.run_id for other in running} | {run.run_id})

    def carry_out(
        self,
        run: Run,
        orders: Orders,
        scope: Scope,
        on_progress: Callable[[dict[str, Any]], None],
    ) -> dict[str, Any]:
        """Run `run` in a child and give its result; cancelling the scope kills the child.

        Raises:
            WorkerDied: the child's process ended.
            BridgeError: the run failed.
        """
        try:
            child = run.child = Child(self._log_level)
            with scope.abortable(child.kill):
                result = child.run(orders, lambda data: self._progress(run, data, on_progress))
        except BaseException as error:
            failure = error if isinstance(error, BridgeError) else None
            if scope.stopped:
                failure = Cancelled("the host cancelled the run")
            self._end(run, "cancelled" if scope.stopped else "failed", None, failure)
            scope.check()
            if isinstance(error, WorkerDied):
                error.details["run_id"] = run.run_id
            raise
        self._end(run, result["status"], result, None)
        return dict(result)

    def stop(self, tenant: str | None, run_id: str) -> Run:
        """Ask a running run to end with its best so far; raise NotFound."""
        with self._lock:
            run = self._runs.get((tenant, run_id))
        if run is None or run.status != "running":
            raise NotFound(f"no run {run_id!r} is in progress", kind="run", id=run_id)
        if run.child is not None:
            run.child.stop()
        return run

    def get(self, tenant: str | None, run_id: str) -> dict[str, Any]:
        """One run with its result, from memory or disk; raise NotFound."""
        with self._lock:
            run = self._runs.get((tenant, run_id))
        if run is not None:
            return run.to_wire(whole=True)
        return _shown(self.stored(tenant, run_id))

    def stored(self, tenant: str | None, run_id: str) -> dict[str, Any]:
        """A run as it is on disk, request and all; raise NotFound."""
        found = self._store.load(tenant, run_id)
        if found is None:
            raise NotFound(f"no run has the id {run_id!r}", kind="run", id=run_id)
        return found

    def list(self, tenant: str | None) -> list[dict[str, Any]]:
        """The tenant's runs, the newest first, without results."""
        with self._lock:
            mine = [run for (owner, _), run in self._runs.items() if owner == tenant]
        rows = {run.run_id: run.to_wire(whole=False) for run in mine}
        for found in self._store.all(tenant):
            if found["run_id"] not in rows:
                rows[found["run_id"]] = {k: v for k, v in _shown(found).items() if k != "result"}
        return sorted(rows.values(), key=lambda row: row["started_at"], reverse=True)

    def kill_all(self) -> None:
        """End every child: the daemon is going."""
        with self._lock:
            children = [run.child for run in self._runs.values() if run.child is not None]
        for child in children:
            child.kill()

    def _progress(
        self, run: Run, data: dict[str, Any], on_progress: Callable[[dict[str, Any]], None]
    ) -> None:
        run.progress = data
        self._save(run)
        on_progress(data)

    def _end(
        self, run: Run, status: str, result: dict[str, Any] | None, error: BridgeError | None
    ) -> None:
        run.ended_at = time.time()
        run.result = result
        run.error = None if error is None else error.to_wire()
        run.child = None
        run.status = status
        self._save(run, now=True)

    def _save(self, run: Run, *, now: bool = False) -> None:
        if now or time.monotonic() - run.saved_at > SAVE_SECONDS:
            run.saved_at = time.monotonic()
            self._store.save(run.tenant, run.run_id, run.to_disk())


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    """A run from disk; one that was running when its daemon died has failed since."""
    shown = {key: value for key, value in found.items() if key not in {"request", "tenant"}}
    if shown.get("status") == "running":
        shown["status"] = "failed"
        shown["error"] = WorkerDied("the run's daemon ended; `resume` goes on").to_wire()
    return shown
