"""Metrics that an LM judges, as data: DSPy's own two, and which fields they look at."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from bridge.specs.checking import Args, checked

__all__ = ["JudgeSpec", "parse_judge"]

FieldName = Annotated[str, Field(min_length=1, max_length=64)]


class JudgeSpec(Args):
    """``{"lm": "semantic_f1" | "complete_and_grounded", …}``, a score from 0 to 1.

    The judge sees the example's `question`, its label `gold`, the prediction's `field`, and for
    complete_and_grounded the prediction's (or the example's) `context`.
    """

    lm: Literal["semantic_f1", "complete_and_grounded"]
    field: FieldName = "answer"
    gold: FieldName | None = None
    question: FieldName = "question"
    context: FieldName = "context"
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    decompositional: bool = False
    judge: Annotated[
        str | None, Field(description="a configured LM's name; the one in force when left out")
    ] = None

    @property
    def name(self) -> str:
        """The judge's name, as a metric has one."""
        return self.lm


def parse_judge(value: Any, path: str = "metric") -> JudgeSpec:
    """A metric's map with the key ``lm``; raise InvalidArgs."""
    return checked(JudgeSpec, value, path)
