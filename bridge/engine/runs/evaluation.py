"""A program over examples: each a row with its prediction, score, usage and time.

Law: rows come in order, a row that fails is a row with `error`, and the rest goes on. What ends the
run (its budget, a stop, a metric that fails) ends the rows that have not begun as well. Where no
row has a score there is none to tell, and the first row's error is the answer.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dspy

from bridge.engine.conversion import plain_fields
from bridge.engine.failures import explain
from bridge.engine.parallel import in_parallel
from bridge.engine.programs import build
from bridge.engine.runs.running import open_run
from bridge.engine.scoring.judging import callable_metric
from bridge.engine.scoring.metrics import Place, RunMetric
from bridge.scope import Stopped, Usage, current_tally
from protocol.errors import BridgeError, Cancelled, Internal, InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bridge.engine.programs import HostModule, HostProgram
    from bridge.engine.runs.bench import Bench
    from bridge.engine.runs.running import Run
    from bridge.scope import Scope
    from bridge.specs.runs import EvaluatePlan

__all__ = ["Evaluated", "Example", "evaluate", "evaluate_rows", "read_examples"]

Example = tuple[dspy.Example, "Mapping[str, Any]", Place]
"""An example as DSPy has it, the host's own row, and where it stood."""

MOST_FAULTS = 20
"""Ill-formed or failed examples that one error lists."""

MOST_SAID = 500
"""Characters of a failed example's message in such a list."""


@dataclass(slots=True)
class Evaluated:
    """Rows and their totals. `failures` are the errors by row, `scores` of rows that had none."""

    rows: list[dict[str, Any]]
    scores: dict[int, float] = field(default_factory=dict)
    failures: dict[int, BridgeError] = field(default_factory=dict)

    @property
    def mean(self) -> float | None:
        """The mean over the rows that ended, where a failed one counts 0; None when none has."""
        ended = len(self.scores) + len(self.failures)
        return sum(self.scores.values()) / ended if ended else None

    @property
    def score(self) -> float:
        """The same, and 0.0 when none has: for who compares."""
        return self.mean or 0.0

    @property
    def complete(self) -> bool:
        """Whether every row ended."""
        return len(self.scores) + len(self.failures) == len(self.rows)

    def outage(self) -> BridgeError | None:
        """The first failure, where rows failed and none has a score: its details tell of all."""
        if self.scores or not self.failures:
            return None
        number, error = min(self.failures.items())
        error.details.setdefault("index", number)
        error.details["failed"] = len(self.failures)
        error.details["errors"] = [
            {"index": index, "code": other.code, "message": other.message[:MOST_SAID]}
            for index, other in sorted(self.failures.items())[:MOST_FAULTS]
        ]
        return error

    def partial_outage(self) -> str | None:
        """How many rows failed and count 0 while others have a score; None when none did."""
        if not self.failures or not self.scores:
            return None
        number, error = min(self.failures.items())
        return (
            f"{len(self.failures)} of {len(self.rows)} examples failed and count 0, the first "
            f"(index {number}) with {error.to_text()[:200]}"
        )

    def to_wire(self) -> dict[str, Any]:
        """``{score, total, correct, errors, rows}``."""
        return {
            "score": self.score,
            "total": len(self.rows),
            "correct": sum(score >= 1.0 for score in self.scores.values()),
            "errors": sum(row["error"] is not None for row in self.rows),
            "rows": self.rows,
        }


def read_examples(
    program: HostModule | HostProgram,
    inputs: Mapping[str, bool],
    rows: Sequence[Mapping[str, Any]],
    name: str,
    scope: Scope,
) -> list[Example]:
    """The host's rows as DSPy's examples: the program's inputs read and marked, the rest labels.

    Args:
        program: reads the inputs.
        inputs: the program's input fields; nothing else of a row ever reaches the program.
        rows: plain maps.
        name: what the rows are called in the request: trainset, valset or devset.
        scope: is warned of what had to be changed.

    Raises:
        InvalidArgs: inputs that are missing or ill-typed, each with its path.
    """
    from bridge.engine.signatures import without_markers  # noqa: PLC0415

    examples: list[Example] = []
    faults: list[dict[str, Any]] = []
    for index, row in enumerate(rows):
        given = {key: row[key] for key in inputs if key in row}
        try:
            read = program.read(given, f"{name}[{index}]", scope)
        except InvalidArgs as error:
            faults += error.details["faults"]
            if len(faults) >= MOST_FAULTS:
                break
            continue
        labels = {key: without_markers(item) for key, item in row.items() if key not in inputs}
        example = dspy.Example({**read, **labels}).with_inputs(*inputs)
        examples.append((example, row, Place(name, index)))
    if faults:
        raise InvalidArgs.of(faults[:MOST_FAULTS])
    return examples


