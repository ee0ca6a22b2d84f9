"""Metrics that ask somebody: DSPy's own judges, with a host's fields, and the host itself.

A judge is asked under a trace of its own, so that what it says is never taken for a demonstration.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import dspy
from dspy.evaluate import CompleteAndGrounded, SemanticF1

from bridge.engine.conversion import plain
from bridge.engine.failures import explain
from bridge.engine.scoring.metrics import Score, current_asked, read_score
from bridge.engine.scoring.source_metrics import SourceMetric
from bridge.judges import JudgeSpec
from bridge.scope import current_scope
from bridge.scorers import HostMetric
from bridge.specs.source.functions import CodeSpec
from protocol.errors import AdapterParse, MetricError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.engine.runs.bench import Bench

    Fields = Mapping[str, Any]

__all__ = ["callable_metric"]


def callable_metric(metric: Any, bench: Bench) -> Callable[[Fields, Fields], Any]:
    """What scores a prediction for an example, both plain maps: the metric, or who is asked."""
    if isinstance(metric, JudgeSpec):
        return _Judge(metric, bench)
    if isinstance(metric, CodeSpec):
        return SourceMetric(metric)
    return _Host(metric) if isinstance(metric, HostMetric) else metric


class _Host:
    """A metric of the host's. Any thread."""

    def __init__(self, spec: HostMetric) -> None:
        self._spec = spec

    def __call__(self, example: Fields, prediction: Fields) -> Score:
        """What the host says.

        Raises:
            HostError: the host failed or was too late.
            NoScoreError: it answered no score.
        """
        scope, asked = current_scope.get(), current_asked.get()
        args = {
            "example": dict(example),
            "prediction": dict(prediction),
            "trace": asked.trace,
            "program_id": scope.program_id,
            **({} if asked.module is None else {"module": asked.module}),
            **({} if asked.place.index is None else {"index": asked.place.index}),
        }
        score = read_score(scope.ask_host("metric", self._spec.host, args))
        if self._spec.threshold is None:
            return score
        return Score(float(score.value >= self._spec.threshold), score.feedback)


class _Judge:
    """One judge. Any thread."""

    def __init__(self, spec: JudgeSpec, bench: Bench) -> None:
        self._spec = spec
        self._bench = bench
        self._module: dspy.Module = (
            SemanticF1(decompositional=spec.decompositional)
            if spec.lm == "semantic_f1"
            else CompleteAndGrounded()
        )

    def __call__(self, example: Fields, prediction: Fields) -> float:
        """From 0 to 1; 0 or 1 with a threshold.

        Raises:
            MetricError: the example lacks a field, or the judge's reply has no score.
            BridgeError: the judge's LM failed.
        """
        spec = self._spec
        said = prediction.get(spec.field)
        if said is None:
            return 0.0
        asked = dspy.Example(
            question=_text(_label(example, spec.question)),
            response=_text(_label(example, spec.gold or spec.field)),
        )
        context = prediction.get(spec.context, example.get(spec.context, ""))
        answer = dspy.Prediction(response=_text(said), context=_text(context))
        lm = self._bench.lms.named(spec.judge)
        try:
            with dspy.context(trace=[], lm=lm):
                score = float(self._module(asked, answer).score)
        except Exception as error:
            found = explain(error)
            if found is None or isinstance(found, AdapterParse):
                raise MetricError(f"the judge gave no score: {str(error)[:200]}") from error
            raise found from error
        score = min(max(score, 0.0), 1.0)
        return score if spec.threshold is None else float(score >= spec.threshold)


def _label(example: Fields, name: str) -> Any:
    if name not in example:
        raise MetricError(f"the example has no field {name!r}, which the judge needs", field=name)
    return example[name]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
