"""Optimizer runs: what they give, how they end, and what they never do."""

from __future__ import annotations

import io
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.engine.optimizers.job import Prepared
from bridge.engine.programs import HostModule, HostProgram
from bridge.engine.runs.student import taught
from bridge.scope import Budget, Stopped
from bridge.specs.modules import parse_module
from bridge.specs.optimizers import ROWS
from protocol.errors import (
    BridgeError,
    Cancelled,
    InvalidArgs,
    LMTransport,
    MetricError,
    MissingExtra,
    NotFound,
    Unsupported,
)
from tests.engine.workshop import (
    CONFIGS,
    HELDOUT,
    TRAIN,
    Scorer,
    Watched,
    Workshop,
)
from tests.lm_server import LMServer

every_optimizer = pytest.mark.parametrize("name", CONFIGS)

QA = {"id": "qa", "type": "chain_of_thought", "signature": "question -> answer"}


def as_state(module: dict[str, Any]) -> dict[str, Any]:
    """What a host keeps of a module of the result."""
    return {key: value for key, value in module.items() if key != "config"}


def teach(shop: Workshop, result: dict[str, Any]) -> None:
    """Send the learned states to a daemon that knows nothing of the run."""
    for module in shop.registry.modules():
        learned = result["optimized_program"]["modules"].get(str(module.id))
        if learned is not None:
            wire = {**module.to_wire(), "state": as_state(learned)}
            shop.registry.put_module(parse_module(wire))


# --- what a run gives -----------------------------------------------------------------------


@cache
def finished(name: str) -> tuple[Workshop, dict[str, Any]]:
    """One run of each optimizer, for tests that only look at it."""
    shop = Workshop()
    return shop, shop.optimize(name, valset=HELDOUT[:4])


@every_optimizer
def test_every_optimizer_gives_the_same_shape(name: str) -> None:
    shop, result = finished(name)
    assert (result["run_id"], result["status"], result["ended_by"]) == ("run", "completed", None)
    assert type(result["score"]) is float
    assert type(result["baseline_score"]) is float
    assert result["scores"]["val"] == result["score"]
    program = result["optimized_program"]
    assert program["id"] == "two_hop"
    assert program["metrics"]["training_score"] == result["score"]
    modules = program["modules"]
    assert set(modules) == {"generate_query", "generate_answer"}
    for module_id, module in modules.items():
        assert set(module) == {"instructions", "demos", "config"}
        assert result["module_instructions"][module_id] == module["instructions"]
        assert result["module_demos"][module_id] == module["demos"]
    stats = result["stats"]
    assert stats["lm_calls"] == stats["usage"]["embedded/lexical"]["calls"] > 0
    assert shop.scope.usage["embedded/lexical"].calls == stats["lm_calls"]
    assert [row["index"] for row in result["rows"]] == [0, 1, 2, 3]
    assert all(row["before"] and row["after"] for row in result["rows"])
    assert {"module_id", "inputs", "outputs", "prompt", "response"} <= set(result["traces"][0])


@every_optimizer
def test_the_version_is_that_of_a_program_created_with_the_state(name: str) -> None:
    _, result = finished(name)
    fresh = Workshop()
    teach(fresh, result)
    assert fresh.two_hop.version == result["optimized_program"]["version"]


@every_optimizer
def test_a_fresh_daemon_with_the_state_sends_the_very_prompts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Workshop()
    lm = shop.behind(Watched)
    compiled_prompts: list[str] = []
    run = Prepared.run

    def spying(self: Prepared, job: Any) -> Any:
        compiled = run(self, job)
        begun = len(lm.prompts)
        compiled(**job.trainset[0].inputs())
        compiled_prompts.extend(lm.prompts[begun:])
        return compiled

    monkeypatch.setattr(Prepared, "run", spying)
    result = shop.optimize(name, trainset=TRAIN[:4])
    fresh = Workshop()
    teach(fresh, result)
    watched = fresh.behind(Watched)
    fresh.call(fresh.two_hop, {"question": TRAIN[0]["question"]})
    assert watched.prompts == compiled_prompts
    assert len(compiled_prompts) == 3


