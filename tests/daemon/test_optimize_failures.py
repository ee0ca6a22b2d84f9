"""How an `optimize` fails: before anything is spent, or loudly; never as a success on nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bridge.client import Port
from tests.daemon.optimizing import (
    CONFIGS,
    PATIENCE,
    TRAIN,
    begun,
    local,
    not_optimized,
    open_daemon,
    optimize_faults,
    request,
    row_of,
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with open_daemon(tmp_path_factory.mktemp("state")) as port:
        yield port


# Before anything is spent


@pytest.mark.parametrize(
    ("more", "path", "nearest"),
    [
        ({"optimizer": "BootstrapFewshots"}, "optimizer", "BootstrapFewShot"),
        ({"config": {"max_bootstraped_demos": 4}}, "config.max_bootstraped_demos", ...),
        ({"config": {"max_rounds": "many"}}, "config.max_rounds", None),
        ({"config": {"metric": "exact_match"}}, "config.metric", None),
        ({"metric": "custom"}, "metric", None),
        ({"metric": "exact_matches"}, "metric", "exact_match"),
        ({"metric": {"name": "f1_score", "feild": "answer"}}, "metric.feild", "field"),
        ({"metric": {"name": "f1_score", "field": "answr"}}, "metric.field", "answer"),
        ({"metric": None}, "metric", None),
        ({"trainset": []}, "trainset", None),
        ({"trainset": None}, "trainset", None),
        ({"trainset": ["a text"]}, "trainset", None),
        ({"trainset": [{"answer": "Paris"}]}, "trainset[0].question", None),
        ({"valset": []}, "valset", None),
        ({"program": None}, "program", None),
        ({"program_id": "two_hop"}, "program", None),
        ({"resume": "a", "run_id": "b"}, "resume", None),
        ({"max_concurrency": 0}, "max_concurrency", None),
    ],
)
def test_a_mistake_is_named_with_what_would_be_right(daemon, more, path, nearest):
    if "resume" in more:
        daemon.call("optimize", request("LabeledFewShot", run_id="a"), timeout=PATIENCE)
        path = "run_id"
    found = optimize_faults(daemon, request(**more))
    fault = next(fault for where, fault in found.items() if where.startswith(path))
    if nearest is ...:
        nearest = "max_bootstrapped_demos"
    assert fault.get("nearest") == nearest


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"optimizer": "BootstrapFinetune"}, "unsupported"),
        ({"optimizer": "GRPO"}, "unsupported"),
        ({"metric": {"host": "unknown here"}}, "metric_error"),
        ({"program": "nowhere"}, "not_found"),
        ({"trainset": "no-dataset"}, "not_found"),
        ({"resume": "no-run"}, "not_found"),
        ({"config": {"teacher_settings": {"lm": "no-lm"}}}, "not_found"),
    ],
)
def test_what_cannot_be_done_is_not_optimized(daemon, more, code):
    assert not_optimized(daemon, request(**more))["code"] == code


def test_without_an_lm_a_run_says_so(tmp_path, spawn):
    port = spawn("--state-dir", str(tmp_path))
    port.hello()
    assert not_optimized(port, request())["code"] == "not_configured"


def test_a_missing_extra_is_told_before_the_first_lm_call(tmp_path, lm_server):
    # The interpreter's own finders have no optuna for this daemon.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "class WithoutOptuna(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'optuna':\n"
        "            return None\n"
        "        return super().find_spec(name, path, target)\n"
        "sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutOptuna\n"
    )
    argv = [sys.executable, "-m", "bridge", "--state-dir", str(tmp_path / "runs")]
    env = {"PYTHONPATH": str(tmp_path)}
    with Port(argv, env=env, stderr=subprocess.DEVNULL) as port:
        hello = port.hello()
        row = next(row for row in hello["optimizers"] if row["name"] == "MIPROv2")
        assert (row["available"], row["missing"]) == (False, ["optuna"])
        port.call("configure", {"lm": local(lm_server, "never-asked")})
        for name in ("MIPRO", "BootstrapFewShotWithOptuna"):
            error = not_optimized(port, request(name))
            assert error["code"] == "missing_extra"
            assert error["details"]["package"] == "optuna"
            assert error["details"]["install"] == row["install"]
    assert not [r for r in lm_server.requests if r.model == "never-asked"]


# A metric that fails


ASKS_NO_METRIC = {"LabeledFewShot"}
"""Optimizers that compile without a score; the bridge scores before and after them."""


@pytest.fixture(scope="module")
def without_labels(daemon):
    """Every optimizer on a trainset whose rows have no label; futures by name."""
    rows = [{"question": row["question"]} for row in TRAIN[:6]]
    futures, waiting = {}, []
    for name in CONFIGS:
        if len(waiting) == 4:
            waiting.pop(0).exception(PATIENCE)
        given = request(name, f"bad-{name}:", trainset=rows, valset=TRAIN[6:10])
        futures[name] = daemon.send("optimize", given)
        waiting.append(futures[name])
    return futures


@pytest.mark.parametrize("name", CONFIGS)
def test_a_metric_that_raises_fails_every_optimizer_with_the_examples_index(without_labels, name):
    # The valset is well, so it is the optimizer itself that meets the metric's failure.
    failure = without_labels[name].exception(PATIENCE)
    if name in ASKS_NO_METRIC:
        assert failure is None
        return
    assert failure.code == "metric_error"
    assert failure.error["details"]["index"] in range(6)
    assert failure.error["details"]["dataset"] == "trainset"


def test_a_metric_that_raises_on_the_scored_examples_fails_the_run(daemon):
    rows = [*TRAIN[:3], {"question": "Where is it?"}]
    error = not_optimized(daemon, request("LabeledFewShot", trainset=TRAIN[:4], valset=rows))
    assert error["code"] == "metric_error"
    assert error["details"]["index"] == 3
    assert error["details"]["dataset"] == "valset"


def test_as_many_metric_errors_pass_as_the_host_allows(daemon):
    rows = [*TRAIN[:5], {"question": "Where is it?"}]
    given = request("LabeledFewShot", trainset=rows, max_metric_errors=10, config={"k": 2})
    result = daemon.call("optimize", given, timeout=PATIENCE)
    assert result["status"] == "completed"
    assert any("trainset[5]" in text for text in result["warnings"])


# An LM that fails


@pytest.mark.parametrize(("fault", "code"), [("fail-500", "lm_transport"), ("auth", "lm_auth")])
def test_an_lm_that_is_out_ends_the_run_with_its_error(daemon, lm_server, fault, code):
    model = f"out+slow-5+{fault}"
    error = not_optimized(daemon, request("MIPRO"), lm=local(lm_server, model))
    assert error["code"] == code
    # Found out early: the run did not go through all that it had planned.
    assert len([r for r in lm_server.requests if r.model == model]) < 40


@pytest.mark.parametrize("name", ["BootstrapFewShotWithRandomSearch", "GEPA"])
def test_an_outage_in_mid_run_is_no_success(daemon, lm_server, name):
    model = f"breaks-{name}+slow-10"
    given = request(name, run_id=f"breaks {name}", max_concurrency=2)
    future = daemon.send("optimize", given, lm=local(lm_server, model))
    # Scoring the program as it is takes 24 calls.
    begun(lm_server, model, 30)
    lm_server.set_behaviour(model, "fail-500")
    failure = future.exception(PATIENCE)
    assert failure is not None
    assert failure.code == "lm_transport"
    row = row_of(daemon, f"breaks {name}")
    assert (row["status"], row["error"]["code"]) == ("failed", "lm_transport")


def test_a_program_that_fails_on_every_example_is_a_typed_error(daemon, lm_server):
    model = "prose"
    lm_server.set_behaviour(model, "empty-text")
    error = not_optimized(daemon, request("BootstrapFewShot"), lm=local(lm_server, model))
    assert error["code"] == "adapter_parse"


def test_no_bootstrapped_demonstration_is_a_warning_that_says_so(daemon):
    # The metric likes nothing that the program says.
    rows = [{**row, "answer": "no such thing"} for row in TRAIN[:4]]
    given = request("BootstrapFewShot", trainset=rows, config={"max_labeled_demos": 0})
    result = daemon.call("optimize", given, timeout=PATIENCE)
    assert result["score"] == 0.0
    assert any("bootstrapped" in text for text in result["warnings"])


@pytest.mark.parametrize("envelope", [{"budget": {"lm_calls": 0}}, {"deadline_ms": 0}])
def test_a_score_that_nobody_has_measured_is_null(daemon, envelope):
    result = daemon.call("optimize", request("BootstrapFewShot"), timeout=PATIENCE, **envelope)
    assert result["status"] == "stopped"
    assert (result["score"], result["baseline_score"]) == (None, None)
