"""KNNFewShot with a state that lasts.

DSPy's KNNFewShot looks the nearest examples up at every call and bootstraps them anew, which no
state can hold. Here the k examples are chosen once: those that are among the k nearest of most
other examples. They are then bootstrapped as DSPy does.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any
from zlib import crc32

from dspy.clients import Embedder
from dspy.predict.knn import KNN
from dspy.teleprompt import BootstrapFewShot
from dspy.teleprompt.teleprompt import Teleprompter

from bridge.engine.optimizers.job import Job, Prepared

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["build"]

DIMENSIONS = 512
"""Of the word vectors: far more than the words of a question, so that few share a place."""

_WORD = re.compile(r"\w+")


def build(job: Job, settings: dict[str, Any], compiled: dict[str, Any]) -> Prepared:
    """KNNFewShot; `k` is 4 unless it is given."""
    k = min(settings.pop("k", 4), len(job.trainset))
    settings.setdefault("max_bootstrapped_demos", k)
    job.warn(
        "KNNFewShot: a state is the same for every question, so the examples nearest to most "
        "others were bootstrapped, not those nearest to each"
    )
    return Prepared(CentralExamples(k, BootstrapFewShot(metric=job.metric, **settings)), compiled)


class CentralExamples(Teleprompter):  # type: ignore[misc]
    """Bootstraps the `k` examples that most others have among their nearest."""

    def __init__(self, k: int, bootstrap: BootstrapFewShot) -> None:
        super().__init__()
        self._k = k
        self._bootstrap = bootstrap

    def compile(self, student: Any, *, trainset: Any) -> Any:
        """The student with demonstrations of the chosen examples."""
        # One more than k: the nearest of an example is itself.
        nearest = KNN(min(self._k + 1, len(trainset)), trainset, Embedder(vectors, caching=False))
        votes: Counter[int] = Counter()
        places = {id(example): place for place, example in enumerate(trainset)}
        for example in trainset:
            found = nearest(**example.inputs()) if len(trainset) > 1 else []
            votes.update(places[id(other)] for other in found if other is not example)
        chosen = [place for place, _ in votes.most_common(self._k)] or list(range(len(trainset)))
        return self._bootstrap.compile(student, trainset=[trainset[place] for place in chosen])


def vectors(texts: Sequence[str]) -> Any:
    """A row for each text: its words counted at hashed places, of length one."""
    import numpy as np  # noqa: PLC0415 - an extra

    rows = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in _WORD.findall(text.lower()):
            row[crc32(word.encode()) % DIMENSIONS] += 1.0
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