@every_optimizer
def test_the_score_is_of_the_state_that_is_given(name: str) -> None:
    _, result = finished(name)
    fresh = Workshop()
    teach(fresh, result)
    assert fresh.evaluate(HELDOUT[:4])["score"] == result["score"]


def test_bootstrapping_the_demo_raises_the_heldout_score_by_twenty_points() -> None:
    result = Workshop().optimize("BootstrapFewShot", trainset=TRAIN, valset=HELDOUT)
    assert result["score"] - result["baseline_score"] >= 0.2
    assert not {row["question"] for row in TRAIN} & {row["question"] for row in HELDOUT}


def test_a_module_alone_can_learn() -> None:
    shop = Workshop()
    result = shop.optimize("BootstrapFewShot", runnable=shop.module(QA), metric=Scorer())
    assert list(result["optimized_program"]["modules"]) == ["qa"]
    assert result["module_demos"]["qa"][0].keys() == {"question", "reasoning", "answer"}


def test_a_module_with_several_predictors_gets_a_state_for_each() -> None:
    shop = Workshop()
    spec = {"id": 7, "type": "multi_chain_comparison", "config": {"m": 2}}
    runnable = shop.module({**spec, "signature": "question -> answer"})
    result = shop.optimize("BootstrapFewShot", runnable=runnable, metric=Scorer())
    module = result["optimized_program"]["modules"]["7"]
    assert set(module["predictors"]) == {"chain.predict", "compare.predict"}
    assert module["demos"] == module["predictors"]["compare.predict"]["demos"]
    again = taught(runnable, {"7": as_state(module)})
    assert again.version == result["optimized_program"]["version"]


def test_a_rewarded_module_learns_from_its_best_attempt() -> None:
    shop = Workshop()
    reward = {"name": "max_words", "field": "answer", "limit": 50}
    runnable = shop.module(
        {
            "id": "best",
            "type": "best_of_n",
            "signature": "question -> answer",
            "config": {"n": 2, "reward": reward},
        }
    )
    result = shop.optimize(
        "BootstrapFewShot", {"max_labeled_demos": 0}, runnable=runnable, metric=Scorer()
    )
    assert len(result["module_demos"]["best"]) == 4
    assert result["warnings"] == []


def test_a_module_that_a_program_has_twice_learns_one_state() -> None:
    shop = Workshop()
    shop.module(QA)
    runnable = shop.program(
        {
            "id": "twice",
            "modules": [{"id": "qa", "name": "one"}, {"id": "qa", "name": "two"}],
            "steps": [{"call": "one"}, {"call": "two"}],
        }
    )
    result = shop.optimize("LabeledFewShot", {"k": 3}, runnable=runnable)
    assert len(result["module_demos"]["qa"]) == 3


def test_typed_outputs_are_demonstrated_as_plain_data_and_read_back() -> None:
    shop = Workshop()
    plan = {"object": [{"name": "step", "type": "string"}, {"name": "n", "type": "integer"}]}
    shop.module(
        {
            "id": "planner",
            "type": "predict",
            "signature": {
                "inputs": [{"name": "question", "type": "string"}, {"name": "day", "type": "date"}],
                "outputs": [{"name": "plan", "type": plan}],
            },
        }
    )
    # Called twice, so that DSPy has to choose among two runs of it, which it does by a hash.
    runnable = shop.program(
        {
            "id": "planning",
            "modules": [{"id": "planner", "name": "planner"}],
            "steps": [{"call": "planner"}, {"call": "planner"}],
        }
    )
    rows = [{"question": f"What on day {n}?", "day": f"2024-01-0{n}"} for n in range(1, 7)]
    result = shop.optimize("BootstrapFewShot", runnable=runnable, trainset=rows, metric=Anything())
    demo = result["module_demos"]["planner"][0]
    assert demo["day"] == "2024-01-01"
    assert set(demo["plan"]) == {"step", "n"}


class Anything:
    """A metric without fields of its own, which likes all there is."""

    def __call__(self, example: Any, prediction: Any) -> float:
        return 1.0


