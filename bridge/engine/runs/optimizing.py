"""One optimizer run from its plan to its result.

The program is scored as it is, an optimizer of DSPy's works on a copy, and what it learned is put
into the program's specs as a state; the program built from those is what is scored in the end. So
the score belongs to the state that the host gets, and to nothing else.
"""

from __future__ import annotations

import random
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import dspy
from dspy.utils.callback import BaseCallback

from bridge.engine.failures import explain
from bridge.engine.optimizers import prepare
from bridge.engine.optimizers.job import Job
from bridge.engine.programs import build
from bridge.engine.runs.evaluation import Evaluated, evaluate_rows, read_examples
from bridge.engine.runs.hush import hush
from bridge.engine.runs.portrait import portray
from bridge.engine.runs.results import result_of
from bridge.engine.runs.running import PATIENCE, Run, open_run
from bridge.engine.runs.student import Learned, Student, homes, learned, states_of, taught
from bridge.engine.scoring.judging import callable_metric
from bridge.engine.scoring.metrics import RunMetric
from bridge.scope import Stopped
from bridge.specs.optimizers import check_available
from bridge.turnstile import turnstile
from protocol.errors import AdapterParse, BridgeError, InvalidArgs, ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bridge.engine.optimizers.job import Prepared
    from bridge.engine.runs.bench import Bench
    from bridge.engine.runs.evaluation import Example
    from bridge.ensembles import Ensemble
    from bridge.registry import Runnable
    from bridge.specs.runs import OptimizePlan

__all__ = ["optimize"]

BOOTSTRAPPING = frozenset(
    {
        "BootstrapFewShot",
        "BootstrapFewShotWithRandomSearch",
        "BootstrapFewShotWithOptuna",
        "KNNFewShot",
        "InferRules",
    }
)
"""Optimizers that are for bootstrapped demonstrations: a result without one needs a word."""


