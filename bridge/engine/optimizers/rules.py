"""InferRules: demonstrations, then rules that an LM finds in the examples."""

from __future__ import annotations

from typing import Any

from dspy.teleprompt import InferRules

from bridge.engine.optimizers.job import Job, Prepared

__all__ = ["build"]


def build(job: Job, settings: dict[str, Any], compiled: dict[str, Any]) -> Prepared:
    """InferRules; it writes into signature classes, so every copy gets its own."""
    job.lm()
    optimizer = InferRules(metric=job.metric, **settings)
    return Prepared(
        optimizer,
        compiled,
        trials=optimizer.num_candidates,
        takes_valset=True,
        own_signatures=True,
    )
