"""The runs of this daemon: what each is doing, and the ones that others left on disk.

Law: what a run has found outlives every mishap on its way out. A disk that is full costs the
checkpoint, not the run.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bridge.log import Log
from bridge.runs.child import Child, Orders
from protocol.errors import (
    BridgeError,
    Busy,
    Cancelled,
    InvalidArgs,
    NotFound,
    Unsupported,
    WorkerDied,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bridge.runs.store import Hold, Mask, Part, RunStore
    from bridge.scope import Scope

__all__ = ["Run", "Runs"]

MOST_RUNNING = 8
"""Runs at once: each is a process with a DSPy of its own, 75 MB and more."""

MOST_ENDED = 32
"""Runs that have ended and are still in memory; the older ones are on disk."""

MOST_TOLD = 1_000
"""Progress reports kept for a run's history: one a trial, and one a phase."""

PROGRESS = (
    *("run_id", "phase", "trial", "trials", "score", "best_score"),
    *("lm_calls", "tokens", "cost", "elapsed_ms"),
)
"""What a progress event tells."""

SAVE_SECONDS = 1.0
"""Between two writes of a run's progress to disk."""


@dataclass(slots=True, eq=False)
class Run:
    """One run as `run_get` shows it. Written by its own thread only.

    `request` is what was asked, without keys; `mask` takes secrets out of all that goes to disk.
    """

    run_id: str
    tenant: str | None
    optimizer: str
    program_id: str
    request: dict[str, Any]
    mask: Mask
    status: str = "running"
    started_at: float = field(default_factory=time.time)
    ended_at: float | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    child: Child | None = None
    stopping: bool = False
    hold: Hold | None = None
    saved_at: float = 0.0

    def to_wire(self) -> dict[str, Any]:
        """The run's row."""
        best = self.progress.get("best_score")
        score = best if self.result is None else self.result.get("score")
        known = [number for number in (best, score) if number is not None]
        child = self.child
        return {
            "run_id": self.run_id,
            "status": self.status,
            "optimizer": self.optimizer,
            "program_id": self.program_id,
            "score": score,
            "best_score": max(known, default=None),
            "trials": self.progress.get("trial", 0),
            "progress": self.progress,
            "usage": self.usage,
            "pid": None if child is None else child.pid,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "error": self.error,
        }

    def last_word(self) -> dict[str, Any]:
        """The progress event that says how the run has ended."""
        row = self.to_wire()
        elapsed_ms = round(1000 * ((self.ended_at or time.time()) - self.started_at))
        # Its process may have ended before it told anything.
        known = {"trial": 0, "lm_calls": 0, "tokens": 0, "elapsed_ms": elapsed_ms, **self.progress}
        told = {name: known.get(name) for name in PROGRESS}
        ended = {name: row[name] for name in ("run_id", "status", "score", "best_score", "error")}
        return {**told, **ended, "phase": "done"}