def test_the_hosts_own_program_stays_as_it_is() -> None:
    shop = Workshop()
    lm = shop.behind(Watched)
    question = {"question": TRAIN[0]["question"]}
    before = shop.call(shop.two_hop, question)
    prompts = lm.prompts[-3:]
    for name in ("BootstrapFewShot", "InferRules", "COPRO"):
        shop.optimize(name, trainset=TRAIN[:4])
    assert shop.call(shop.two_hop, question) == before
    assert lm.prompts[-3:] == prompts


def test_copro_may_go_as_deep_as_the_host_asks() -> None:
    shop = Workshop()
    result = shop.optimize(
        "COPRO", {"breadth": 2, "depth": 40}, trainset=TRAIN[:1], runnable=shop.module(QA)
    )
    assert (result["status"], result["stats"]["trials"]) == ("completed", 80)


def test_the_best_of_several_rules_is_the_one_that_is_given() -> None:
    shop = Workshop()
    lm = shop.behind(Watched)
    result = shop.optimize("InferRules", {"num_candidates": 3}, seed=1)
    tried = {prompt for prompt in lm.prompts if "adhere to the following rules" in prompt}
    assert tried
    assert result["module_instructions"]["generate_answer"].count("adhere to the following") == 1


def test_a_module_keeps_its_own_lm_and_a_program_model_can_be_named() -> None:
    shop = Workshop()
    for spec in ({"model": "embedded/echo"}, {"model": "embedded/lexical", "timeout_s": 9}):
        own = shop.module({**QA, "lm": spec})
        result = shop.optimize(
            "SIMBA", {"bsize": 4, "max_steps": 1, "num_candidates": 2}, runnable=own
        )
        assert set(result["stats"]["usage"]) == {spec["model"]}
    named = {"breadth": 2, "depth": 1, "prompt_model": {"model": "embedded/echo"}}
    usage = shop.optimize("COPRO", named)["stats"]["usage"]
    assert usage["embedded/echo"]["calls"] == 2
    with pytest.raises(NotFound):
        shop.optimize("COPRO", {**named, "prompt_model": "nobody"})


def test_the_code_that_an_lm_is_shown_is_the_program_and_not_the_bridges() -> None:
    shop = Workshop()
    lm = shop.behind(Watched)
    shop.optimize("MIPROv2")
    shown = [prompt for prompt in lm.prompts if "class TwoHop(dspy.Module)" in prompt]
    assert shown
    assert not any("bridge.engine" in prompt or "HostProgram" in prompt for prompt in lm.prompts)


# --- labels ---------------------------------------------------------------------------------


