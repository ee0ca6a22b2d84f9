"""An engine in this process with the demo's two-hop program, for tests of runs."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

from dspy import lm15

from bridge.demo.twohop import MODULES, PROGRAM, load
from bridge.engine.runtime import Engine
from bridge.ledger import Ledger
from bridge.metrics import parse_metric
from bridge.registry import Registry
from bridge.scope import Scope, current_scope
from bridge.settings import Limits
from bridge.specs.lms import parse_lm
from bridge.specs.modules import parse_module
from bridge.specs.optimizers import find_row, split_config
from bridge.specs.programs import parse_program
from bridge.specs.runs import EvaluatePlan, OptimizePlan

if TYPE_CHECKING:
    from collections.abc import Callable

QUESTIONS = load("questions")
TRAIN = [row for row in QUESTIONS if row["split"] == "train"]
HELDOUT = [row for row in QUESTIONS if row["split"] == "heldout"]
EMBEDDED: dict[str, Any] = {"model": "embedded/lexical", "max_retries": 0}

CONFIGS: dict[str, dict[str, Any]] = {
    "LabeledFewShot": {},
    "BootstrapFewShot": {},
    "BootstrapFewShotWithRandomSearch": {"num_candidate_programs": 2},
    "BootstrapFewShotWithOptuna": {"num_candidate_programs": 3},
    "COPRO": {"breadth": 2, "depth": 1},
    "MIPROv2": {"num_candidates": 3, "num_trials": 3},
    "SIMBA": {"bsize": 4, "max_steps": 1, "num_candidates": 2},
    "GEPA": {"max_metric_calls": 20},
    "KNNFewShot": {"k": 2},
    "InferRules": {"num_candidates": 2},
    "BetterTogether": {
        "optimizers": {
            "p": "BootstrapFewShot",
            "c": {"optimizer": "COPRO", "config": {"breadth": 2, "depth": 1}},
        },
        "strategy": "p -> c",
    },
}
"""Every optimizer that can run here, made small."""

SEARCH = {
    "id": "search",
    "type": "retrieve",
    "config": {"passages": [row["text"] for row in load("corpus")], "k": 3},
}


class Workshop:
    """One engine and its registry. `lm` is the default LM's map."""

    def __init__(self, lm: dict[str, Any] | None = None) -> None:
        self.registry = Registry()
        for module in [*MODULES, SEARCH]:
            self.registry.put_module(parse_module(module))
        self.registry.put_program(parse_program(PROGRAM))
        spec: Any = parse_lm(lm or EMBEDDED, "lm")
        self.registry.configure(None, spec, {})
        self.engine = Engine(Ledger(rows=500, text=2**21), Limits())
        self.scope = Scope(lms=self.registry.lms(None))
        self.events: list[dict[str, Any]] = []

    def module(self, spec: dict[str, Any]) -> Any:
        self.registry.put_module(parse_module(spec))
        return self.registry.runnable("module", spec["id"])

    def program(self, spec: dict[str, Any]) -> Any:
        self.registry.put_program(parse_program(spec))
        return self.registry.runnable("program", spec["id"])

    @property
    def two_hop(self) -> Any:
        return self.registry.runnable("program", "two_hop")

    def optimize(self, name: str, config: dict[str, Any] | None = None, **more: Any) -> Any:
        """The result of a run; what a plan has and `more` does not is the demo's."""
        row = find_row(name)
        given = CONFIGS.get(row.name, {}) if config is None else config
        constructor, compiled = split_config(row, given)
        metric = more.pop("metric", "exact_match")
        plan = OptimizePlan(
            run_id=more.pop("run_id", "run"),
            row=more.pop("row", row),
            constructor=constructor,
            compile=compiled,
            runnable=more.pop("runnable", None) or self.two_hop,
            trainset=tuple(more.pop("trainset", TRAIN[:8])),
            valset=tuple(more.pop("valset", ())),
            metric=parse_metric(metric) if isinstance(metric, str | dict) else metric,
            **more,
        )
        return self._under_scope(lambda: self.engine.optimize(plan, self.events.append))

    def evaluate(self, rows: Any, **more: Any) -> Any:
        metric = more.pop("metric", "exact_match")
        plan = EvaluatePlan(
            run_id=more.pop("run_id", "run"),
            runnable=more.pop("runnable", None) or self.two_hop,
            devset=tuple(rows),
            metric=parse_metric(metric) if isinstance(metric, str | dict) else metric,
            **more,
        )
        return self._under_scope(lambda: self.engine.evaluate(plan, self.events.append))

    def call(self, runnable: Any, inputs: dict[str, Any]) -> Any:
        return self._under_scope(lambda: self.engine.call(runnable, inputs, {}))

    def _under_scope(self, work: Callable[[], Any]) -> Any:
        self.scope = Scope(lms=self.registry.lms(None))
        token = current_scope.set(self.scope)
        try:
            return work()
        finally:
            current_scope.reset(token)

    def behind(self, wrap: Callable[[Any], Any]) -> Any:
        """Put what `wrap` makes of the default LM's engine in that engine's place."""
        meter = self.engine._opened(self.registry.lms(None).default).engine
        meter._backend = dataclasses.replace(
            meter._backend, engine=(wrapped := wrap(meter._backend.engine))
        )
        return wrapped


class Watched:
    """An LM engine that keeps the prompts, can be told to fail, and calls `at` by number."""

    def __init__(self, engine: Any, fails_after: int | None = None) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self.fails_after = fails_after
        self.calls = 0
        self.prompts: list[str] = []
        self.at: dict[int, Callable[[], None]] = {}

    def complete(self, request: Any) -> Any:
        with self._lock:
            self.calls += 1
            number = self.calls
            self.prompts.append(repr((request.system, request.messages)))
        if number in self.at:
            self.at[number]()
        if self.fails_after is not None and number > self.fails_after:
            raise lm15.ServerError("down")
        return self._engine.complete(request)


class Scorer:
    """A metric with a mind of its own, as the demo's program is scored."""

    field = "answer"
    gold = "answer"

    def __init__(self, score: Callable[[int], Any] = lambda number: 1.0) -> None:
        self._score = score
        self._lock = threading.Lock()
        self.calls = 0

    def __call__(self, example: Any, prediction: Any) -> Any:
        with self._lock:
            self.calls += 1
            number = self.calls
        return self._score(number)
