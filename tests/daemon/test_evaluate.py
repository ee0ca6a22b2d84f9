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


@pytest.mark.parametrize(
    ("model", "code"), [("dead+auth", "lm_auth"), ("odd+empty-text", "adapter_parse")]
)
def test_an_evaluation_in_which_every_row_fails_is_an_error_that_says_why(
    daemon, lm_server, model, code
):
    with pytest.raises(RequestFailed) as caught:
        evaluate(daemon, asks(*"abcdefgh", answer="x"), lm_server, model)
    assert caught.value.code == code
    details = caught.value.error["details"]
    assert (details["index"], details["failed"]) == (0, 8)
    assert [(row["index"], row["code"]) for row in details["errors"]] == [
        (index, code) for index in range(8)
    ]


def test_rows_that_fail_beside_others_are_told_in_a_warning(daemon, lm_server):
    model = "fails-once+fail-500-1-then-ok"
    result = evaluate(daemon, asks(*"abcd", answer="x"), lm_server, model, max_concurrency=1)
    assert result["status"] == "completed"
    [warning] = result["warnings"]
    assert warning.startswith("1 of 4 examples failed")


def test_no_more_rows_are_begun_once_too_many_have_failed(daemon, lm_server):
    model = "hopeless+fail-500-3-then-ok"
    given = asks(*"abcdefgh", answer="x")
    with pytest.raises(RequestFailed) as caught:
        evaluate(daemon, given, lm_server, model, max_concurrency=1, max_errors=2)
    assert caught.value.code == "lm_transport"
    assert caught.value.error["details"]["failed"] == 3
    assert sum(r.model == model for r in lm_server.requests) == 3


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
    assert (events[-1]["status"], events[-1]["score"]) == ("completed", result["score"])
    assert "usage" not in events[-1]


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


@pytest.mark.parametrize(
    ("envelope", "ended_by"),
    [({"deadline_ms": 2_000}, "deadline"), ({"budget": {"seconds": 2}}, "budget")],
)
def test_time_that_is_up_ends_it_with_the_rows_that_it_has(daemon, lm_server, envelope, ended_by):
    rows = asks(*map(str, range(200)), answer="x")
    model = f"late-{ended_by}+slow-50"
    result = evaluate(daemon, rows, lm_server, model, max_concurrency=1, **envelope)
    assert (result["status"], result["ended_by"]) == ("stopped", ended_by)
    codes = [row["error"] and row["error"]["code"] for row in result["rows"]]
    assert 1 <= codes.count(None) < 100
    code = {"deadline": "deadline_exceeded", "budget": "budget_exceeded"}[ended_by]
    assert codes.count(code) == 200 - codes.count(None)
    lm_server.wait_for(lambda: lm_server.in_flight(model) == 0, PATIENCE)


def test_time_that_is_up_before_any_row_has_a_score_is_an_error(daemon, lm_server):
    with pytest.raises(RequestFailed) as caught:
        evaluate(daemon, asks(*"ab", answer="x"), lm_server, "never+slow-60000", deadline_ms=300)
    assert caught.value.code == "deadline_exceeded"


def test_run_stop_ends_it_with_the_rows_that_it_has(daemon, lm_server):
    model = "stopped-rows+slow-50"
    args = {"module_id": "qa", "devset": asks(*map(str, range(400)), answer="x")}
    args |= {"metric": "exact_match", "max_concurrency": 2, "run_id": "rows"}
    future = daemon.send("evaluate", args, lm=local(lm_server, model))
    lm_server.wait_for(lambda: sum(r.model == model for r in lm_server.requests) >= 6, PATIENCE)
    assert daemon.call("run_stop", {"run_id": "rows"})["status"] == "stopping"
    result = future.result(PATIENCE)
    assert (result["run_id"], result["status"], result["ended_by"]) == (
        "rows",
        "stopped",
        "run_stop",
    )
    assert 4 <= sum(row["error"] is None for row in result["rows"]) < 400
    assert refused(daemon, "run_stop", {"run_id": "rows"})["code"] == "not_found"


def test_two_evaluations_of_one_id_are_refused_but_tenants_have_their_own(daemon, lm_server):
    args = {"module_id": "qa", "devset": asks(*"ab", answer="x"), "metric": "exact_match"}
    args["run_id"] = "twice"
    lm = local(lm_server, "twice+slow-60000")
    futures = [daemon.send("evaluate", args, lm=lm, tenant=tenant) for tenant in ("a", "b")]
    lm_server.wait_for(lambda: lm_server.in_flight("twice+slow-60000") == 4, PATIENCE)
    assert "run_id" in faults(daemon, "evaluate", args, tenant="a")
    assert daemon.call("run_stop", {"run_id": "twice"}, tenant="b")["status"] == "stopping"
    assert futures[1].exception(PATIENCE).code == "cancelled"
    assert not futures[0].done()
    daemon.call("cancel", {"request": futures[0].request_id})


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
