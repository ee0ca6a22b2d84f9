"""`evaluate` over the port: rows in order, scores that are numbers, failures that are rows."""

from __future__ import annotations

import pytest

from bridge.client import RequestFailed
from tests.daemon.asking import faults, refused
from tests.daemon.optimizing import (
    HELDOUT,
    LEXICAL,
    PATIENCE,
    local,
    open_daemon,
    progress,
    two_hop,
)
from tests.daemon.raw_daemon import RawDaemon, written
from tests.lm_server import answer_text

QA = {"id": "qa", "type": "predict", "signature": "question -> answer"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with open_daemon(tmp_path_factory.mktemp("state")) as port:
        port.call("create_module", QA)
        port.call("create_program", two_hop())
        yield port


def asks(*questions, **labels):
    return [{"question": question, **labels} for question in questions]


def evaluate(port, devset, server=None, model=None, **more):
    """One evaluation of `qa`, at a model of the server or at the default LM."""
    args = {"module_id": "qa", "devset": devset, "metric": "exact_match"}
    envelope = {name: more.pop(name) for name in ("budget", "deadline_ms") if name in more}
    if server is not None:
        envelope["lm"] = local(server, model)
    return port.call("evaluate", {**args, **more}, timeout=PATIENCE, **envelope)


def test_rows_come_in_order_with_all_that_the_host_stores(daemon):
    args = {"program_id": "two_hop", "devset": HELDOUT[:6], "metric": "f1_score"}
    result = daemon.call("evaluate", args)
    rows = result["rows"]
    assert [row["index"] for row in rows] == list(range(6))
    assert [row["example"] for row in rows] == HELDOUT[:6]
    for row in rows:
        assert row.keys() == {
            *("index", "example", "prediction", "score", "error", "usage", "latency_ms"),
        }
        assert row["prediction"].keys() == {"answer", "confidence", "context"}
        assert type(row["score"]) is float
        assert row["usage"]["embedded/lexical"]["calls"] == 3
        assert row["latency_ms"] > 0
        assert row["error"] is None
    assert result["score"] == pytest.approx(sum(row["score"] for row in rows) / 6)
    assert 0 < result["score"] < 1
    assert (result["total"], result["errors"]) == (6, 0)
    assert result["correct"] == sum(row["score"] >= 1.0 for row in rows)


def test_order_does_not_depend_on_who_is_answered_first(daemon, lm_server):
    # The first attempts are slowed by their retries.
    model = "unordered+rate-limit-20-then-ok+retry-after-100"
    rows = asks(*(f"question {number}" for number in range(40)))
    rows = [{**row, "answer": answer_text(model, row["question"])} for row in rows]
    lm = {**local(lm_server, model), "max_retries": 5}
    args = {"module_id": "qa", "devset": rows, "metric": "exact_match", "max_concurrency": 32}
    result = daemon.call("evaluate", args, lm=lm, timeout=PATIENCE)
    assert [row["prediction"]["answer"] for row in result["rows"]] == [r["answer"] for r in rows]
    assert (result["score"], result["correct"]) == (1.0, 40)


def test_a_failing_row_has_its_error_and_the_rest_goes_on(daemon, lm_server):
    model = "fails-twice+fail-500-2-then-ok"
    rows = asks("one", "two", "three", "four")
    rows = [{**row, "answer": answer_text(model, row["question"])} for row in rows]
    result = evaluate(daemon, rows, lm_server, model, max_concurrency=1)
    assert [row["error"] and row["error"]["code"] for row in result["rows"]] == [
        *("lm_transport", "lm_transport", None, None),
    ]
    assert [row["score"] for row in result["rows"]] == [0.0, 0.0, 1.0, 1.0]
    assert [row["prediction"] is None for row in result["rows"]] == [True, True, False, False]
    assert (result["total"], result["errors"], result["correct"]) == (4, 2, 2)
    assert result["score"] == 0.5


def test_every_row_may_fail_and_each_says_why(daemon, lm_server):
    result = evaluate(daemon, asks(*"abcdefgh", answer="x"), lm_server, "dead+auth")
    assert result["errors"] == 8
    assert {row["error"]["code"] for row in result["rows"]} == {"lm_auth"}
    assert result["score"] == 0.0


def test_no_more_rows_are_begun_once_too_many_have_failed(daemon, lm_server):
    model = "hopeless+auth"
    given = asks(*"abcdefgh", answer="x")
    result = evaluate(daemon, given, lm_server, model, max_concurrency=1, max_errors=2)
    codes = [row["error"]["code"] for row in result["rows"]]
    assert codes == ["lm_auth"] * 3 + ["cancelled"] * 5
    assert sum(r.model == model for r in lm_server.requests) == 3
    assert (result["status"], result["ended_by"]) == ("stopped", "max_errors")


def test_a_score_is_a_number_even_where_the_metric_says_yes_or_no(daemon):
    rows = [{"question": "What is the capital of France?", "answer": "no such thing"}]
    metric = {"name": "contains", "field": "answer", "threshold": 0.5}
    result = evaluate(daemon, rows, metric=metric)
    for score in (result["score"], result["rows"][0]["score"]):
        assert type(score) is float
        assert score == 0.0
    assert result["correct"] == 0


def test_a_dataset_stands_for_its_examples(daemon):
    daemon.call("put_dataset", {"id": "some", "examples": HELDOUT[:3]})
    args = {"program_id": "two_hop", "metric": "f1_score"}
    by_id = daemon.call("evaluate", {**args, "devset": "some"})
    inline = daemon.call("evaluate", {**args, "devset": HELDOUT[:3]})
    assert [row["score"] for row in by_id["rows"]] == [row["score"] for row in inline["rows"]]
    assert [row["example"] for row in by_id["rows"]] == HELDOUT[:3]


def test_a_whole_program_may_be_given(daemon):
    args = {"program": two_hop("whole:"), "devset": HELDOUT[:1], "metric": "f1_score"}
    assert daemon.call("evaluate", args)["total"] == 1
    assert daemon.call("get", {"kind": "program", "id": "whole:two_hop"})["id"] == "whole:two_hop"


def test_progress_comes_as_events(daemon):
    result = evaluate(daemon, asks(*"abcd", answer="x"))
    events = progress(daemon, result["run_id"])
    assert events
    assert [event["phase"] for event in events][-1] == "done"
    assert {event["phase"] for event in events} == {"scoring", "done"}


def test_the_last_event_counts_every_call(daemon):
    result = evaluate(daemon, asks(*"abcd", answer="x"))
    events = progress(daemon, result["run_id"])
    assert events[-1]["lm_calls"] == result["stats"]["lm_calls"] == 4


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"devset": []}, "devset"),
        ({"devset": [{"answer": "Paris"}]}, "devset[0].question"),
        ({"devset": [*asks("a", answer="x"), {"question": 7}]}, "devset[1].question"),
        ({"metric": "custom"}, "metric"),
        ({"metric": "exact"}, "metric"),
        ({"metric": {"name": "f1_score", "field": "nowhere"}}, "metric.field"),
        ({"module_id": None}, "program"),
        ({"metric": "passage_match"}, "metric.field"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_errors": -1}, "max_errors"),
        ({"trainset": []}, "trainset"),
    ],
)
def test_a_mistake_is_named_with_its_place(daemon, more, path):
    args = {"module_id": "qa", "devset": asks("a", answer="x"), "metric": "exact_match", **more}
    assert path in faults(daemon, "evaluate", args)


