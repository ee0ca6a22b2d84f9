"""`batch` through a spawned daemon: order, errors by row, bounds, trace and usage."""

from __future__ import annotations

import pytest

from tests.daemon.asking import asked, create, faults, lm_at, new_id, program, refused

QA = "question -> answer"


def rows_of(daemon, module, inputs, **more):
    return daemon.call("batch", {"module_id": module, "inputs": inputs, **more})


def test_rows_are_answered_in_order_with_their_index(daemon):
    module = create(daemon, "predict", QA)
    found = rows_of(daemon, module, [{"question": f"q{n}"} for n in range(50)])
    assert (found["total"], found["errors"]) == (50, 0)
    assert found["rows"] == [
        {"index": n, "outputs": {"answer": f"q{n}"}, "error": None} for n in range(50)
    ]


def test_a_batch_of_no_rows_is_no_rows(daemon):
    found = rows_of(daemon, create(daemon, "predict", QA), [])
    assert (found["rows"], found["total"], found["errors"]) == ([], 0, 0)


def test_a_row_that_fails_is_its_own_error_with_its_place(daemon):
    module = create(daemon, "predict", QA)
    found = rows_of(daemon, module, [{"question": "a"}, {"qestion": "b"}, {"question": "c"}])
    assert found["errors"] == 1
    first, second, third = found["rows"]
    assert (first["error"], third["error"], second["outputs"]) == (None, None, None)
    assert second["error"]["code"] == "invalid_args"
    faulty = {fault["path"]: fault for fault in second["error"]["details"]["faults"]}
    assert set(faulty) == {"inputs[1].question", "inputs[1].qestion"}


def test_a_row_of_a_program_is_named_by_its_place_too(daemon):
    made = program(daemon, {"m": create(daemon, "predict", "n: int -> answer")})
    found = daemon.call("batch", {"program_id": made, "inputs": [{"n": 1}, {"n": "x"}, {}]})
    paths = [
        [fault["path"] for fault in row["error"]["details"]["faults"]] if row["error"] else []
        for row in found["rows"]
    ]
    assert paths == [[], ["inputs[1].n"], ["inputs[2].n"]]


@pytest.mark.parametrize(("max_errors", "failed", "cancelled"), [(0, 1, 9), (2, 3, 7), (10, 10, 0)])
def test_once_more_than_max_errors_rows_have_failed_the_rest_is_not_begun(
    daemon, lm_server, max_errors, failed, cancelled
):
    lm = lm_at(lm_server, new_id("fail") + "+auth")
    module = create(daemon, "predict", QA, lm=lm)
    found = rows_of(
        daemon, module, [{"question": "q"}] * 10, max_errors=max_errors, max_concurrency=1
    )
    codes = [row["error"]["code"] for row in found["rows"]]
    assert codes == ["lm_auth"] * failed + ["cancelled"] * cancelled
    assert found["errors"] == 10
    assert len(asked(lm_server, lm["model"])) == failed


def test_without_max_errors_every_row_is_tried(daemon, lm_server):
    lm = lm_at(lm_server, new_id("fail") + "+auth")
    module = create(daemon, "predict", QA, lm=lm)
    assert rows_of(daemon, module, [{"question": "q"}] * 30)["errors"] == 30
    assert len(asked(lm_server, lm["model"])) == 30


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_more_rows_than_max_concurrency_are_with_the_lm_at_once(daemon, lm_server, at_once):
    lm_server.reset()
    lm = lm_at(lm_server, new_id("bounded") + "+slow-20")
    module = create(daemon, "predict", QA, lm=lm)
    inputs = [{"question": f"q{n}"} for n in range(12)]
    found = rows_of(daemon, module, inputs, max_concurrency=at_once)
    assert found["errors"] == 0
    assert lm_server.peak_in_flight == at_once


