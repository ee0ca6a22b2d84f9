"""What was said and what it cost: `history`, `usage`, `_meta` and traces."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.daemon.lm_maps import ask, failure, lm_map, make_qa, refused, seen

if TYPE_CHECKING:
    from bridge.client import Port
    from tests.lm_server import LMServer

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MOST_ROWS = 500
MOST_TEXT = 2 * 1024 * 1024
SUMS = ("calls", "input_tokens", "output_tokens", "cached_calls")


@pytest.fixture(scope="module")
def port(daemon: Port, lm_server: LMServer) -> Port:
    """The daemon with the module `qa` and the program `two-hops` of `hop1` and `hop2`."""
    make_qa(daemon)
    for module_id, signature in (("hop1", "question -> query"), ("hop2", "query -> answer")):
        spec = {"id": module_id, "type": "predict", "signature": signature}
        daemon.call("create_module", spec)
    refs = [{"id": name, "name": name} for name in ("hop1", "hop2")]
    daemon.call("create_program", {"id": "two-hops", "modules": refs})
    return daemon


def _rows(port: Port, tenant: str | None = None, **filters: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = port.call("history", filters, tenant=tenant)["rows"]
    return rows


def _execute(port: Port, **envelope: Any) -> Any:
    args = {"program_id": "two-hops", "inputs": {"question": "why?"}}
    return port.call("execute", args, **envelope)


def test_a_row_tells_the_whole_call(port: Port, lm_server: LMServer) -> None:
    before = time.time()
    future = port.send(
        "forward",
        {"module_id": "qa", "inputs": {"question": "Who wrote Faust?"}},
        lm=lm_map(lm_server, "openai", "told+slow-50"),
        tenant="rows",
    )
    result = future.result(30)
    (row,) = _rows(port, "rows")
    (received,) = seen(lm_server, "told+slow-50")
    assert set(row) == {
        "module_id", "inputs", "outputs", "program_id", "request_id", "model", "prompt",
        "response", "error", "usage", "cost", "cached", "latency_ms", "started_at",
    }  # fmt: skip
    assert row["module_id"] == "qa"
    assert row["program_id"] is None
    assert row["request_id"] == future.request_id  # type: ignore[attr-defined]
    assert row["inputs"] == {"question": "Who wrote Faust?"}
    assert row["outputs"] == {"answer": result["answer"]}
    assert row["model"] == "openai/told+slow-50"
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert row["prompt"][1]["content"] == received.body["messages"][1]["content"]
    assert result["answer"] in row["response"]
    assert row["error"] is None
    assert row["usage"] == result["_meta"]["usage"]["openai/told+slow-50"]
    assert row["cost"] is None
    assert row["cached"] is False
    assert 50 <= row["latency_ms"] < 20_000
    assert before - 1 <= row["started_at"] <= time.time()


def test_a_failed_call_is_a_row_with_its_code(port: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "sorry+always-500")
    failure(port, lm=lm, tenant="failing")
    (row,) = _rows(port, "failing")
    assert row["error"].startswith("lm_transport: ")
    assert (row["response"], row["outputs"]) == (None, None)
    assert row["usage"]["calls"] == 3
    assert port.call("usage", tenant="failing")["total"]["calls"] == 3


def test_a_cancelled_call_is_a_row(port: Port, lm_server: LMServer) -> None:
    model = "stopped+stall"
    failure(port, lm=lm_map(lm_server, "openai", model), tenant="stopping", deadline_ms=100)
    lm_server.wait_for(lambda: not lm_server.in_flight(model))
    deadline = time.monotonic() + 20
    # The request is answered before its thread has noticed.
    while not (rows := _rows(port, "stopping")):
        assert time.monotonic() < deadline
    assert rows[0]["error"].startswith("deadline_exceeded")


def test_rows_come_newest_first_and_no_more_than_asked(port: Port, lm_server: LMServer) -> None:
    for number in range(5):
        ask(port, f"question {number}", tenant="ordered")
    rows = _rows(port, "ordered", limit=3)
    assert [row["inputs"]["question"][-1] for row in rows] == ["4", "3", "2"]


def test_rows_of_one_module_or_program_can_be_asked_for(port: Port) -> None:
    ask(port, tenant="filtered")
    _execute(port, tenant="filtered")
    assert {row["module_id"] for row in _rows(port, "filtered")} == {"qa", "hop1", "hop2"}
    assert [row["module_id"] for row in _rows(port, "filtered", module_id="hop1")] == ["hop1"]
    rows = _rows(port, "filtered", program_id="two-hops")
    assert [row["module_id"] for row in rows] == ["hop2", "hop1"]
    assert _rows(port, "filtered", module_id="qa", program_id="two-hops") == []


def test_rows_are_their_tenants_only(port: Port) -> None:
    ask(port, "mine", tenant="me")
    ask(port, "yours", tenant="you")
    assert [row["inputs"]["question"] for row in _rows(port, "me")] == ["mine"]
    shared = [row["inputs"] and row["inputs"]["question"] for row in _rows(port)]
    assert not {"mine", "yours"} & set(shared)


@pytest.mark.parametrize("filters", [{"limit": 0}, {"limit": 10_001}, {"modul_id": "qa"}])
def test_a_wrong_filter_is_refused(port: Port, filters: dict[str, Any]) -> None:
    assert refused(port, "history", filters)["code"] == "invalid_args"


def test_history_is_bounded_in_rows(port: Port) -> None:
    prompts = [f"prompt {number}" for number in range(MOST_ROWS + 100)]
    port.call("generate_batch", {"prompts": prompts}, tenant="many")
    assert len(_rows(port, "many", limit=10_000)) == MOST_ROWS


def test_history_is_bounded_in_text(port: Port) -> None:
    prompts = [f"{number} {'x' * 100_000}" for number in range(50)]
    port.call("generate_batch", {"prompts": prompts, "max_concurrency": 1}, tenant="long")
    rows = _rows(port, "long", limit=10_000)
    said = [m["content"] for row in rows for m in row["prompt"]] + [row["response"] for row in rows]
    text = sum(map(len, said))
    assert MOST_TEXT / 2 < text <= MOST_TEXT
    assert rows[0]["prompt"][0]["content"].startswith("49 ")


def test_history_is_bounded_in_what_prompts_only_name(port: Port) -> None:
    image = {"inputs": [{"name": "x", "type": "image"}], "outputs": {"answer": "string"}}
    port.call("create_module", {"id": "seeing", "type": "predict", "signature": image})
    rows = [{"x": {"url": f"data:image/png;base64,{n:04}{'A' * 200_000}"}} for n in range(50)]
    args = {"module_id": "seeing", "inputs": rows, "max_concurrency": 1}
    port.call("batch", args, tenant="seeing")
    kept = _rows(port, "seeing", limit=10_000)
    assert 0 < sum(len(row["inputs"]["x"]["url"]) for row in kept) <= MOST_TEXT


def test_usage_is_the_sum_of_what_each_request_was_told(port: Port, lm_server: LMServer) -> None:
    tenant = "summing"
    told: list[dict[str, Any]] = []
    for model in ("sum-1", "sum-2", "sum-3+fail-500-then-ok"):
        lm = lm_map(lm_server, "openai", model)
        told += [ask(port, tenant=tenant, lm=lm), _execute(port, tenant=tenant, lm=lm)]
    usage = port.call("usage", tenant=tenant)
    spent = [used for result in told for used in result["_meta"]["usage"].values()]
    for name in SUMS:
        assert usage["total"][name] == sum(used[name] for used in spent)
        assert usage["total"][name] == sum(used[name] for used in usage["lms"].values())
        assert usage["total"][name] == sum(row["usage"][name] for row in _rows(port, tenant))
    assert set(usage["lms"]) == {"openai/sum-1", "openai/sum-2", "openai/sum-3+fail-500-then-ok"}
    assert usage["programs"]["two-hops"]["calls"] == 6
    received = [one for name in usage["lms"] for one in seen(lm_server, name.partition("/")[2])]
    assert usage["total"]["calls"] == len(received)
    assert usage["total"]["input_tokens"] == sum(one.input_tokens for one in received)
    assert usage["total_tokens"] == sum(one.input_tokens + one.output_tokens for one in received)


def test_usage_counts_requests_and_their_time(port: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "timed+slow-100")
    for _ in range(3):
        ask(port, tenant="timing", lm=lm)
    usage = port.call("usage", tenant="timing")
    assert usage["total_requests"] == 3
    assert 100 <= usage["average_latency_ms"] < 20_000


def test_usage_of_a_tenant_that_did_nothing_is_nothing(port: Port) -> None:
    usage = port.call("usage", tenant="nobody")
    assert (usage["total_requests"], usage["total_tokens"], usage["lms"]) == (0, 0, {})
    assert usage["total"]["calls"] == 0


def test_a_trace_is_the_rows_of_its_request(port: Port) -> None:
    result = _execute(port, tenant="traced", trace=True)
    trace = result["_meta"]["trace"]
    assert [row["module_id"] for row in trace] == ["hop1", "hop2"]
    assert trace == list(reversed(_rows(port, "traced")))


def test_nothing_is_traced_unless_asked_for(port: Port) -> None:
    assert "trace" not in ask(port)["_meta"]


def test_a_traceparent_is_carried_into_every_row(port: Port) -> None:
    _execute(port, tenant="parents", trace={"traceparent": TRACEPARENT})
    assert {row["traceparent"] for row in _rows(port, "parents")} == {TRACEPARENT}


def test_a_batch_counts_every_row_of_it(port: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "rowed")
    args = {"module_id": "qa", "inputs": [{"question": f"q{n}"} for n in range(7)]}
    result = port.call("batch", args, lm=lm, tenant="rowing")
    used = result["_meta"]["usage"]["openai/rowed"]
    assert used["calls"] == len(seen(lm_server, "rowed")) == 7
    assert used["input_tokens"] == sum(one.input_tokens for one in seen(lm_server, "rowed"))
    asked = {row["inputs"]["question"] for row in _rows(port, "rowing")}
    assert asked == {f"q{n}" for n in range(7)}
