"""Which candidate got which score on which example, whatever optimizer tried it.

DSPy's optimizers keep their candidates to themselves until they are done, and a run may have to
end before. So every score is noted here with the state of the program that earned it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from bridge.engine.runs.student import Learned, learned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.engine.runs.student import Student

__all__ = ["Candidate", "Scoreboard"]


class Candidate:
    """One state of the program, and its scores by dataset and index."""

    __slots__ = ("learned", "scores")

    def __init__(self, state: Learned) -> None:
        self.learned = state
        self.scores: dict[str, dict[int, float]] = {}

    def on(self, dataset: str) -> Mapping[int, float]:
        """The scores on one dataset by the example's index."""
        return self.scores.get(dataset, {})

    def mean(self, dataset: str) -> float:
        """The mean over the examples of a dataset that it was tried on; 0.0 without any."""
        return _mean(self.on(dataset))


class Scoreboard:
    """All candidates of a run. Any thread.

    Attributes:
        dataset: the one that says which candidate is best.
        trials: ``[{trial, score, examples}]``, one for each evaluation of a candidate.
    """

    def __init__(self) -> None:
        self.dataset = "trainset"
        self.trials: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._candidates: dict[str, Candidate] = {}
        self._known: dict[Any, tuple[Any, Candidate]] = {}
        self._baseline: dict[int, float] = {}

    def start_from(self, dataset: str, scores: Mapping[int, float]) -> None:
        """Note what the program scored on the deciding dataset before the run."""
        with self._lock:
            self.dataset = dataset
            self._baseline = dict(scores)

    def add(self, student: Student, dataset: str, index: int, score: float) -> Candidate | None:
        """Note one score and give its candidate.

        None for a student that was sampled instead of run as it is, and for an example that the
        candidate was tried on before.
        """
        predictors = [home.predictor for home in student.homes()]
        if any(p.lm is not None and "rollout_id" in p.lm.kwargs for p in predictors):
            return None
        # By identity first: reading a state costs as much as a call.
        key = tuple((p.signature.instructions, tuple(map(id, p.demos))) for p in predictors)
        with self._lock:
            known = self._known.get(key)
        if known is None:
            state = learned(student.program)
            # The demonstrations are held, so that no other gets their identities.
            held = [list(predictor.demos) for predictor in predictors]
            with self._lock:
                candidate = self._candidates.setdefault(state.digest, Candidate(state))
                known = self._known.setdefault(key, (held, candidate))
        candidate = known[1]
        with self._lock:
            scores = candidate.scores.setdefault(dataset, {})
            is_new = index not in scores
            scores[index] = score
        return candidate if is_new else None

    def mean(self, state: Learned, dataset: str, examples: int) -> float | None:
        """A state's mean on a dataset of so many examples; None if it was not tried on all."""
        with self._lock:
            candidate = self._candidates.get(state.digest)
            scores = {} if candidate is None else candidate.on(dataset)
            return _mean(scores) if examples and len(scores) == examples else None

    def best_score(self) -> float | None:
        """The best mean so far, the baseline's included; None before anything was scored."""
        best = self.best()
        if best is not None:
            return best.mean(self.dataset)
        return _mean(self._baseline) if self._baseline else None

    def best(self) -> Candidate | None:
        """The candidate that is furthest above the baseline on the same examples.

        None when no candidate is above it. Only candidates count that were tried on at least half
        as many examples as the one that was tried on most: a lucky minibatch is no proof.
        """
        with self._lock:
            scores = {c: dict(c.on(self.dataset)) for c in self._candidates.values()}
            baseline = self._baseline
        most = max(map(len, scores.values()), default=0)
        best, furthest = None, (0.0, 0)
        for candidate, tried in scores.items():
            if not tried or 2 * len(tried) < most:
                continue
            lead = (_lead(tried, baseline), len(tried))
            if lead[0] > 0 and lead > furthest:
                best, furthest = candidate, lead
        return best


def _lead(scores: Mapping[int, float], baseline: Mapping[int, float]) -> float:
    """How much better the scores are than the baseline's on the examples that both have."""
    shared = scores.keys() & baseline.keys()
    return sum(scores[index] - baseline[index] for index in shared) / max(1, len(shared))


def _mean(scores: Mapping[int, float]) -> float:
    return sum(scores.values()) / len(scores) if scores else 0.0