@every_optimizer
def test_labels_never_reach_the_program(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs: set[str] = set()

    def spy(kind: Any) -> None:
        run = kind.run

        def spying(self: Any, given: dict[str, Any], *path: str) -> Any:
            inputs.update(given)
            return run(self, given, *path)

        monkeypatch.setattr(kind, "run", spying)

    spy(HostProgram)
    spy(HostModule)
    Workshop().optimize(name)
    assert inputs == {"question", "context", "query"}


NAMES = st.text("abcdefgh", min_size=1, max_size=3).map(lambda text: f"f_{text}")


@given(st.lists(NAMES, min_size=3, max_size=8, unique=True), st.integers(1, 2), st.data())
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_for_any_signature_and_trainset_the_program_gets_its_inputs_and_no_label(
    names: list[str], count: int, data: Any
) -> None:
    inputs, output, labels = names[:count], names[count], names[count + 1 :]
    shop = Workshop()
    runnable = shop.module(
        {
            "id": "m",
            "type": "predict",
            "signature": {
                "inputs": [{"name": name, "type": "string"} for name in inputs],
                "outputs": [{"name": output, "type": "string"}],
            },
        }
    )
    values = st.text(max_size=8)
    row = st.fixed_dictionaries(
        dict.fromkeys(inputs, values),
        optional={name: values | st.integers() | st.none() for name in [output, *labels]},
    )
    rows = data.draw(st.lists(row, min_size=1, max_size=3))
    seen: list[dict[str, Any]] = []
    run = HostModule.run

    def spying(self: Any, given: dict[str, Any], *path: str) -> Any:
        seen.append(dict(given))
        return run(self, given, *path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HostModule, "run", spying)
        shop.optimize("BootstrapFewShot", runnable=runnable, trainset=rows, metric=Anything())
    assert all(set(given) == set(inputs) for given in seen)
    assert len(seen) >= 2 * len(rows)


# --- what is refused before the first LM call -----------------------------------------------


def refused(kind: type[BridgeError], name: str, *args: Any, **more: Any) -> BridgeError:
    shop = Workshop()
    lm = shop.behind(Watched)
    with pytest.raises(kind) as caught:
        shop.optimize(name, *args, **more)
    assert lm.calls == 0
    return caught.value


@every_optimizer
def test_an_empty_trainset_is_refused(name: str) -> None:
    error = refused(InvalidArgs, name, trainset=[])
    assert error.details["faults"][0]["path"] == "trainset"


@every_optimizer
def test_a_missing_package_is_told_before_anything_is_spent(name: str) -> None:
    row = ROWS[name]._replace(needs=("no_such_package",))
    assert refused(MissingExtra, name, row=row).details["package"] == "no_such_package"


@pytest.mark.parametrize("name", ["BootstrapFinetune", "GRPO"])
def test_what_cannot_run_here_says_so(name: str) -> None:
    refused(Unsupported, name)


def test_examples_without_the_programs_inputs_are_refused_with_their_places() -> None:
    rows = [TRAIN[0], {"answer": "x"}]
    error = refused(InvalidArgs, "BootstrapFewShot", trainset=rows)
    assert error.details["faults"][0]["path"] == "trainset[1].question"
    error = refused(InvalidArgs, "BootstrapRS", trainset=TRAIN[:2], valset=rows)
    assert error.details["faults"][0]["path"] == "valset[1].question"


@pytest.mark.parametrize(
    ("name", "config", "path"),
    [
        ("MIPROv2", {"auto": "light", "num_candidates": 3}, "config.num_candidates"),
        ("MIPROv2", {"max_bootstrapped_demos": 0}, "config.max_bootstrapped_demos"),
        ("GEPA", {"auto": "light", "max_full_evals": 1}, "config.max_full_evals"),
        ("BootstrapRS", {"max_bootstrapped_demos": 0}, "config.max_bootstrapped_demos"),
        ("BootstrapRS", {"restrict": [99]}, "config.restrict"),
        ("BetterTogether", {"strategy": "p -> q"}, "config.strategy"),
        (
            "BetterTogether",
            {"optimizers": {"w": "BootstrapRS"}, "strategy": "p"},
            "config.strategy",
        ),
    ],
)
def test_settings_that_exclude_one_another_are_refused(
    name: str, config: dict[str, Any], path: str
) -> None:
    error = refused(InvalidArgs, name, config)
    assert error.details["faults"][0]["path"] == path


def test_a_program_that_asks_no_lm_has_nothing_to_learn() -> None:
    shop = Workshop()
    with pytest.raises(InvalidArgs):
        shop.optimize(
            "BootstrapFewShot",
            runnable=shop.registry.runnable("module", "search"),
            trainset=[{"query": "x"}],
            metric=Anything(),
        )


# --- small examples -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("MIPRO", {"minibatch_size": 25, "num_candidates": 3, "minibatch_full_eval_steps": 10}),
        ("MIPRO", {"minibatch": True, "num_candidates": 2, "num_trials": 2}),
        ("SIMBA", {"bsize": 32, "max_steps": 1, "num_candidates": 2}),
    ],
)
def test_a_minibatch_larger_than_the_examples_is_made_smaller_with_a_word(
    name: str, config: dict[str, Any]
) -> None:
    result = Workshop().optimize(name, config, trainset=TRAIN[:5])
    assert result["status"] == "completed"
    assert any("config." in text for text in result["warnings"])


@every_optimizer
def test_two_examples_are_enough(name: str) -> None:
    config = {**CONFIGS[name], **({"bsize": 2} if name == "SIMBA" else {})}
    assert Workshop().optimize(name, config, trainset=TRAIN[:2])["status"] == "completed"


# --- what fails -----------------------------------------------------------------------------


