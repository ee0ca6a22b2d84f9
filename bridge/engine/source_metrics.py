"""Metrics and rewards in source, as the engine calls them: whatever they fail with is theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.engine.scoring import read_score
from bridge.sandbox.functions import call_function
from bridge.scope import current_scope
from protocol.errors import MetricError, ProgramError, SandboxLimit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.specs.source_functions import CodeSpec

    Fields = Mapping[str, Any]

__all__ = ["SourceMetric", "SourceReward"]


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
        passed = float(score.value >= self._spec.threshold)
        return {"score": passed, "feedback": score.feedback}


class SourceReward:
    """A reward in source. Any thread."""

    def __init__(self, spec: CodeSpec) -> None:
        self._spec = spec

    def __call__(self, inputs: Fields, prediction: Fields) -> float:
        """The score; raise MetricError if the source gives none."""
        said = _called(self._spec, {"inputs": inputs, "prediction": prediction})
        return read_score(said).value

    def source(self) -> str:
        """What an LM that missed the reward is shown."""
        return self._spec.function.text


def _called(spec: CodeSpec, values: Mapping[str, Fields]) -> Any:
    try:
        return call_function(spec.function, values, current_scope.get().check)
    except (ProgramError, SandboxLimit) as error:
        raise MetricError(error.message, **error.details) from None
