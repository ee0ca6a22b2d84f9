"""COPRO and SIMBA: an LM writes instructions, or rules to go with them."""

from __future__ import annotations

from typing import Any

from dspy.teleprompt import COPRO, SIMBA

from bridge.engine.optimizers.job import Job, Prepared, to_size

__all__ = ["copro", "simba"]


def copro(job: Job, settings: dict[str, Any], compiled: dict[str, Any]) -> Prepared:
    """COPRO; its trials are candidates of one predictor, evaluated one after another."""
    job.lm()
    optimizer = COPRO(metric=job.metric, **settings)
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
