"""A program over examples, row by row."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from bridge.engine.programs import LMs, build
from bridge.engine.runs.evaluation import MOST_FAULTS, read_examples
from bridge.scope import Budget, Scope, Stopped
from protocol.errors import BudgetExceeded, Cancelled, InvalidArgs, LMTransport, MetricError
from tests.engine.workshop import HELDOUT, Scorer, Watched, Workshop

QA = {"id": "qa", "type": "predict", "signature": "question -> answer"}


@pytest.fixture(scope="module")
def shop() -> Workshop:
    return Workshop()


def rows(count: int) -> list[dict[str, Any]]:
    return [{"question": f"Who is number {n}?", "answer": f"{n}"} for n in range(count)]


def test_a_row_has_example_prediction_score_usage_and_time(shop: Workshop) -> None:
    result = shop.evaluate(HELDOUT[:3])
    assert (result["status"], result["ended_by"]) == ("completed", None)
    assert result["total"] == 3
    assert result["errors"] == 0
    row = result["rows"][1]
    assert row["index"] == 1
    assert row["example"] == HELDOUT[1]
    assert set(row["prediction"]) == {"answer", "confidence", "context"}
    assert type(row["score"]) is float
    assert row["error"] is None
    assert row["usage"]["embedded/lexical"]["calls"] == 3
    assert row["latency_ms"] > 0


def test_totals_are_of_the_rows(shop: Workshop) -> None:
    scores = [1.0, 0.25, 1.0, 0.0]
    result = shop.evaluate(
        rows(4),
        runnable=shop.module(QA),
        metric=lambda example, prediction: scores[int(example["answer"])],
    )
    assert [row["score"] for row in result["rows"]] == scores
    assert result["score"] == pytest.approx(0.5625)
    assert result["correct"] == 2


def test_rows_come_in_order_whatever_ends_first(shop: Workshop) -> None:
    gate = threading.Barrier(4)

    def waiting(example: Any, prediction: Any) -> float:
        gate.wait(10)
        return float(example["answer"])

    result = shop.evaluate(rows(16), runnable=shop.module(QA), metric=waiting, max_concurrency=4)
    assert [row["index"] for row in result["rows"]] == list(range(16))
    assert [row["score"] for row in result["rows"]] == list(range(16))


def test_a_failing_row_is_a_row_with_an_error_and_the_rest_goes_on() -> None:
    shop = Workshop()
    lm = shop.behind(Watched)

    def fail() -> None:
        raise RuntimeError("broken")

    lm.at[2] = fail
    result = shop.evaluate(rows(4), runnable=shop.module(QA), metric=Scorer(), max_concurrency=1)
    assert [row["error"] is None for row in result["rows"]] == [True, False, True, True]
    failed = result["rows"][1]
    assert (failed["score"], failed["prediction"]) == (0.0, None)
    assert failed["error"]["code"] == "lm_error"
    assert (result["score"], result["correct"], result["errors"]) == (0.75, 3, 1)


def test_an_lm_that_is_out_on_every_row_is_an_error_and_no_score() -> None:
    shop = Workshop()
    lm = shop.behind(lambda engine: Watched(engine, fails_after=0))
    with pytest.raises(LMTransport) as caught:
        shop.evaluate(rows(30), runnable=shop.module(QA), metric=Scorer())
    assert lm.calls == 30
    details = caught.value.details
    assert (details["index"], details["failed"]) == (0, 30)
    assert [failed["index"] for failed in details["errors"]] == list(range(MOST_FAULTS))
    assert {failed["code"] for failed in details["errors"]} == {"lm_transport"}


def test_some_rows_that_fail_are_told_in_a_warning() -> None:
    shop = Workshop()
    shop.behind(lambda engine: Watched(engine, fails_after=3))
    result = shop.evaluate(rows(4), runnable=shop.module(QA), metric=Scorer(), max_concurrency=1)
    [warning] = result["warnings"]
    assert "1 of 4" in warning
    assert "index 3" in warning
    assert "lm_transport" in warning


def test_an_end_before_any_row_has_a_score_is_an_error() -> None:
    shop = Workshop()
    with pytest.raises(BudgetExceeded):
        shop.evaluate(rows(3), runnable=shop.module(QA), budget=Budget(lm_calls=0))


def test_after_too_many_failures_the_rest_is_not_begun() -> None:
    shop = Workshop()
    lm = shop.behind(lambda engine: Watched(engine, fails_after=1))
    result = shop.evaluate(
        rows(9), runnable=shop.module(QA), metric=Scorer(), max_concurrency=1, max_errors=1
    )
    codes = [row["error"] and row["error"]["code"] for row in result["rows"]]
    assert codes == [None, "lm_transport", "lm_transport", *["cancelled"] * 6]
    assert (result["status"], result["ended_by"]) == ("stopped", "max_errors")
    assert lm.calls == 3


def test_a_metric_that_fails_ends_it_with_the_rows_index(shop: Workshop) -> None:
    with pytest.raises(MetricError) as caught:
        shop.evaluate(
            rows(8),
            runnable=shop.module(QA),
            metric=Scorer(lambda number: None if number == 4 else 1.0),
            max_concurrency=1,
        )
    assert caught.value.details == {"index": 3, "dataset": "devset"}


def test_a_label_that_is_missing_names_its_row(shop: Workshop) -> None:
    given = rows(3)
    del given[2]["answer"]
    with pytest.raises(MetricError) as caught:
        shop.evaluate(given, runnable=shop.module(QA))
    assert caught.value.details["index"] == 2


def test_a_budget_ends_it_with_the_rows_that_were_done(shop: Workshop) -> None:
    result = shop.evaluate(
        rows(9),
        runnable=shop.module(QA),
        metric=Scorer(),
        max_concurrency=1,
        budget=Budget(lm_calls=4),
    )
    assert (result["status"], result["ended_by"]) == ("stopped", "budget")
    codes = [row["error"] and row["error"]["code"] for row in result["rows"]]
    assert codes == [None] * 4 + ["budget_exceeded"] * 5
    assert (result["score"], result["correct"]) == (1.0, 4)


def test_time_that_is_up_ends_it_with_the_rows_that_were_done() -> None:
    shop = Workshop({"model": "embedded/echo", "config": {"latency_ms": 60}})
    result = shop.evaluate(
        rows(200), runnable=shop.module(QA), metric=Scorer(), max_concurrency=1, seconds=3
    )
    assert (result["status"], result["ended_by"]) == ("stopped", "deadline")
    assert 1 <= result["correct"] < 200


def test_it_can_be_stopped_by_its_id() -> None:
    shop = Workshop()
    lm = shop.behind(Watched)
    lm.at[3] = lambda: shop.engine.stop_run("mine") and None
    result = shop.evaluate(
        rows(9), runnable=shop.module(QA), metric=Scorer(), max_concurrency=1, run_id="mine"
    )
    assert (result["status"], result["ended_by"]) == ("stopped", "run_stop")
    assert shop.engine.stop_run("mine") is False


def test_a_cancelled_request_is_no_result() -> None:
    shop = Workshop()
    lm = shop.behind(Watched)
    lm.at[3] = lambda: shop.scope.stop(Cancelled("by the host"))
    with pytest.raises(Stopped) as caught:
        shop.evaluate(rows(9), runnable=shop.module(QA), metric=Scorer())
    assert caught.value.error.code == "cancelled"


def test_ill_formed_examples_are_refused_before_the_lm_is_asked() -> None:
    shop = Workshop()
    lm = shop.behind(Watched)
    runnable = shop.module({**QA, "signature": "question, count: integer -> answer"})
    given = [{"question": "a", "count": 1}, {"count": 2}, {"question": "c", "count": "many"}]
    with pytest.raises(InvalidArgs) as caught:
        shop.evaluate(given, runnable=runnable)
    paths = [fault["path"] for fault in caught.value.details["faults"]]
    assert paths == ["devset[1].question", "devset[2].count"]
    assert lm.calls == 0


def test_nothing_to_score_is_refused(shop: Workshop) -> None:
    with pytest.raises(InvalidArgs) as caught:
        shop.evaluate([])
    assert caught.value.details["faults"][0]["path"] == "devset"


def test_inputs_are_read_as_the_module_reads_them(shop: Workshop) -> None:
    runnable = shop.module({**QA, "signature": "question, day: date -> answer"})
    program = build(runnable, LMs(chosen=lambda _: None, named=lambda _: None))
    row = {"question": "<<CUSTOM-TYPE-START", "day": "2024-05-06", "answer": "<<CUSTOM-TYPE-"}
    [(example, kept, place)] = read_examples(
        program, runnable.shape.inputs, [row], "trainset", Scope()
    )
    assert example.inputs()["day"].year == 2024
    assert "<<CUSTOM-TYPE-" not in repr(example)
    assert kept is row
    assert str(place) == "trainset[0]"


def test_what_rows_use_counts_for_the_request(shop: Workshop) -> None:
    result = shop.evaluate(HELDOUT[:4])
    per_row = sum(row["usage"]["embedded/lexical"]["calls"] for row in result["rows"])
    assert per_row == result["stats"]["lm_calls"] == 12
    assert shop.scope.usage["embedded/lexical"].calls == 12


@pytest.mark.load
def test_a_thousand_rows_keep_sixty_four_in_flight() -> None:
    shop = Workshop({"model": "embedded/echo", "config": {"latency_ms": 100}})
    runnable = shop.module({**QA, "type": "chain_of_thought"})
    shop.evaluate(rows(64), runnable=runnable, max_concurrency=64)
    begun = time.perf_counter()
    result = shop.evaluate(rows(1_000), runnable=runnable, max_concurrency=64)
    assert time.perf_counter() - begun < 2.2
    assert result["errors"] == 0
