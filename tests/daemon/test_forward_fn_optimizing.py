"""Optimizers and evaluations over programs with source: traces, demonstrations, copies, metrics."""

from __future__ import annotations

import pytest

from tests.daemon.asking import execute, new_id
from tests.daemon.optimizing import LEXICAL, open_daemon
from tests.daemon.test_forward_fn import TWO_HOP

METRIC = {
    "code": (
        "def metric(example, prediction, trace=None):\n"
        "    right = example.answer.lower() == prediction.answer.lower()\n"
        "    return {'score': float(right), 'feedback': 'expected ' + example.answer}"
    )
}
ROWS = [
    {"question": "Where was the author of Ulysses born?", "answer": "Dublin"},
    {"question": "Where was the author of Faust born?", "answer": "Frankfurt"},
    {"question": "Where was the composer of Carmen born?", "answer": "Paris"},
    {"question": "Where was the author of Emma born?", "answer": "Steventon"},
]
PASSAGES = [
    "The author of Ulysses was born in Dublin.",
    "The author of Faust was born in Frankfurt.",
    "The composer of Carmen was born in Paris.",
    "The author of Emma was born in Steventon.",
]


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with open_daemon(tmp_path_factory.mktemp("state")) as port:
        port.call("configure", {"lm": LEXICAL})
        yield port


@pytest.fixture
def two_hop(port):
    """The seed's program in source, over modules of its own."""
    names = {word: new_id(word) for word in ("query", "answer", "search")}
    signatures = {"query": "question, context -> query", "answer": "question, context -> answer"}
    for word, signature in signatures.items():
        kind = "predict" if word == "query" else "chain_of_thought"
        port.call("create_module", {"id": names[word], "type": kind, "signature": signature})
    config = {"passages": PASSAGES, "k": 1}
    port.call("create_module", {"id": names["search"], "type": "retrieve", "config": config})
    program = new_id("two-hop")
    modules = [
        {"id": names["query"], "name": "generate_query"},
        {"id": names["answer"], "name": "generate_answer"},
        {"id": names["search"], "name": "search"},
    ]
    port.call("create_program", {"id": program, "modules": modules, "forward_fn": TWO_HOP})
    return program, names


@pytest.mark.parametrize(
    ("optimizer", "config"),
    [
        ("BootstrapFewShot", {"max_bootstrapped_demos": 2, "max_labeled_demos": 2}),
        ("MIPROv2", {"num_candidates": 2, "num_trials": 2, "auto": None, "minibatch": False}),
        ("COPRO", {"breadth": 2, "depth": 1}),
    ],
)
def test_the_seed_s_program_learns_by_a_metric_in_source(port, two_hop, optimizer, config):
    program, names = two_hop
    args = {"optimizer": optimizer, "program_id": program, "trainset": ROWS, "metric": METRIC}
    result = port.call("optimize", {**args, "config": config}, timeout=240)
    assert result["status"] == "completed"
    learned = set(result["optimized_program"]["modules"])
    assert learned == {names["query"], names["answer"]}
    assert result["score"] >= result["baseline_score"]
    if optimizer == "BootstrapFewShot":
        demos = result["module_demos"][names["query"]]
        assert any("query" in demo and "context" in demo for demo in demos)
    assert set(execute(port, program, {"question": "Where?"})) == {"answer", "context"}


def test_an_evaluation_runs_the_program_and_its_metric(port, two_hop):
    program, _ = two_hop
    args = {"program_id": program, "devset": ROWS, "metric": METRIC}
    found = port.call("evaluate", args, timeout=120)
    assert (found["total"], found["errors"]) == (4, 0)
    assert [row["score"] for row in found["rows"]] == [
        float(row["prediction"]["answer"].lower() == row["example"]["answer"].lower())
        for row in found["rows"]
    ]


def test_a_metric_in_source_that_fails_ends_the_run_with_the_example(port, two_hop):
    program, _ = two_hop
    bad = {"code": "def metric(example, prediction):\n    return example.nothing"}
    args = {"program_id": program, "devset": ROWS, "metric": bad}
    with pytest.raises(Exception, match="nothing") as caught:
        port.call("evaluate", args, timeout=120)
    error = caught.value.error
    assert (error["code"], error["details"]["dataset"]) == ("metric_error", "devset")
    assert isinstance(error["details"]["index"], int)


def test_a_reward_in_source_chooses_the_best_attempt(port):
    reward = {"code": "def reward(inputs, prediction):\n    return len(prediction.answer)"}
    module = new_id("best")
    spec = {"id": module, "type": "best_of_n", "signature": "question -> answer"}
    port.call("create_module", {**spec, "config": {"n": 2, "threshold": 1, "reward": reward}})
    found = port.call("forward", {"module_id": module, "inputs": {"question": "Who?"}})
    assert found["answer"]


def test_a_reward_in_source_must_take_what_it_is_given(port):
    reward = {"code": "def reward(inputs):\n    return 1"}
    spec = {"id": new_id(), "type": "refine", "signature": "question -> answer"}
    with pytest.raises(Exception, match=r"config\.reward\.code:1:1"):
        port.call("create_module", {**spec, "config": {"reward": reward}})