@every_optimizer
# The quickest run makes 48: enough must be left that five fail without an answer in between.
@pytest.mark.parametrize("calls", [0, 14, 26])
def test_an_lm_that_goes_out_ends_the_run_with_its_error(name: str, calls: int) -> None:
    shop = Workshop()
    lm = shop.behind(lambda engine: Watched(engine, fails_after=calls))
    with pytest.raises(LMTransport):
        shop.optimize(name)
    # Five in a row are an outage; what was in flight then ends, too.
    assert lm.calls <= calls + 5 + 8


@every_optimizer
@pytest.mark.parametrize(
    ("said", "after"), [(None, 0), ("1.0", 9), (float("nan"), 9), (ZeroDivisionError, 9)]
)
def test_a_metric_that_fails_ends_every_optimizer_with_the_index(
    name: str, said: Any, after: int
) -> None:
    def score(number: int) -> Any:
        if number <= after:
            return 1.0
        if said is ZeroDivisionError:
            raise ZeroDivisionError
        return said

    with pytest.raises(MetricError) as caught:
        Workshop().optimize(name, metric=Scorer(score))
    assert caught.value.details["index"] in range(8)


@every_optimizer
def test_a_metric_of_the_wrong_arity_ends_every_optimizer(name: str) -> None:
    def wrong(example: Any) -> float:
        return 1.0

    with pytest.raises(MetricError):
        Workshop().optimize(name, metric=wrong)


def test_metric_errors_within_the_bound_are_told_and_not_silent() -> None:
    metric = Scorer(lambda number: None if number == 3 else 1.0)
    result = Workshop().optimize("BootstrapFewShot", metric=metric, max_metric_errors=1)
    assert result["status"] == "completed"
    # The third to be scored is not always the third example: rows run side by side.
    assert any("trainset[" in text for text in result["warnings"])


@every_optimizer
def test_a_program_that_fails_on_every_example_is_no_success(name: str) -> None:
    shop = Workshop()
    shop.module(QA)
    runnable = shop.program(
        {
            "id": "broken",
            "modules": [{"id": "qa", "name": "qa"}],
            "steps": [
                {"call": "qa"},
                {"let": {"x": {"first": {"literal": []}}}},
                {"output": {"answer": "$qa.answer"}},
            ],
        }
    )
    with pytest.raises(BridgeError) as caught:
        shop.optimize(name, runnable=runnable)
    assert caught.value.code == "program_error"
    assert caught.value.details["failed"] == 8


def test_no_bootstrapped_demonstration_is_told() -> None:
    result = Workshop().optimize(
        "BootstrapFewShot", {"max_labeled_demos": 0}, metric=Scorer(lambda number: 0.0)
    )
    assert result["module_demos"]["generate_answer"] == []
    assert any("bootstrapped" in text for text in result["warnings"])


# --- ends before the end --------------------------------------------------------------------


@every_optimizer
@pytest.mark.parametrize("calls", [2, 30, 50])
def test_a_budget_ends_the_run_with_the_best_so_far(name: str, calls: int) -> None:
    shop = Workshop()
    lm = shop.behind(Watched)
    result = shop.optimize(name, budget=Budget(lm_calls=calls))
    assert lm.calls <= calls
    if result["status"] == "completed":
        assert result["ended_by"] is None
        return
    assert (result["status"], result["ended_by"]) == ("stopped", "budget")
    if calls == 2:
        # Not one example's: nobody has measured anything.
        assert (result["score"], result["baseline_score"]) == (None, None)
    else:
        assert result["score"] >= result["baseline_score"]
    assert result["warnings"]
    teach(Workshop(), result)


@every_optimizer
def test_a_stop_ends_the_run_at_once_and_nothing_is_asked_afterwards(name: str) -> None:
    shop = Workshop()
    lm = shop.behind(Watched)
    stopped: list[float] = []

    def stop() -> None:
        shop.engine.stop_run("mine")
        stopped.append(time.monotonic())

    lm.at[30] = stop
    result = shop.optimize(name, run_id="mine")
    took = time.monotonic() - stopped[0]
    calls = lm.calls
    assert (result["status"], result["ended_by"]) == ("stopped", "run_stop")
    assert took < 2.0
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join(5)
    assert lm.calls == calls


