"""What is around a run while it runs: its limits, its outage guard, its progress, its scoreboard.

Law: a run ends in one of two ways. Its budget, its deadline and `stop` end it with the best so far;
a cancel and a failure (an outage, a metric that fails) end it with an error. Either stops the run's
own scope, so that no LM is asked afterwards and no optimizer can swallow it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from bridge.engine.failures import explain
from bridge.engine.runs.record import LMRecord
from bridge.engine.runs.scoreboard import Scoreboard
from bridge.engine.runs.student import told
from bridge.scope import Scope, Stopped, Usage, current_scope
from bridge.turnstile import turnstile
from protocol.errors import (
    BridgeError,
    BudgetExceeded,
    Cancelled,
    DeadlineExceeded,
    LMContextWindow,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bridge.engine.runs.student import Student
    from bridge.scope import Budget

__all__ = ["Run", "RunStopped", "open_run"]

TRACES = 50
"""LM calls that a result shows, the last ones: a run may make tens of thousands."""

SECONDS_BETWEEN_REPORTS = 0.25
"""What is told sooner waits for the others: whatever the daemon reads interrupts a call of its."""

PATIENCE = 5
"""LM calls that fail in a row, with no answer in between, before the LM is taken for out."""


class RunStopped(Cancelled):
    """`run_stop`: the run ends early and keeps its best."""


class Run:
    """One run. Any thread may call its methods.

    Args:
        run_id: the host's name for it.
        scope: the run's own.
        lm: gives the LM of a reference, None meaning the run's.
        report: is told of progress.
        patience: failed LM calls in a row that end the run; 0 for as many as there are.
    """

    def __init__(
        self,
        run_id: str,
        scope: Scope,
        lm: Callable[[Any], Any],
        report: Callable[[dict[str, Any]], None],
        *,
        patience: int = PATIENCE,
    ) -> None:
        self.run_id = run_id
        self.scope = scope
        self.board = Scoreboard()
        self.phase = "starting"
        self.trial = 0
        self.trials: int | None = None
        self.candidate_size: int | None = None
        self.final_score: float | None = None
        self.program_failure: BaseException | None = None
        self._lm = lm
        self._report = report
        self._patience = patience
        self._failed_calls = 0
        self._failure: BridgeError | None = None
        self._reported = 0.0
        self._unreported = False
        self._news: list[dict[str, Any]] = []
        self._late: threading.Timer | None = None
        self._over = False
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._mine = threading.local()
        scope.on_lm = self._heard

    # How it ends

    def stop(self) -> None:
        """End the run with the best so far."""
        self.scope.stop(RunStopped("the run was asked to stop"))

    def fail(self, error: BridgeError) -> None:
        """End the run with `error`, through everything that DSPy would swallow."""
        with self._lock:
            self._failure = self._failure or error
        self.scope.stop(error)
        raise Stopped(error)

    @property
    def failure(self) -> BridgeError | None:
        """What `fail` was called with, or the LM's error when it is out."""
        return self._failure

    def ended_by(self) -> str | None:
        """``run_stop``, ``budget`` or ``deadline``; None for an end that is an error, or none."""
        error = self.scope.error
        if self._failure is not None or error is None:
            return None
        for kind, name in (
            (RunStopped, "run_stop"),
            (BudgetExceeded, "budget"),
            (DeadlineExceeded, "deadline"),
        ):
            if isinstance(error, kind):
                return name
        return None

    def _heard(self, error: BaseException | None) -> None:
        """Count LM calls that fail in a row; DSPy would go on and call every score a zero."""
        self.tick()
        if error is None:
            self._failed_calls = 0
            return
        if not self._patience or isinstance(error, Stopped):
            return
        found = explain(error)
        if found is None or not found.code.startswith("lm_") or isinstance(found, LMContextWindow):
            # A prompt that is too long is that candidate's fault.
            return
        with self._lock:
            self._failed_calls += 1
            if self._failed_calls < self._patience or self._failure is not None:
                return
            found.details["failed_calls"] = self._failed_calls
            self._failure = found
        self.scope.stop(found)

    # What is called in it

    def lm(self, reference: Any = None) -> Any:
        """The LM that a reference means, None meaning the run's own."""
        return self._lm(reference)

    @contextmanager
    def here(self) -> Iterator[None]:
        """On this thread, whoever started it, what is called is called for the run."""
        token = current_scope.set(self.scope)
        try:
            with turnstile.inside():
                self.scope.check()
                yield
        finally:
            current_scope.reset(token)

    def call(self, student: Student, inputs: dict[str, Any]) -> Any:
        """One call of a student; the metric that follows on this thread scores it."""
        self._mine.student = student
        try:
            with self.here():
                return student.program(**inputs)
        except Exception as error:
            self.program_failure = error
            raise

    def told(self, trace: Any) -> list[dict[str, Any]] | None:
        """A trace of this thread's last call in plain data; None when there was none."""
        student = getattr(self._mine, "student", None)
        return None if student is None else told(student.program, trace)

    def scored(self, dataset: str, index: int | None, score: float) -> None:
        """The metric's word on this thread's last call."""
        student = getattr(self._mine, "student", None)
        if student is None or index is None:
            return
        candidate = self.board.add(student, dataset, index, score)
        size = self.candidate_size
        if candidate is not None and size is not None and len(candidate.on(dataset)) == size:
            self.tried(candidate.mean(dataset), size)

    # What it tells

    def enter(self, phase: str, **more: Any) -> None:
        """Say that a phase begins: baseline, optimizing, scoring, or done, the end."""
        self.phase = phase
        self.tick(now=True, **more)

    def tried(self, score: float, size: int) -> None:
        """Say that a candidate was evaluated on `size` examples."""
        with self._lock:
            self.trial += 1
            self.board.trials.append({"trial": self.trial, "score": score, "examples": size})
        self.tick(now=True, score=score)

    def tick(self, *, now: bool = False, score: float | None = None, **more: Any) -> None:
        """Report progress, each piece of news (`now`) and otherwise what was spent.

        All is told `SECONDS_BETWEEN_REPORTS` later at the latest, also where nothing follows for
        long: a process that is killed takes no more than that with it.
        """
        with self._lock:
            if self._over:
                return
            if now:
                self._news.append({**self._progress(time.monotonic(), score), **more})
            # What was spent before a piece of news is in it.
            self._unreported = not now
            left = SECONDS_BETWEEN_REPORTS - (time.monotonic() - self._reported)
            if left > 0:
                self._tick_late(left)
                return
        self._tell()

    def _tell(self) -> None:
        # One after the other: whoever reads them counts on growing numbers.
        with self._telling:
            with self._lock:
                self._reported = at = time.monotonic()
                reports, self._news = self._news, []
                if self._unreported:
                    reports.append(self._progress(at, None))
                self._unreported = False
            for report in reports:
                self._report(report)

    def _progress(self, at: float, score: float | None) -> dict[str, Any]:
        spent = self.spent()
        return {
            "run_id": self.run_id,
            "phase": self.phase,
            "trial": self.trial,
            "trials": self.trials,
            "score": score,
            "best_score": self._best_score(),
            "lm_calls": spent.calls,
            "tokens": spent.input_tokens + spent.output_tokens,
            "cost": spent.cost,
            "elapsed_ms": round(1000 * (at - self.scope.started)),
            "usage": self.usage(),
        }

    def _tick_late(self, seconds: float) -> None:
        if self._late is None:
            timer = threading.Timer(seconds, self._tell_late)
            timer.daemon = True
            # Without a thread to spare, the next call tells it.
            with suppress(RuntimeError):
                timer.start()
                self._late = timer

    def _tell_late(self) -> None:
        with self._lock:
            self._late = None
        self._tell()

    def _best_score(self) -> float | None:
        return self.board.best_score() if self.final_score is None else self.final_score

    def close(self) -> None:
        """Tell what is left to tell, and nothing more: some of DSPy's threads end late."""
        self._tell()
        with self._lock:
            self._over = True
            late, self._late = self._late, None
        if late is not None:
            late.cancel()

    def spent(self) -> Usage:
        """All LM calls of the run together."""
        total = Usage()
        for usage in list(self.scope.usage.values()):
            total.add(usage)
        return total

    def stats(self) -> dict[str, Any]:
        """``{trials, lm_calls, cached_calls, usage, cost, seconds}``."""
        spent = self.spent()
        return {
            "trials": self.trial,
            "lm_calls": spent.calls,
            "cached_calls": spent.cached_calls,
            "usage": self.usage(),
            "cost": spent.cost,
            "seconds": round(time.monotonic() - self.scope.started, 3),
        }

    def usage(self) -> dict[str, dict[str, Any]]:
        """What was spent, by the LM's name."""
        return {name: usage.to_wire() for name, usage in list(self.scope.usage.items())}

    def traces(self) -> list[dict[str, Any]]:
        """The last LM calls, as `history` has them."""
        rows = [row.to_wire() for row in list(self.scope.rows)]
        for row in rows:
            row["metadata"] = {"reasoning": (row["outputs"] or {}).get("reasoning")}
        return rows