def test_a_metric_that_fails_ends_it_with_the_examples_index(daemon):
    rows = [*asks("a", "b", answer="x"), {"question": "without a label"}]
    args = {"module_id": "qa", "devset": rows, "metric": "exact_match"}
    error = refused(daemon, "evaluate", args)
    assert error["code"] == "metric_error"
    assert error["details"]["index"] == 2
    result = daemon.call("evaluate", {**args, "max_metric_errors": 1})
    assert result["total"] == 3
    assert any("devset[2]" in text for text in result["warnings"])


def test_labels_never_reach_the_program(daemon, lm_server):
    evaluate(daemon, asks("a", answer="the label"), lm_server, "unlabelled")
    (received,) = [r for r in lm_server.requests if r.model == "unlabelled"]
    assert "the label" not in str(received.body)


# Ends


def test_a_budget_ends_it_with_the_rows_that_it_has(daemon, lm_server):
    model = "poor"
    rows = asks(*(str(number) for number in range(20)), answer="x")
    # One at a time: whoever finds the budget used up ends the calls in flight as well.
    result = evaluate(daemon, rows, lm_server, model, max_concurrency=1, budget={"lm_calls": 6})
    assert (result["status"], result["ended_by"]) == ("stopped", "budget")
    assert sum(r.model == model for r in lm_server.requests) == 6
    codes = [row["error"] and row["error"]["code"] for row in result["rows"]]
    assert codes.count(None) == 6
    assert codes.count("budget_exceeded") == 14


def test_a_cancelled_evaluation_stops_asking(daemon, lm_server):
    model = "given-up+slow-200"
    args = {"module_id": "qa", "devset": asks(*map(str, range(100)), answer="x")}
    args |= {"metric": "exact_match", "max_concurrency": 4}
    future = daemon.send("evaluate", args, lm=local(lm_server, model))
    lm_server.wait_for(lambda: lm_server.in_flight(model) == 4, PATIENCE)
    assert daemon.call("cancel", {"request": future.request_id})["cancelled"]
    with pytest.raises(RequestFailed) as caught:
        future.result(PATIENCE)
    assert caught.value.code == "cancelled"
    lm_server.wait_for(lambda: lm_server.in_flight(model) == 0, PATIENCE)
    assert sum(r.model == model for r in lm_server.requests) <= 8


def test_a_deadline_ends_it(daemon, lm_server):
    rows = asks(*map(str, range(100)), answer="x")
    with pytest.raises(RequestFailed) as caught:
        evaluate(daemon, rows, lm_server, "late+slow-200", max_concurrency=2, deadline_ms=500)
    assert caught.value.code == "deadline_exceeded"


def test_other_calls_are_answered_meanwhile(daemon, lm_server):
    args = {"module_id": "qa", "devset": asks(*map(str, range(64)), answer="x")}
    args |= {"metric": "exact_match", "max_concurrency": 64}
    future = daemon.send("evaluate", args, lm=local(lm_server, "busy+slow-1000"))
    assert daemon.call("ping", {"a": 1}) == {"a": 1}
    assert daemon.call("forward", {"module_id": "qa", "inputs": {"question": "Why?"}})["answer"]
    assert not future.done()
    assert future.result(PATIENCE)["total"] == 64


def test_version_1_has_no_event_and_no_meta(tmp_path):
    args = {"module_id": "qa", "devset": asks("a", answer="x"), "metric": "exact_match"}
    with RawDaemon("--state-dir", str(tmp_path)) as raw:
        requests = [("configure", {"lm": LEXICAL}), ("create_module", QA), ("evaluate", args)]
        for number, (command, given) in enumerate(requests):
            raw.write(written({"id": number, "command": command, "args": given}))
        raw.end_input()
        replies = raw.remaining(PATIENCE)
    assert [reply["id"] for reply in replies] == [0, 1, 2]
    assert "_meta" not in replies[2]["result"]
    assert replies[2]["result"]["rows"][0]["error"] is None