def evaluate_rows(
    run: Run,
    program: HostModule | HostProgram,
    examples: Sequence[Example],
    metric: RunMetric,
    *,
    max_concurrency: int,
    max_errors: int | None = None,
) -> Evaluated:
    """Every example through the program, at most `max_concurrency` at once.

    A stop of the run is not raised: the rows that had not ended carry its error. Once more than
    `max_errors` rows have failed, those that have not begun get the error `cancelled`.
    """
    result = Evaluated([{} for _ in examples])
    task = _Rows(run, program, metric, max_errors, result)
    rows = list(enumerate(examples))
    in_parallel(lambda row: task.one(*row), rows, max_concurrency, "evaluate")
    return result


class _Rows:
    """The rows of one evaluation, from many threads."""

    def __init__(
        self,
        run: Run,
        program: HostModule | HostProgram,
        metric: RunMetric,
        max_errors: int | None,
        result: Evaluated,
    ) -> None:
        self._run = run
        self._program = program
        self._metric = metric
        self._max_errors = max_errors
        self._result = result
        self._lock = threading.Lock()

    def one(self, number: int, example: Example) -> None:
        """Fill one row."""
        row: dict[str, Any] = {
            "index": number,
            "example": dict(example[1]),
            "prediction": None,
            "score": 0.0,
            "error": None,
            "usage": {},
            "latency_ms": 0.0,
        }
        self._result.rows[number] = row
        failed = len(self._result.failures)
        if self._max_errors is not None and failed > self._max_errors:
            row["error"] = Cancelled(f"not begun: {failed} rows failed").to_wire()
            return
        tally: dict[str, Usage] = {}
        current_tally.set(tally)
        try:
            with self._run.here():
                self._fill(row, example, number)
        except Stopped as stopped:
            row["error"] = stopped.error.to_wire()
        except Exception as error:  # noqa: BLE001 - a row's failure is the row's answer
            found = explain(error) or Internal(f"{type(error).__name__} in this row")
            row["error"] = found.to_wire()
            with self._lock:
                self._result.failures[number] = found
        row["usage"] = {name: used.to_wire() for name, used in tally.items()}
        self._run.tick()

    def _fill(self, row: dict[str, Any], example: Example, number: int) -> None:
        begun = time.monotonic()
        try:
            # A trace of its own: DSPy's modules look back at the last entries of it.
            with dspy.context(trace=[]):
                inputs = dict(example[0].inputs().items())
                prediction = plain_fields(self._program.run(inputs, str(example[2])))
        finally:
            row["latency_ms"] = round(1000 * (time.monotonic() - begun), 3)
        row["prediction"] = prediction
        row["score"] = self._metric.score(example[1], prediction, example[2]).value
        with self._lock:
            self._result.scores[number] = row["score"]


def evaluate(
    bench: Bench, plan: EvaluatePlan, report: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """``{run_id, status, ended_by, score, total, correct, errors, rows, stats, warnings}``.

    Raises:
        InvalidArgs: there is no example, or one does not fit the program's inputs.
        MetricError: the metric failed on more than `max_metric_errors` examples.
        BridgeError: no example has a score: the LM is out, the program fails on each, or the run
            ended before.
        Stopped: the request was cancelled.
    """
    if not plan.devset:
        raise InvalidArgs.at("devset", "is empty: there is nothing to score")
    with open_run(plan, bench.lm, report, bench.running, patience=0) as run:
        program = build(plan.runnable, bench.lms)
        shape = plan.runnable.shape
        examples = read_examples(program, shape.inputs, plan.devset, "devset", run.scope)
        metric = RunMetric(
            callable_metric(plan.metric, bench),
            examples,
            run.fail,
            max_errors=plan.max_metric_errors,
            here=run.here,
        )
        run.enter("scoring")
        with bench.context(run.scope):
            done = evaluate_rows(
                run,
                program,
                examples,
                metric,
                max_concurrency=plan.max_concurrency,
                max_errors=plan.max_errors,
            )
        ended_by = _ended_by(run, done)
        status = "completed" if ended_by is None else "stopped"
        partial_outage = done.partial_outage()
        if partial_outage is not None:
            run.scope.warn(partial_outage)
        run.final_score = done.score
        run.enter("done", status=status, score=done.score)
        return {
            "run_id": plan.run_id,
            "status": status,
            "ended_by": ended_by,
            **done.to_wire(),
            "stats": run.stats(),
            "warnings": [*metric.let_pass(), *run.scope.warnings],
        }


def _ended_by(run: Run, done: Evaluated) -> str | None:
    """What ended the rows before the last; raise where no row has a score."""
    if run.failure is not None:
        raise run.failure
    if run.scope.stopped and run.ended_by() is None and not done.complete:
        run.scope.check()
    outage = done.outage()
    if outage is not None:
        raise outage
    if not done.scores and run.scope.error is not None:
        raise run.scope.error
    if done.complete:
        return None
    return run.ended_by() or "max_errors"