def test_the_daemons_own_bound_holds_whatever_a_batch_asks_for(spawn, lm_server):
    port = spawn()
    port.hello()
    lm_server.reset()
    lm = lm_at(lm_server, new_id("limit") + "+slow-20")
    port.call("configure", {"lm": lm, "limits": {"max_batch_concurrency": 2}})
    module = create(port, "predict", QA)
    rows_of(port, module, [{"question": f"q{n}"} for n in range(8)], max_concurrency=100)
    assert lm_server.peak_in_flight == 2


def test_usage_and_trace_count_every_call_of_every_row(daemon, lm_server):
    lm = lm_at(lm_server, new_id("counted"))
    module = create(daemon, "multi_chain_comparison", QA, config={"m": 2}, lm=lm)
    args = {"module_id": module, "inputs": [{"question": f"q{n}"} for n in range(10)]}
    found = daemon.call("batch", args, trace=True)
    meta = found["_meta"]
    sent = [r for r in lm_server.requests if r.model == lm["model"]]
    assert len(sent) == 30
    usage = meta["usage"][f"openai/{lm['model']}"]
    assert usage["calls"] == 30
    assert usage["input_tokens"] == sum(request.input_tokens for request in sent)
    assert usage["output_tokens"] == sum(request.output_tokens for request in sent)
    by_question = {}
    for row in meta["trace"]:
        by_question.setdefault(row["inputs"]["question"], []).append(row)
    assert {question: len(rows) for question, rows in by_question.items()} == {
        f"q{n}": 3 for n in range(10)
    }
    for question, rows in by_question.items():
        assert all(f"\n{question}\n" in row["prompt"][-1]["content"] for row in rows)
        assert all(row["outputs"] == found["rows"][int(question[1:])]["outputs"] for row in rows)


def test_a_requests_options_are_those_of_every_row(daemon, lm_server):
    lm = lm_at(lm_server, new_id("warm"))
    module = create(daemon, "predict", QA, lm=lm, config={"temperature": 0.1})
    rows_of(daemon, module, [{"question": "q"}] * 5, config={"temperature": 0.9})
    sent = [r.body["temperature"] for r in lm_server.requests if r.model == lm["model"]]
    assert sent == [0.9] * 5


def test_a_cancelled_batch_ends_its_lm_calls_and_begins_no_more(daemon, lm_server):
    lm = lm_at(lm_server, new_id("stalled") + "+stall")
    module = create(daemon, "predict", QA, lm=lm)
    args = {"module_id": module, "inputs": [{"question": "q"}] * 20, "max_concurrency": 4}
    future = daemon.send("batch", args)
    lm_server.wait_for(lambda: lm_server.in_flight(lm["model"]) == 4)
    daemon.call("cancel", {"request": future.request_id})
    assert future.exception(10).code == "cancelled"
    lm_server.wait_for(lambda: lm_server.in_flight(lm["model"]) == 0)
    assert len(asked(lm_server, lm["model"])) == 4


def test_a_budget_ends_the_whole_batch(daemon, lm_server):
    lm = lm_at(lm_server, new_id("budget"))
    module = create(daemon, "predict", QA, lm=lm)
    args = {"module_id": module, "inputs": [{"question": "q"}] * 20}
    assert refused(daemon, "batch", args, budget={"lm_calls": 7})["code"] == "budget_exceeded"
    assert len(asked(lm_server, lm["model"])) <= 7


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({}, ""),
        ({"module_id": 1, "program_id": 2}, ""),
        ({"module_id": 1, "inputs": [1]}, "inputs[0]"),
        ({"module_id": 1, "max_concurrency": 0}, "max_concurrency"),
        ({"module_id": 1, "max_errors": -1}, "max_errors"),
        ({"module_id": 1, "config": {"temprature": 1}}, "config.temprature"),
    ],
)
def test_wrong_arguments_are_refused_with_their_path(daemon, more, path):
    assert path in faults(daemon, "batch", {"inputs": [], **more})