@every_optimizer
def test_a_cancel_is_no_result(name: str) -> None:
    shop = Workshop()
    lm = shop.behind(Watched)
    lm.at[30] = lambda: shop.scope.stop(Cancelled("by the host"))
    with pytest.raises(Stopped) as caught:
        shop.optimize(name)
    assert caught.value.error.code == "cancelled"


def test_the_best_candidate_so_far_is_kept_with_its_score() -> None:
    shop = Workshop()
    lm = shop.behind(Watched)
    # Baseline and zero-shot are 24 calls each, then come the labels, which help at once.
    lm.at[90] = lambda: shop.engine.stop_run("run") and None
    result = shop.optimize("BootstrapRS", max_concurrency=1)
    assert result["status"] == "stopped"
    assert result["score"] > result["baseline_score"]
    fresh = Workshop()
    teach(fresh, result)
    assert fresh.evaluate(TRAIN[:8])["score"] == result["score"]


def test_time_that_is_up_ends_the_run_with_the_best_so_far() -> None:
    shop = Workshop({"model": "embedded/lexical", "config": {"latency_ms": 20}})
    result = shop.optimize("MIPROv2", seconds=1.0)
    assert (result["status"], result["ended_by"]) == ("stopped", "deadline")
    assert result["stats"]["seconds"] < 3.0


# --- what is told meanwhile -----------------------------------------------------------------


@every_optimizer
def test_progress_is_told_by_phase_and_trial(name: str) -> None:
    shop, result = finished(name)
    phases = list(dict.fromkeys(event["phase"] for event in shop.events))
    assert phases == ["baseline", "optimizing", "scoring", "done"]
    calls = [event["lm_calls"] for event in shop.events]
    assert calls == sorted(calls)
    last = shop.events[-1]
    assert last["run_id"] == "run"
    assert last["best_score"] == result["score"]
    assert last["lm_calls"] == result["stats"]["lm_calls"]
    assert last["trial"] == result["stats"]["trials"] == len(result["trials"])
    tells_trials = {"LabeledFewShot", "BootstrapFewShot", "KNNFewShot"}
    assert (last["trial"] > 0) == (name not in tells_trials)
    if last["trials"] is not None and name != "SIMBA":
        assert last["trial"] == last["trials"]


def test_nothing_is_printed_and_the_streams_are_given_back() -> None:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        for name in ("BootstrapFewShot", "BootstrapRS", "GEPA"):
            Workshop().optimize(name, trainset=TRAIN[:3])
        assert (sys.stdout, sys.stderr) == (out, err)
    assert (out.getvalue(), err.getvalue()) == ("", "")


# --- over HTTP ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Any:
    with LMServer() as running:
        yield running


@every_optimizer
def test_every_optimizer_works_over_http(name: str, server: LMServer) -> None:
    lm = {
        "provider": "openai",
        "model": f"m-{name.lower()}",
        "api_key": "k",
        "base_url": server.url_for("openai"),
        "max_retries": 0,
    }
    shop = Workshop(lm)
    result = shop.optimize(name, metric=Scorer(lambda number: float(number % 3 > 0)))
    assert result["status"] == "completed"
    assert result["stats"]["lm_calls"] > 0
    fresh = Workshop(lm)
    teach(fresh, result)
    assert fresh.two_hop.version == result["optimized_program"]["version"]


def test_a_stop_breaks_a_call_that_is_in_flight(server: LMServer) -> None:
    lm = {
        "provider": "openai",
        "model": "one+stall",
        "api_key": "k",
        "base_url": server.url_for("openai"),
    }
    shop = Workshop(lm)
    ended: list[float] = []

    def stop() -> None:
        server.wait_for(lambda: server.in_flight("one+stall") > 0)
        ended.append(time.monotonic())
        shop.engine.stop_run("run")

    thread = threading.Thread(target=stop)
    thread.start()
    result = shop.optimize("BootstrapFewShot")
    thread.join()
    assert result["ended_by"] == "run_stop"
    assert time.monotonic() - ended[0] < 2.0