@contextmanager
def open_run(
    plan: Any,
    lm: Callable[[Scope, Any], Any],
    report: Callable[[dict[str, Any]], None],
    running: dict[tuple[str | None, str], Run],
    *,
    patience: int = PATIENCE,
) -> Iterator[Run]:
    """A run under the current scope, which may stop it; what it spends counts there, too.

    Args:
        plan: an `OptimizePlan` or `EvaluatePlan`.
        lm: gives the LM of a reference under a scope.
        report: is told of progress.
        running: the runs that may be stopped, by their tenant and id.
        patience: as `Run` has it.
    """
    outer = current_scope.get()
    record = None if plan.record is None else LMRecord(plan.record, plan.mask)
    scope = _scope_within(outer, plan, record)
    run = Run(plan.run_id, scope, lambda ref: lm(scope, ref), report, patience=patience)
    key = (outer.tenant, plan.run_id)
    running[key] = run
    token = current_scope.set(scope)
    try:
        with outer.abortable(lambda: scope.stop(outer.error or Cancelled("the run was cancelled"))):
            yield run
    finally:
        current_scope.reset(token)
        run.close()
        running.pop(key, None)
        if record is not None:
            record.close()
        for model, usage in scope.usage.items():
            outer.count(model, usage)


def _scope_within(outer: Scope, plan: Any, record: LMRecord | None) -> Scope:
    budget: Budget = plan.budget or outer.budget
    ends = [
        outer.deadline,
        None if plan.seconds is None else outer.started + plan.seconds,
        None if budget.seconds is None else outer.started + budget.seconds,
    ]
    options: Mapping[str, Any] = getattr(plan, "options", None) or outer.options
    return Scope(
        request_id=outer.request_id,
        tenant=outer.tenant,
        program_id=outer.program_id or str(plan.runnable.spec.id),
        lm=outer.lm,
        lms=outer.lms,
        adapter=outer.adapter,
        options=options,
        traceparent=outer.traceparent,
        host=outer.host,
        keep_rows=True,
        record=record,
        deadline=min((end for end in ends if end is not None), default=None),
        budget=budget,
        started=outer.started,
        rows=deque(maxlen=TRACES),  # type: ignore[arg-type]
    )
