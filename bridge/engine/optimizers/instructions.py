"""COPRO and SIMBA: an LM writes instructions, or rules to go with them."""

from __future__ import annotations

from copy import copy
from typing import Any

from dspy.teleprompt import COPRO, SIMBA
from pydantic_core import PydanticUndefined

from bridge.engine.optimizers.job import Job, Prepared, to_size

__all__ = ["copro", "simba"]

ORIGIN = "_original_assignment"
"""Where a field of pydantic's holds the one that it was made from."""


def copro(job: Job, settings: dict[str, Any], compiled: dict[str, Any]) -> Prepared:
    """COPRO; its trials are candidates of one predictor, evaluated one after another."""
    job.lm()
    optimizer = FlatCOPRO(metric=job.metric, **settings)
    threads = {"num_threads": job.max_concurrency, "display_progress": False}
    predictors = len(job.student.homes())
    # With several predictors every old candidate is evaluated again at each depth.
    rounds = range(1, optimizer.depth + 1)
    per_predictor = sum(rounds) if predictors > 1 else len(rounds)
    return Prepared(
        optimizer,
        {**compiled, "eval_kwargs": threads},
        trials=optimizer.breadth * per_predictor * predictors,
        tries_candidates=True,
    )


class FlatCOPRO(COPRO):  # type: ignore[misc]
    """DSPy's COPRO on signatures that do not grow.

    Each candidate's signature is made from the one before it, and pydantic keeps in a field the one
    that it was made from. After some twenty candidates DSPy's own copying of a signature is too
    deep for Python.
    """

    def _set_signature(self, predictor: Any, updated_signature: Any) -> None:
        for name, field in updated_signature.model_fields.items():
            if hasattr(field, ORIGIN):
                flat = copy(field)
                setattr(flat, ORIGIN, PydanticUndefined)
                updated_signature.model_fields[name] = flat
        super()._set_signature(predictor, updated_signature)


def simba(job: Job, settings: dict[str, Any], compiled: dict[str, Any]) -> Prepared:
    """SIMBA; a minibatch is at most the trainset."""
    job.lm()
    to_size(job, settings, "bsize", 32, len(job.trainset))
    compiled.setdefault("seed", job.seed)
    optimizer = SIMBA(metric=job.metric, **settings)
    # A step makes one candidate more than it samples programs, if it finds that many.
    return Prepared(
        optimizer,
        compiled,
        trials=optimizer.max_steps * (optimizer.num_candidates + 1),
        tries_candidates=True,
        candidate_size=optimizer.bsize,
    )
