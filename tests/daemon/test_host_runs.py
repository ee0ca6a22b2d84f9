"""Runs whose metric, or whose program's forward, is the host's: asked from the run's process."""

from __future__ import annotations

import threading
import time

import pytest

from bridge.client import RequestFailed
from bridge.metrics import exact_match
from tests.daemon.asking import fields, new_id, refused
from tests.daemon.hosting import Host, driven_two_hop
from tests.daemon.optimizing import (
    CONFIGS,
    PATIENCE,
    TRAIN,
    not_optimized,
    open_daemon,
    request,
    two_hop,
    wait_for_row,
)

METRIC_OPTIMIZERS = sorted(set(CONFIGS) - {"LabeledFewShot"})


def exact(call):
    return exact_match(call.args["example"], call.args["prediction"])


def optimize(host, args, **envelope):
    return host.port.call("optimize", args, timeout=PATIENCE, **envelope)


def wait_until(is_so):
    ends = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.01)


def asked_of(host, name):
    return [call for call in host.asked if call.name == name]


@pytest.mark.parametrize("optimizer", METRIC_OPTIMIZERS)
def test_a_metric_of_the_host_scores_as_the_same_one_built_in(host_with_runs, optimizer):
    host, name = host_with_runs, new_id("metric")
    host.answers("metric", name, exact)
    ours = optimize(host, request(optimizer, f"{name}-a-", metric="exact_match"))
    theirs = optimize(host, request(optimizer, f"{name}-b-", metric={"host": name}))
    assert theirs["score"] == ours["score"]
    assert theirs["baseline_score"] == ours["baseline_score"]
    assert list(theirs["module_demos"].values()) == list(ours["module_demos"].values())
    assert asked_of(host, name)


def test_a_metric_of_the_host_sees_example_prediction_and_index(host_with_runs):
    host, name = host_with_runs, new_id("metric")
    host.answers("metric", name, exact)
    args = {"program": two_hop(name), "devset": TRAIN[:4], "metric": {"host": name}}
    host.port.call("evaluate", args)
    calls = sorted(asked_of(host, name), key=lambda call: call.args["index"])
    assert [call.args["index"] for call in calls] == [0, 1, 2, 3]
    assert [call.args["example"] for call in calls] == TRAIN[:4]
    assert set(calls[0].args["prediction"]) == {"answer", "confidence", "context"}
    assert calls[0].args["program_id"] == f"{name}two_hop"


def test_a_metric_of_the_host_sees_the_trace_of_a_bootstrap(host_with_runs):
    host, name = host_with_runs, new_id("metric")
    host.answers("metric", name, exact)
    optimize(host, request("BootstrapFewShot", name, metric={"host": name}))
    traces = [call.args["trace"] for call in asked_of(host, name) if call.args["trace"]]
    assert traces
    row = traces[0][0]
    assert row["module_id"] == f"{name}generate_query"
    assert set(row) == {"module_id", "predictor", "inputs", "outputs"}
    assert set(row["outputs"]) == {"query"}


def test_gepa_asks_the_host_for_feedback_about_one_module(host_with_runs):
    host, name = host_with_runs, new_id("metric")
    host.answers(
        "metric", name, lambda call: {"score": exact(call), "feedback": "mind the spelling"}
    )
    optimize(host, request("GEPA", name, metric={"host": name}))
    assert any(call.args.get("module") for call in asked_of(host, name))


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """A host that is given half a second for every call."""
    with open_daemon(tmp_path_factory.mktemp("hasty")) as port:
        port.call("configure", {"limits": {"host_call_ms": 500}})
        yield Host(port)


@pytest.mark.parametrize("optimizer", METRIC_OPTIMIZERS)
@pytest.mark.parametrize("fault", ["raises", "nonsense", "slow"])
def test_a_metric_of_the_host_that_fails_ends_every_optimizer(hasty, optimizer, fault):
    name, lock, calls, gate = new_id("metric"), threading.Lock(), [], threading.Event()

    def fail(call):
        with lock:
            calls.append(call)
            if len(calls) < 4:
                return exact(call)
        if fault == "raises":
            raise ValueError("out of order")
        return "good" if fault == "nonsense" else gate.wait(60)

    hasty.answers("metric", name, fail)
    error = not_optimized(hasty.port, request(optimizer, name, metric={"host": name}))
    gate.set()
    assert error["code"] == "metric_error"
    assert error["details"]["dataset"] == "trainset"
    assert isinstance(error["details"]["index"], int)


