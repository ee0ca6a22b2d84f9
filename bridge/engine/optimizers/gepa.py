"""GEPA: an LM reflects on feedback and rewrites instructions."""

from __future__ import annotations

from typing import Any

from dspy.teleprompt import GEPA

from bridge.engine.optimizers.job import Job, Prepared
from protocol.errors import InvalidArgs

__all__ = ["build"]

BUDGETS = ("auto", "max_full_evals", "max_metric_calls")


def build(job: Job, settings: dict[str, Any], compiled: dict[str, Any]) -> Prepared:
    """GEPA with exactly one of its three budgets; the run's own LM reflects if none is named."""
    given = [key for key in BUDGETS if key in settings]
    if len(given) > 1:
        raise InvalidArgs.at(f"config.{given[1]}", f"cannot stand beside {given[0]!r}")
    if not given:
        settings["auto"] = "light"
    settings.setdefault("seed", job.seed)
    settings.setdefault("reflection_lm", job.lm())
    optimizer = GEPA(metric=job.metric, track_stats=False, **settings)
    return Prepared(optimizer, compiled, takes_valset=True)
