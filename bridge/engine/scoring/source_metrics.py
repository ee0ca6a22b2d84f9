"""Metrics and rewards in source, as the engine calls them: whatever they fail with is theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.engine.scoring.metrics import NoScoreError, Score, read_score
from bridge.sandbox.functions import call_function
from bridge.scope import current_scope
from protocol.errors import MetricError, ProgramError, SandboxLimit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.specs.source.functions import CodeSpec

    Fields = Mapping[str, Any]

__all__ = ["SourceMetric", "source_reward"]


class SourceMetric:
    """A metric in source: a number, a bool or ``{score, feedback?}``. Any thread."""

    def __init__(self, spec: CodeSpec) -> None:
        self._spec = spec

    def __call__(self, example: Fields, prediction: Fields) -> Any:
        """What the source says; raise MetricError if it cannot."""
        said = _called(self._spec, {"example": example, "prediction": prediction})
        if self._spec.threshold is None:
            return said
        score = read_score(said)
        return Score(float(score.value >= self._spec.threshold), score.feedback)


def source_reward(spec: CodeSpec, inputs: Fields, prediction: Fields) -> float:
    """What a reward in source says of one attempt; raise MetricError if it gives no score."""
    said = _called(spec, {"inputs": inputs, "prediction": prediction})
    try:
        score = read_score(said).value
    except NoScoreError as error:
        raise MetricError(f"the reward {error}") from error
    return score if spec.threshold is None else float(score >= spec.threshold)


def _called(spec: CodeSpec, values: Mapping[str, Fields]) -> Any:
    try:
        return call_function(spec.function, values, current_scope.get().check)
    except (ProgramError, SandboxLimit) as error:
        raise MetricError(error.message, **error.details) from None