def test_an_evaluation_of_the_hosts_metric_lets_as_many_fail_as_it_is_told(host_with_runs):
    host, name = host_with_runs, new_id("metric")

    def fail_once(call):
        if call.args["index"] == 1:
            raise ValueError("odd")
        return 1.0

    host.answers("metric", name, fail_once)
    args = {"program": two_hop(name), "devset": TRAIN[:3], "metric": {"host": name}}
    assert refused(host.port, "evaluate", args)["code"] == "metric_error"
    result = host.port.call("evaluate", {**args, "max_metric_errors": 1})
    assert result["score"] == pytest.approx(2 / 3)
    assert "trainset" not in result["warnings"][0]


@pytest.mark.parametrize("optimizer", ["BootstrapFewShot", "MIPRO"])
def test_a_program_that_the_host_drives_is_optimized(host_with_runs, optimizer):
    host, prefix = host_with_runs, f"{new_id('driven')}-"
    steps = optimize(host, request(optimizer, f"{prefix}s-"))
    spec = driven_two_hop(host, prefix)
    result = optimize(host, {**request(optimizer), "program": spec})
    assert result["score"] == steps["score"]
    assert result["score"] > result["baseline_score"]
    demos = result["module_demos"]
    assert set(demos) == {f"{prefix}generate_query", f"{prefix}generate_answer"}
    if optimizer == "BootstrapFewShot":
        # Demonstrations were bootstrapped for every predictor that the host's forward used.
        assert all(demos.values())
        # Of several calls in one run DSPy picks one at random; the answer is asked for once.
        answers = steps["module_demos"][f"{prefix}s-generate_answer"]
        assert demos[f"{prefix}generate_answer"] == answers


def test_a_driven_program_runs_with_what_it_has_learned(host_with_runs):
    host, prefix = host_with_runs, f"{new_id('driven')}-"
    spec = driven_two_hop(host, prefix)
    optimize(host, {**request("BootstrapFewShot"), "program": spec})
    question = TRAIN[0]["question"]
    args = {"program_id": spec["id"], "inputs": {"question": question}}
    result = host.port.call("execute", args, trace=True)
    assert fields(result)["answer"] == TRAIN[0]["answer"]
    prompts = [row["prompt"] for row in result["_meta"]["trace"]]
    assert all(len(prompt) > 2 for prompt in prompts)


def test_a_run_that_is_cancelled_withdraws_the_calls_of_its_process(host_with_runs):
    host, name = host_with_runs, new_id("metric")
    reached, gate = threading.Event(), threading.Event()

    def stall(call):
        reached.set()
        gate.wait(60)
        return 1.0

    host.answers("metric", name, stall)
    sent = host.port.send("optimize", request("BootstrapFewShot", name, metric={"host": name}))
    assert reached.wait(60)
    host.port.call("cancel", {"request": sent.request_id})
    with pytest.raises(RequestFailed) as caught:
        sent.result(30)
    assert caught.value.code == "cancelled"
    wait_until(lambda: {call.call for call in asked_of(host, name)} <= set(host.withdrawn))
    gate.set()


def test_the_host_is_the_lm_of_a_run(host_with_runs):
    host, name = host_with_runs, new_id("lm")

    def answer(call):
        text = call.args["messages"][-1]["content"]
        field = "query" if "[[ ## query ## ]]" in text else "answer"
        more = "\n\n[[ ## confidence ## ]]\n1.0" if field == "answer" else ""
        reasoning = "[[ ## reasoning ## ]]\nso\n\n" if field == "answer" else ""
        return f"{reasoning}[[ ## {field} ## ]]\nParis{more}\n\n[[ ## completed ## ]]"

    lm = host.lm(name, answer)
    result = optimize(host, request("LabeledFewShot", name), lm=lm)
    assert result["stats"]["usage"][f"host/{name}"]["calls"] == len(asked_of(host, name))


def test_a_detached_run_asks_the_host(host_with_runs):
    host, name = host_with_runs, new_id("metric")
    host.answers("metric", name, exact)
    begun = optimize(
        host, request("BootstrapFewShot", name, metric={"host": name}, detach=True, run_id=name)
    )
    assert begun["status"] == "running"
    row = wait_for_row(host.port, name, lambda row: row["status"] != "running")
    assert row["status"] == "completed"
    assert {call.id for call in asked_of(host, name)} == {None}