class Runs:
    """Starts runs, waits for them, tells of them. Any thread."""

    def __init__(self, store: RunStore, log_level: str) -> None:
        self._store = store
        self.log = Log(log_level)
        self._lock = threading.Lock()
        self._runs: dict[tuple[str | None, str], Run] = {}
        self._evaluations: dict[tuple[str | None, str], Callable[[], bool]] = {}

    def record(self, tenant: str | None, run_id: str) -> Path:
        """The file of a run's LM calls."""
        return self._store.record(tenant, run_id)

    def begin(self, run: Run, *, fresh: bool) -> None:
        """Take a run in; `fresh` forgets what an earlier one of its id has left.

        Raises:
            InvalidArgs: its id is running already, here or in another daemon.
            Busy: too many runs are in progress.
            Unsupported: the state directory cannot be written.
        """
        key = (run.tenant, run.run_id)
        with self._lock:
            self._refuse_running(key)
            running = [other for other in self._runs.values() if other.status == "running"]
            if len(running) >= MOST_RUNNING:
                raise Busy(f"{MOST_RUNNING} runs are in progress; repeat when one has ended")
            replaced = self._runs.pop(key, None)
            self._runs[key] = run
        try:
            self._take_folder(run, fresh=fresh)
        except BaseException:
            with self._lock:
                self._runs.pop(key, None)
                if replaced is not None:
                    self._runs[key] = replaced
            if run.hold is not None:
                run.hold.release()
            raise

    @contextmanager
    def evaluation(
        self, tenant: str | None, run_id: str, stop: Callable[[], bool]
    ) -> Iterator[None]:
        """While inside, `stop` of this class finds an evaluation under this id.

        Args:
            tenant: whose it is.
            run_id: its name.
            stop: ends it early; returns whether it is in progress.

        Raises:
            InvalidArgs: the id is running already.
        """
        key = (tenant, run_id)
        with self._lock:
            self._refuse_running(key)
            self._evaluations[key] = stop
        try:
            yield
        finally:
            with self._lock:
                del self._evaluations[key]

    def _refuse_running(self, key: tuple[str | None, str]) -> None:
        run = self._runs.get(key)
        if key in self._evaluations or (run is not None and run.status == "running"):
            raise InvalidArgs.at("run_id", f"{key[1]!r} is running")

    def _take_folder(self, run: Run, *, fresh: bool) -> None:
        try:
            run.hold = self._store.hold(run.tenant, run.run_id)
            if run.hold is None:
                raise InvalidArgs.at("run_id", f"{run.run_id!r} is running in another daemon")
            if fresh:
                self._store.clear(run.tenant, run.run_id)
            self._store.save(run.tenant, run.run_id, "request", run.request, run.mask)
            self._save_row(run)
            self._store.prune()
        except OSError as error:
            raise Unsupported(
                f"runs are kept in {self._store.directory}, which cannot be written "
                f"({error.strerror or error}); start the daemon with another --state-dir"
            ) from error

    def carry_out(
        self,
        run: Run,
        orders: Orders,
        scope: Scope,
        on_progress: Callable[[dict[str, Any]], None],
        on_result: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> dict[str, Any]:
        """Run `run` in a child and give its result; cancelling the scope kills the child.

        Args:
            run: has begun.
            orders: what the child is told.
            scope: whose stop ends the child.
            on_progress: hears of it.
            on_result: what it makes of the child's result is the run's, which ends then.

        Raises:
            WorkerDied: the child's process ended.
            BridgeError: the run failed.
            Stopped: the scope was stopped.
        """
        try:
            result = on_result(self._in_child(run, orders, scope, on_progress))
        except BaseException as error:
            failure = error if isinstance(error, BridgeError) else None
            if scope.stopped:
                failure = scope.error
            if failure is not None:
                # So a host that left the id to us can resume.
                failure.details["run_id"] = run.run_id
            status = "cancelled" if isinstance(failure, Cancelled) else "failed"
            self._end(run, status, None, failure)
            scope.check()
            raise
        self._end(run, result["status"], result, None)
        return result

    def _in_child(
        self,
        run: Run,
        orders: Orders,
        scope: Scope,
        on_progress: Callable[[dict[str, Any]], None],
    ) -> dict[str, Any]:
        child = Child(self.log)
        with self._lock:
            run.child = child
            stopping = run.stopping
        if stopping:
            child.stop()
        try:
            with scope.abortable(child.kill):
                return child.run(orders, lambda data: self._progress(run, data, on_progress))
        finally:
            child.close()

    def stop(self, tenant: str | None, run_id: str) -> None:
        """Ask a run or an evaluation to end with what it has; raise NotFound."""
        with self._lock:
            stop_evaluation = self._evaluations.get((tenant, run_id))
            run = self._runs.get((tenant, run_id))
            is_running = run is not None and run.status == "running"
            if run is not None and is_running:
                run.stopping = True
            child = None if run is None else run.child
        if child is not None:
            child.stop()
        if not is_running and not (stop_evaluation is not None and stop_evaluation()):
            raise NotFound(f"no run {run_id!r} is in progress", kind="run", id=run_id)

    def get(self, tenant: str | None, run_id: str) -> dict[str, Any]:
        """One run with its result, from memory or disk; raise NotFound."""
        with self._lock:
            run = self._runs.get((tenant, run_id))
        if run is not None:
            return {**run.to_wire(), "result": run.result}
        row = self._store.load(tenant, run_id, "run")
        if row is None:
            raise _no_run(run_id)
        return {**self._shown(row), "result": self._store.load(tenant, run_id, "result")}

    def stored(self, tenant: str | None, run_id: str) -> dict[str, Any]:
        """What a run was asked to do; raise NotFound."""
        found = self._store.load(tenant, run_id, "request")
        if found is None:
            raise _no_run(run_id)
        return found

    def list(self, tenant: str | None) -> list[dict[str, Any]]:
        """The tenant's runs, the newest first, without results."""
        with self._lock:
            mine = [run for (owner, _), run in self._runs.items() if owner == tenant]
        rows = {run.run_id: run.to_wire() for run in mine}
        for found in self._store.all(tenant):
            if found["run_id"] not in rows:
                rows[found["run_id"]] = self._shown(found)
        return sorted(rows.values(), key=lambda row: row["started_at"], reverse=True)

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        """A run from disk; one that was running when its daemon died has failed since."""
        shown = {key: value for key, value in row.items() if key != "tenant"}
        if shown["status"] == "running" and not self._store.is_held(row["tenant"], row["run_id"]):
            gone = WorkerDied("the run's daemon ended; `resume` goes on", run_id=row["run_id"])
            shown.update(status="failed", error=gone.to_wire(), pid=None)
        return shown

    def _progress(
        self, run: Run, data: dict[str, Any], on_progress: Callable[[dict[str, Any]], None]
    ) -> None:
        last = run.progress
        run.usage = data.pop("usage", run.usage)
        run.progress = data
        is_news = any(data.get(name) != last.get(name) for name in ("phase", "trial", "score"))
        if is_news and len(run.history) < MOST_TOLD:
            run.history.append(data)
        if time.monotonic() - run.saved_at > SAVE_SECONDS:
            self._save_row(run, loud=False)
        on_progress(data)

    def _end(
        self, run: Run, status: str, result: dict[str, Any] | None, error: BridgeError | None
    ) -> None:
        run.ended_at = time.time()
        run.result = None if result is None else {**result, "history": run.history}
        run.error = None if error is None else error.to_wire()
        if result is not None:
            run.usage = result["stats"]["usage"]
        with self._lock:
            run.child = None
            run.status = status
        if run.result is not None:
            self._save(run, "result", run.result)
        self._save_row(run, loud=False)
        if run.hold is not None:
            run.hold.release()
        with self._lock:
            ended = [key for key, other in self._runs.items() if other.status != "running"]
            for key in ended[:-MOST_ENDED]:
                del self._runs[key]

    def _save_row(self, run: Run, *, loud: bool = True) -> None:
        run.saved_at = time.monotonic()
        self._save(run, "run", {**run.to_wire(), "tenant": run.tenant}, loud=loud)

    def _save(self, run: Run, part: Part, content: dict[str, Any], *, loud: bool = False) -> None:
        try:
            self._store.save(run.tenant, run.run_id, part, content, run.mask)
        except OSError as error:
            if loud:
                raise
            self.log.warning("run_not_saved", run_id=run.run_id, part=part, error=str(error))


def _no_run(run_id: str) -> NotFound:
    return NotFound(f"no run has the id {run_id!r}", kind="run", id=run_id)