def optimize(
    bench: Bench, plan: OptimizePlan, report: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """The result of one run; `report` is told of its progress from any thread.

    Raises:
        InvalidArgs: the examples or the config cannot work; no LM has been asked then.
        MissingExtra: a package is not installed.
        MetricError: the metric failed on more than `max_metric_errors` examples.
        BridgeError: the LM is out, or the program fails on every example.
        Stopped: the request was cancelled.
    """
    check_available(plan.row)
    _check_examples(plan)
    patience = max(PATIENCE, plan.constructor.get("max_errors") or 0)
    with open_run(plan, bench.lm, report, bench.running, patience=patience) as run:
        _seed(plan.seed)
        try:
            # DSPy waits for its own threads, and would keep them out.
            with turnstile.outside(), hush():
                return _Optimization(bench, plan, run).result()
        except Stopped:
            _raise_failure(run)
            raise


def _check_examples(plan: OptimizePlan) -> None:
    if plan.row.trainset and not plan.trainset:
        raise InvalidArgs.at("trainset", "is empty: there is nothing to learn from")
    if len(plan.trainset) < plan.row.minimum and not plan.valset:
        raise InvalidArgs.at(
            "trainset", f"{plan.row.name} needs at least {plan.row.minimum} examples, or a valset"
        )


def _seed(seed: int) -> None:
    """What takes no seed of its own starts from the process's."""
    random.seed(seed)
    if find_spec("numpy") is not None:
        import numpy as np  # noqa: PLC0415 - an extra

        np.random.seed(seed % 2**32)


def _raise_failure(run: Run) -> None:
    """Raise what ended the run, where that is an error and no early end."""
    if run.failure is not None:
        raise run.failure


class _Optimization:
    """The phases of one run, each with what the one before it found."""

    def __init__(self, bench: Bench, plan: OptimizePlan, run: Run) -> None:
        self._bench = bench
        self._plan = plan
        self._run = run
        self._program = self._built(plan.runnable)
        self._train_score: float | None = None
        inputs = plan.runnable.shape.inputs
        self._train = read_examples(self._program, inputs, plan.trainset, "trainset", run.scope)
        self._val = read_examples(self._program, inputs, plan.valset, "valset", run.scope)
        self._metric = RunMetric(
            callable_metric(plan.metric, bench),
            [*self._train, *self._val],
            run.fail,
            max_errors=plan.max_metric_errors,
            here=run.here,
            told=run.told,
        )
        self._metric.on_score = lambda place, score: run.scored(place.name, place.index, score)
        if plan.ensemble is None and not any(homes(self._program)):
            raise InvalidArgs.at("program", "nothing in it learns: no module of it asks an LM")

    def result(self) -> dict[str, Any]:
        """Run every phase."""
        run = self._run
        callbacks = [_Trials(run)]
        with (
            self._bench.context(run.scope),
            dspy.context(callbacks=callbacks, num_threads=self._plan.max_concurrency),
        ):
            if self._plan.ensemble is not None:
                return self._replaced(self._plan.ensemble)
            prepared = self._prepared()
            run.trials = prepared.trials
            baseline = self._scored("baseline", self._program, self._scoring)
            self._refuse_failure(baseline, allow_parse=True)
            self._start_board(prepared, baseline)
            found = None if self._over() else self._compiled(prepared)
            if found is None:
                return self._best_so_far(baseline)
            runnable = taught(self._plan.runnable, states_of(found))
            final = self._scored("scoring", self._built(runnable), self._scoring)
            if self._over() and not final.complete:
                return self._partly_scored(found, baseline, final)
            self._refuse_failure(final, allow_parse=False)
            return self._completed(found, baseline, final)

    def _replaced(self, ensemble: Ensemble) -> dict[str, Any]:
        """The result where nothing learns: other programs together instead of this one."""
        baseline = self._scored("baseline", self._program, self._scoring)
        self._refuse_failure(baseline, allow_parse=True)
        self._run.board.start_from(self._scoring_set, baseline.scores)
        if self._over():
            return self._best_so_far(baseline)
        final = self._scored("scoring", self._built(ensemble.runnable), self._scoring)
        if self._over() and not final.complete:
            return self._best_so_far(baseline)
        self._refuse_failure(final, allow_parse=False)
        return self._completed(Learned({}, 0), baseline, final)

    # Phases

    def _prepared(self) -> Prepared:
        student = portray(Student, self._plan.runnable)(self._program, self._run)
        job = Job(
            student=student,
            run=self._run,
            trainset=[example for example, _, _ in self._train],
            valset=[example for example, _, _ in self._val],
            metric=self._metric,
            seed=self._plan.seed,
            max_concurrency=self._plan.max_concurrency,
            prepare=prepare,
        )
        self._job = job
        prepared = prepare(job, self._plan.row, self._plan.constructor, self._plan.compile)
        student.own_signatures = prepared.own_signatures
        return prepared

    def _compiled(self, prepared: Prepared) -> Learned | None:
        """What the optimizer made of the program; None when the run ended before it was done."""
        run = self._run
        run.enter("optimizing")
        try:
            compiled = prepared.run(self._job)
        except Stopped:
            if not self._over():
                raise
            return None
        except Exception as error:
            self._over()
            raise self._explained(error) from error
        # Some optimizers go on after anything but a BaseException, and some threads end late.
        if self._over():
            return None
        found = learned(compiled.program)
        if not found.bootstrapped and self._plan.row.name in BOOTSTRAPPING:
            run.scope.warn(
                "no bootstrapped demonstration is in the result: the metric accepted none of the "
                "program's own runs, or the best candidate has none"
            )
        return found

    def _start_board(self, prepared: Prepared, baseline: Evaluated) -> None:
        """Let candidates be compared with the baseline on what the optimizer tries them on."""
        self._run.candidate_size = prepared.candidate_size
        if prepared.takes_valset or not self._val:
            self._run.board.start_from(self._scoring_set, baseline.scores)
        elif prepared.tries_candidates:
            on_train = self._scored("baseline", self._program, self._train)
            self._train_score = on_train.mean
            self._run.board.start_from("trainset", on_train.scores)

    def _scored(self, phase: str, program: Any, examples: Sequence[Example]) -> Evaluated:
        self._run.enter(phase)
        return evaluate_rows(
            self._run,
            program,
            examples,
            self._metric,
            max_concurrency=self._plan.max_concurrency,
        )

    def _over(self) -> bool:
        """Whether the run was ended early; raise if it was ended by an error."""
        if not self._run.scope.stopped:
            return False
        _raise_failure(self._run)
        if self._run.ended_by() is None:
            self._run.scope.check()
        return True

    def _refuse_failure(self, done: Evaluated, *, allow_parse: bool) -> None:
        """Raise the error that every example failed with: no run succeeds on nothing."""
        _raise_failure(self._run)
        if self._over():
            return
        error = done.outage()
        if error is None:
            partial = done.partial_outage()
            if partial is not None:
                self._run.scope.warn(f"{self._run.phase}: {partial}")
            return
        if allow_parse and isinstance(error, AdapterParse):
            # Demonstrations may teach the LM the form that it does not keep yet.
            self._run.scope.warn("the LM's replies did not fit the signature on any example")
            return
        raise error

    def _explained(self, error: Exception) -> BridgeError:
        found = explain(error)
        cause = self._run.program_failure
        if found is None and cause is not None:
            # DSPy says no more than that there were too many errors.
            found = explain(cause)
        if found is not None:
            return found
        text = str(error).partition("\n")[0][:500]
        return ProgramError(f"{self._plan.row.name} failed: {type(error).__name__}: {text}")

    # Results

    def _completed(self, found: Learned, baseline: Evaluated, final: Evaluated) -> dict[str, Any]:
        if final.score < baseline.score:
            self._run.scope.warn("the optimized program scores lower than it did before")
        elif found.digest == learned(self._program).digest:
            self._run.scope.warn("the optimizer found nothing better than the program as it was")
        return self._told("completed", found, final.score, baseline, final)

    def _best_so_far(self, baseline: Evaluated) -> dict[str, Any]:
        board = self._run.board
        best = board.best()
        if best is None:
            self._run.scope.warn("the run ended before it found a better program")
            self._note_coverage(len(baseline.scores), len(baseline.rows))
            return self._told("stopped", learned(self._program), baseline.mean, baseline, None)
        tried_on = self._val if board.dataset == "valset" else self._train
        self._note_coverage(len(best.on(board.dataset)), len(tried_on))
        score = best.mean(board.dataset)
        return self._told("stopped", best.learned, score, baseline, None, on=board.dataset)

    def _partly_scored(
        self, found: Learned, baseline: Evaluated, final: Evaluated
    ) -> dict[str, Any]:
        """The compiled program if it is no worse on the examples that it was still scored on."""
        shared = final.scores.keys() & baseline.scores.keys()
        lead = sum(final.scores[number] - baseline.scores[number] for number in shared)
        if not shared or lead < 0:
            return self._best_so_far(baseline)
        self._note_coverage(len(shared), len(final.rows))
        return self._told("stopped", found, final.score, baseline, final)

    def _note_coverage(self, scored: int, examples: int) -> None:
        if scored < examples:
            self._run.scope.warn(
                f"the score is of {scored} of {examples} examples: the run ended before the others"
            )

    def _told(
        self,
        status: str,
        found: Learned,
        score: float | None,
        baseline: Evaluated,
        final: Evaluated | None,
        *,
        on: str | None = None,
    ) -> dict[str, Any]:
        """The result; `score` is one on the dataset `on`, by default the one for scoring."""
        dataset = on or self._scoring_set
        board = self._run.board
        train: float | None = board.mean(found, "trainset", len(self._train))
        is_val = dataset == "valset"
        before = baseline.mean if dataset == self._scoring_set else self._train_score
        score = score if self._scoring else None
        for text in self._metric.let_pass():
            self._run.scope.warn(text)
        self._run.final_score = score
        self._run.enter("done")
        return result_of(
            self._run,
            self._plan,
            found,
            original=learned(self._program),
            status=status,
            scores={"train": train if is_val else score, "val": score if is_val else None},
            baseline_score=before if self._scoring else None,
            baseline=baseline,
            final=final,
        )

    # What they work on

    def _built(self, runnable: Runnable) -> Any:
        return build(runnable, self._bench.lms)

    @property
    def _scoring(self) -> Sequence[Example]:
        return self._val or self._train

    @property
    def _scoring_set(self) -> str:
        return "valset" if self._val else "trainset"


class _Trials(BaseCallback):  # type: ignore[misc]
    """Tells the run of every evaluation that an optimizer makes."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def on_evaluate_end(
        self,
        call_id: str,  # noqa: ARG002 - DSPy's signature
        outputs: Any | None,
        exception: BaseException | None = None,
    ) -> None:
        """Note the mean, which DSPy has rounded to a percentage."""
        if outputs is None or exception is not None or not outputs.results:
            return
        scores = [float(score) for *_, score in outputs.results]
        self._run.tried(sum(scores) / len(scores), len(scores))
