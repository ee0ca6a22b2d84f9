"""A host's metric as DSPy's optimizers call it, in every shape that they have.

Law: a score is a finite float, and a metric that fails is never a silent zero. DSPy swallows what
a metric raises; here the failure stops the run's scope, so that nothing can.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import dspy

from bridge.engine.conversion import plain
from protocol.errors import BridgeError, HostError, MetricError, Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

__all__ = [
    "Asked",
    "NoScoreError",
    "Place",
    "RunMetric",
    "Score",
    "current_asked",
    "read_score",
]

Fields = Mapping[str, Any]

MOST_SHOWN = 500
"""Characters of a label or an answer in the feedback that we write ourselves."""


class NoScoreError(ValueError):
    """What a metric returned is no score; the text says why."""


class Score:
    """What a metric said of one prediction: a number, and words if it has any."""

    __slots__ = ("feedback", "value")

    def __init__(self, value: float, feedback: str | None = None) -> None:
        self.value = value
        self.feedback = feedback


def read_score(said: Any) -> Score:
    """What a metric returned, as a score.

    Args:
        said: a number, a bool, ``{score, feedback?}``, or a score already.

    Raises:
        NoScoreError: it is none of these, or not a finite number.
    """
    feedback = None
    if isinstance(said, Score):
        return said
    if isinstance(said, Mapping):
        if "score" not in said:
            raise NoScoreError("returned a map without a 'score'")
        feedback = said.get("feedback")
        said = said["score"]
    if not isinstance(said, Real):
        raise NoScoreError(f"returned {type(said).__name__} where a number is wanted")
    value = float(said)
    if not math.isfinite(value):
        raise NoScoreError("returned a number that is not finite")
    return Score(value, None if feedback is None else str(feedback))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a metric is asked beside the example and the prediction.

    `trace` are the calls that led to the prediction, as `{module_id, predictor, inputs, outputs}`,
    where DSPy shows them; `module` is the predictor that feedback is wanted for.
    """

    place: Place
    trace: list[dict[str, Any]] | None = None
    module: str | None = None


current_asked: ContextVar[Asked] = ContextVar("current_asked")
"""Of the metric that is being asked on this thread."""


class RunMetric:
    """One metric object for a whole run. Any thread.

    DSPy calls it with two arguments (Evaluate, SIMBA), three (bootstrapping) or five (GEPA). The
    example is found again by its identity, and what the metric sees of it is the host's own row.

    Args:
        metric: called with an example and a prediction as plain maps.
        rows: ``[(example as DSPy has it, the host's row, where it stood)]``.
        fail: called with the error that ends the run; does not return.
        max_errors: failures of the metric that are let pass as 0.0.
        here: what a metric runs in, whichever thread DSPy calls it on.
        told: a trace of DSPy's as `Asked.trace` has it.
    """

    def __init__(
        self,
        metric: Callable[[Fields, Fields], Any],
        rows: Sequence[tuple[dspy.Example, Fields, Place]],
        fail: Callable[[BridgeError], None],
        *,
        max_errors: int = 0,
        here: Callable[[], AbstractContextManager[None]] = nullcontext,
        told: Callable[[Any], list[dict[str, Any]] | None] = lambda _: None,
    ) -> None:
        self._metric = metric
        self._here = here
        self._told = told
        self._rows = {id(example): (example, row, place) for example, row, place in rows}
        self._fail = fail
        self._max_errors = max_errors
        self._lock = threading.Lock()
        self.errors: list[MetricError] = []
        self.on_score: Callable[[Place, float], None] | None = None

    def __call__(
        self,
        example: dspy.Example,
        prediction: Any,
        trace: Any = None,
        pred_name: Any = None,
        pred_trace: Any = None,  # noqa: ARG002 - the fifth of GEPA's arguments
    ) -> Any:
        """A float; for GEPA's questions about one predictor, a score with feedback."""
        row, place = self._find(example)
        fields = _fields(prediction)
        score = Score(0.0)
        if fields is not None:
            asked = Asked(place, None if trace is None else self._told(trace), pred_name)
            score = self.score(row, fields, place, asked)
        if pred_name is not None:
            return dspy.Prediction(
                score=score.value, feedback=score.feedback or self._words(row, fields, score.value)
            )
        # With a trace it is a teacher that is asked about, not a candidate.
        if trace is None and self.on_score is not None:
            self.on_score(place, score.value)
        return score.value

    def score(
        self, row: Fields, prediction: Fields, place: Place, asked: Asked | None = None
    ) -> Score:
        """The score of one prediction; end the run if the metric failed once too often."""
        token = current_asked.set(asked or Asked(place))
        try:
            with self._here():
                return read_score(self._metric(row, prediction))
        except MetricError as error:
            said = error.message
        except NoScoreError as error:
            said = f"the metric {error}"
        except HostError as error:
            said = f"the metric failed: {error.message}"
        except Unsupported as error:
            # There is no host to ask: no example could have a score.
            self._fail(error)
            raise
        except BridgeError:
            # An LM that judges is out: that is no fault of the metric.
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, it has an index
            said = f"the metric raised {type(error).__name__}: {str(error)[:MOST_SHOWN]}"
        finally:
            current_asked.reset(token)
        failure = MetricError(f"{place}: {said}", **place.to_wire())
        with self._lock:
            self.errors.append(failure)
            passed = len(self.errors) > self._max_errors
        if passed:
            self._fail(failure)
        return Score(0.0, f"the metric failed: {failure.message}")

    def let_pass(self) -> list[str]:
        """What the metric failed with on examples that count 0.0 for it."""
        return [error.message for error in self.errors]

    def _find(self, example: dspy.Example) -> tuple[Fields, Place]:
        found = self._rows.get(id(example))
        if found is None:
            # Some optimizers work on copies.
            found = next((entry for entry in self._rows.values() if entry[0] == example), None)
        if found is None:
            return dict(example.items(include_dspy=True)), Place("trainset", None)
        return found[1], found[2]

    def _words(self, row: Fields, prediction: Fields | None, value: float) -> str:
        """Feedback for an LM that rewrites instructions, from what there is to compare."""
        if prediction is None:
            return "The program failed on this example and scored 0."
        name = getattr(self._metric, "field", None)
        gold = getattr(self._metric, "gold", None)
        text = f"This scored {value:g}."
        if gold is not None and gold in row:
            text += f" Expected {gold}: {_shown(row[gold])}."
        if name is not None:
            text += f" The program gave {name}: {_shown(prediction.get(name))}."
        return text


class Place:
    """Where an example stands in the request: ``trainset[3]``."""

    __slots__ = ("index", "name")

    def __init__(self, name: str, index: int | None) -> None:
        self.name = name
        self.index = index

    def __str__(self) -> str:
        return self.name if self.index is None else f"{self.name}[{self.index}]"

    def to_wire(self) -> dict[str, Any]:
        """``{index, dataset}`` for an error's details."""
        return {"index": self.index, "dataset": self.name}


def _fields(prediction: Any) -> dict[str, Any] | None:
    """A prediction's fields in plain values; None where the program gave none."""
    if not isinstance(prediction, dspy.Prediction):
        return None
    return {name: plain(value) for name, value in prediction.items(include_dspy=True)}


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…"
