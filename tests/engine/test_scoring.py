"""A metric in every shape that DSPy calls it in."""

from __future__ import annotations

import inspect
import math
from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine.scoring.metrics import NoScoreError, Place, RunMetric, read_score
from bridge.metrics import parse_metric
from bridge.scope import Stopped
from protocol.errors import HostError, LMTransport, MetricError

ROWS = [{"question": "1+1?", "answer": "2"}, {"question": "2+2?", "answer": "4"}]
EXAMPLES = [dspy.Example(row).with_inputs("question") for row in ROWS]


class EndError(Exception):
    """The run was ended."""


def metric(function: Any, **more: Any) -> tuple[RunMetric, list[Any]]:
    ended: list[Any] = []

    def fail(error: Any) -> None:
        ended.append(error)
        raise Stopped(error)

    entries = [
        (example, row, Place("trainset", number))
        for number, (example, row) in enumerate(zip(EXAMPLES, ROWS, strict=True))
    ]
    return RunMetric(function, entries, fail, **more), ended


def right(answer: str = "2") -> dspy.Prediction:
    return dspy.Prediction(answer=answer)


EXACT = parse_metric("exact_match")


@pytest.mark.parametrize("arguments", [(), (None,), ([],), ([], None, None)])
def test_every_shape_gives_a_float(arguments: tuple[Any, ...]) -> None:
    score = metric(EXACT)[0](EXAMPLES[0], right(), *arguments)
    assert type(score) is float
    assert score == 1.0


def test_gepa_takes_it_and_gets_words_with_the_score() -> None:
    run_metric, _ = metric(EXACT)
    inspect.signature(run_metric).bind(None, None, None, None, None)
    said = run_metric(EXAMPLES[0], right("3"), [], "answer", [])
    assert said.score == 0.0
    assert "'2'" in said.feedback or "2" in said.feedback
    assert "3" in said.feedback


def test_a_metric_has_its_own_words() -> None:
    run_metric, _ = metric(lambda e, p: {"score": 0.5, "feedback": "shorter"})
    assert run_metric(EXAMPLES[0], right(), None, "answer", None).feedback == "shorter"
    assert run_metric(EXAMPLES[0], right()) == 0.5


def test_the_metric_sees_the_hosts_own_row_and_plain_fields() -> None:
    seen: list[Any] = []
    run_metric, _ = metric(lambda e, p: seen.append((e, p)) or 1)
    run_metric(EXAMPLES[1], dspy.Prediction(answer="x", code=dspy.Code(code="1")))
    assert seen == [(ROWS[1], {"answer": "x", "code": "1"})]
    assert seen[0][0] is ROWS[1]


def test_a_program_that_gave_nothing_scores_zero_and_the_metric_is_not_asked() -> None:
    run_metric, ended = metric(lambda e, p: 1 / 0)
    assert run_metric(EXAMPLES[0], None) == 0.0
    assert not ended


def test_a_copy_of_an_example_is_found_by_its_content() -> None:
    run_metric, ended = metric(lambda e, p: None)
    with pytest.raises(Stopped):
        run_metric(EXAMPLES[1].copy(), right())
    assert ended[0].details == {"index": 1, "dataset": "trainset"}


@pytest.mark.parametrize(
    "said",
    [None, "1", float("nan"), float("inf"), {}, {"score": None}, {"score": "x"}, [1.0], 1j],
)
def test_what_is_no_score_ends_the_run_with_the_examples_index(said: Any) -> None:
    run_metric, ended = metric(lambda e, p: said)
    with pytest.raises(Stopped):
        run_metric(EXAMPLES[1], right())
    assert isinstance(ended[0], MetricError)
    assert ended[0].details["index"] == 1


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), HostError("gone"), MetricError("none")])
def test_a_metric_that_raises_ends_the_run(error: Exception) -> None:
    def raising(example: Any, prediction: Any) -> Any:
        raise error

    run_metric, ended = metric(raising)
    with pytest.raises(Stopped):
        run_metric(EXAMPLES[0], right())
    assert isinstance(ended[0], MetricError)
    assert ended[0].details["index"] == 0


def test_a_metric_of_the_wrong_arity_ends_the_run() -> None:
    run_metric, ended = metric(lambda example: 1.0)
    with pytest.raises(Stopped):
        run_metric(EXAMPLES[0], right())
    assert isinstance(ended[0], MetricError)


def test_an_lm_that_judges_and_is_out_is_no_fault_of_the_metric() -> None:
    def judging(example: Any, prediction: Any) -> Any:
        raise LMTransport("down")

    run_metric, ended = metric(judging)
    with pytest.raises(LMTransport):
        run_metric(EXAMPLES[0], right())
    assert not ended


def test_failures_within_the_bound_count_zero_and_are_told() -> None:
    run_metric, ended = metric(lambda e, p: "none", max_errors=2)
    assert [run_metric(example, right()) for example in EXAMPLES] == [0.0, 0.0]
    assert len(run_metric.let_pass()) == 2
    assert "trainset[1]" in run_metric.let_pass()[1]
    with pytest.raises(Stopped):
        run_metric(EXAMPLES[0], right())
    assert len(ended) == 1


def test_a_teachers_score_is_none_of_a_candidates() -> None:
    run_metric, _ = metric(EXACT)
    scored: list[Any] = []
    run_metric.on_score = lambda place, score: scored.append((str(place), score))
    run_metric(EXAMPLES[0], right(), [])
    run_metric(EXAMPLES[0], right())
    assert scored == [("trainset[0]", 1.0)]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.fixed_dictionaries({"score": inner}),
        max_leaves=3,
    )
)
def test_a_score_is_a_finite_float_or_none_at_all(said: Any) -> None:
    try:
        value = read_score(said).value
    except (NoScoreError, OverflowError):
        return
    assert type(value) is float
    assert math.isfinite(value)
