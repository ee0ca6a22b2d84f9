"""Module types through a spawned daemon: outputs, options, prompts, failures."""

from __future__ import annotations

from typing import Literal

import dspy
import pytest

from bridge.engine.modules.building import build_module
from bridge.specs.modules import MODULE_TYPES, parse_module
from tests.daemon.asking import (
    asked,
    chat_reply,
    create,
    faults,
    forward,
    lm_at,
    new_id,
    plain_dspy,
    prompts,
    refused,
)

QA = "question -> answer"
RICH = {
    "inputs": [
        {"name": "question", "type": "string", "description": "What to find out"},
        {"name": "context", "type": "{:array, :string}", "description": "Passages"},
        {"name": "limit", "type": "integer", "description": ""},
    ],
    "outputs": [
        {"name": "answer", "type": "string", "description": "A short answer"},
        {"name": "score", "type": "float"},
        {"name": "kind", "type": {"enum": ["fact", "guess"]}},
    ],
    "instructions": "Answer from the passages alone.",
}
INPUTS = {"question": "Where is it?", "context": ["In Paris.", "Not here."], "limit": 3}
REWARD = {"name": "exact_match", "expected": "Paris"}
CONFIGS = {
    "best_of_n": {"reward": REWARD},
    "refine": {"reward": REWARD},
    "retrieve": {"passages": ["one"]},
}


class RichSignature(dspy.Signature):
    """Answer from the passages alone."""

    question: str = dspy.InputField(desc="What to find out")
    context: list[str] = dspy.InputField(desc="Passages")
    limit: int = dspy.InputField()
    answer: str = dspy.OutputField(desc="A short answer")
    score: float = dspy.OutputField()
    kind: Literal["fact", "guess"] = dspy.OutputField()


# Outputs


@pytest.mark.parametrize(
    ("type_", "config", "names"),
    [
        ("predict", {}, {"answer"}),
        ("chain_of_thought", {}, {"reasoning", "answer"}),
        ("chain_of_thought", {"reasoning_field": "thinking"}, {"thinking", "answer"}),
        ("multi_chain_comparison", {}, {"rationale", "answer"}),
        ("best_of_n", {"reward": REWARD}, {"answer"}),
        ("best_of_n", {"reward": REWARD, "module": "chain_of_thought"}, {"reasoning", "answer"}),
        ("refine", {"reward": REWARD}, {"answer"}),
    ],
)
def test_a_module_answers_with_the_fields_of_its_type(daemon, type_, config, names):
    module = create(daemon, type_, QA, config=config)
    assert set(forward(daemon, module, {"question": "Where?"})) == names


def test_retrieve_gives_the_best_passages_without_any_lm(spawn):
    port = spawn()
    port.hello()
    passages = ["Cats purr.", {"text": "The Eiffel Tower is in Paris.", "id": 7}, "Dogs bark."]
    module = create(port, "retrieve", config={"passages": passages, "k": 1})
    assert forward(port, module, {"query": "where is the tower"}) == {
        "passages": [passages[1]["text"]]
    }


def test_every_module_type_of_the_table_can_be_created_and_says_what_learns_in_it():
    for name, row in MODULE_TYPES.items():
        if name == "custom":
            continue
        spec = {"id": 1, "type": name, "config": CONFIGS.get(name, {})}
        module = parse_module({**spec, **({"signature": QA} if row.needs_signature else {})})
        built = build_module(module, named_lm=lambda _: None)
        assert tuple(key for key, _ in built.named_predictors()) == module.predictors()


def test_a_hosts_own_reasoning_output_is_kept_and_comes_first(daemon, lm_server):
    signature = {
        "inputs": [{"name": "question", "type": "string"}],
        "outputs": [
            {"name": "answer", "type": "string"},
            {"name": "reasoning", "type": "string", "description": "Step by step"},
        ],
    }

    class OwnReasoning(dspy.Signature):
        question: str = dspy.InputField()
        answer: str = dspy.OutputField()
        reasoning: str = dspy.OutputField(desc="Step by step")

    module = create(daemon, "chain_of_thought", signature)
    (prompt,) = prompts(
        daemon,
        "forward",
        {"module_id": module, "inputs": {"question": "q"}},
        lm=lm_at(lm_server, "own"),
    )
    assert [prompt] == plain_dspy(lm_server, "own", dspy.ChainOfThought(OwnReasoning), question="q")
    system = prompt[0]["content"]
    assert "`reasoning` (str): Step by step" in system
    assert system.index("{reasoning}") < system.index("{answer}")


def test_a_renamed_reasoning_takes_the_place_of_dspys_own(daemon):
    module = create(daemon, "chain_of_thought", QA, config={"reasoning_field": "thinking"})
    (prompt,) = prompts(daemon, "forward", {"module_id": module, "inputs": {"question": "q"}})
    system = prompt[0]["content"]
    assert system.index("{thinking}") < system.index("{answer}")
    assert "reasoning" not in system


# Prompts are DSPy's


@pytest.mark.parametrize(
    ("type_", "signature", "plain", "inputs"),
    [
        ("predict", QA, dspy.Predict(QA), {"question": "q"}),
        (
            "predict",
            "a: int, b: list[str] -> c: float, d: Literal['x', 'y']",
            dspy.Predict("a: int, b: list[str] -> c: float, d: Literal['x', 'y']"),
            {"a": 3, "b": ["one", "two"]},
        ),
        ("predict", RICH, dspy.Predict(RichSignature), INPUTS),
        ("chain_of_thought", QA, dspy.ChainOfThought(QA), {"question": "q"}),
        ("chain_of_thought", RICH, dspy.ChainOfThought(RichSignature), INPUTS),
        (
            "predict",
            "q: dict[str, int], w: bool | None -> a: dict[str, list[int]], b: Optional[int]",
            dspy.Predict(
                "q: dict[str, int], w: bool | None -> a: dict[str, list[int]], b: Optional[int]"
            ),
            {"q": {"k": 1}, "w": True},
        ),
    ],
)
def test_prompts_are_to_the_letter_those_of_plain_dspy(
    daemon, lm_server, type_, signature, plain, inputs
):
    module = create(daemon, type_, signature)
    args = {"module_id": module, "inputs": inputs}
    ours = prompts(daemon, "forward", args, lm=lm_at(lm_server, "ours"))
    assert ours == plain_dspy(lm_server, "theirs", plain, **inputs)
    assert ours == asked(lm_server, "ours")[-1:]


# Options


def test_options_reach_the_lm(daemon, lm_server):
    config = {
        "temperature": 0.25,
        "max_tokens": 77,
        "top_p": 0.5,
        "stop": ["END", "FIN"],
        "seed": 11,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
    }
    module = create(daemon, "predict", QA, config=config, lm=lm_at(lm_server, "options"))
    forward(daemon, module, {"question": "q"})
    wanted = {**config, "max_completion_tokens": config.pop("max_tokens")}
    del wanted["max_tokens"]
    body = lm_server.requests[-1].body
    assert {key: body.get(key) for key in wanted} == wanted


@pytest.mark.parametrize("type_", ["best_of_n", "refine"])
@pytest.mark.parametrize(("fault", "code"), [("auth", "lm_auth"), ("fail-500", "lm_transport")])
def test_when_every_attempt_fails_the_last_failure_is_the_answer(
    daemon, lm_server, type_, fault, code
):
    lm = lm_at(lm_server, f"{type_}+{fault}")
    module = create(daemon, type_, QA, config={"n": 2, "reward": REWARD}, lm=lm)
    args = {"module_id": module, "inputs": {"question": "q"}}
    for _ in range(4):
        # DSPy's own object would have used up its failures by now.
        assert refused(daemon, "forward", args)["code"] == code


def test_concurrent_calls_of_one_best_of_n_do_not_share_failures(daemon, lm_server):
    lm = lm_at(lm_server, "crowd+auth")
    module = create(daemon, "best_of_n", QA, config={"n": 2, "reward": REWARD}, lm=lm)
    rows = daemon.call("batch", {"module_id": module, "inputs": [{"question": "q"}] * 12})["rows"]
    assert [row["error"]["code"] for row in rows] == ["lm_auth"] * 12
    assert len(asked(lm_server, "crowd+auth")) == 24


def test_refines_second_attempt_carries_the_hint_and_its_lm_is_told_the_reward(daemon, lm_server):
    lm = lm_at(lm_server, "refining")
    module = create(daemon, "refine", QA, config={"n": 2, "reward": REWARD}, lm=lm)
    lm_server.script(
        "refining",
        chat_reply(answer="Rome"),
        chat_reply(discussion="wrong city", advice='{"inner": "think of France"}'),
        chat_reply(answer="Paris"),
    )
    assert forward(daemon, module, {"question": "q"}) == {"answer": "Paris"}
    first, advice, second = asked(lm_server, "refining")
    assert "hint_" not in first[-1]["content"]
    assert "[[ ## hint_ ## ]]\nthink of France" in second[-1]["content"]
    assert '"expected": "Paris"' in advice[-1]["content"]
    assert "def exact_match(" in advice[-1]["content"]


def test_chains_that_are_compared_are_asked_anew_even_with_a_cache(spawn, lm_server):
    port = spawn()
    port.hello()
    port.call("configure", {"lm": lm_at(lm_server, "cached"), "cache": {"enabled": True}})
    module = create(port, "multi_chain_comparison", QA, config={"m": 4})
    forward(port, module, {"question": "q"})
    assert len(asked(lm_server, "cached")) == 5
    forward(port, module, {"question": "q"})
    assert len(asked(lm_server, "cached")) == 5
    best = create(port, "best_of_n", QA, config={"n": 3, "reward": REWARD, "temperature": 1})
    forward(port, best, {"question": "q"})
    assert len(asked(lm_server, "cached")) == 8


def test_compared_chains_show_their_reasoning_to_the_last_call(daemon, lm_server):
    lm = lm_at(lm_server, "chains")
    module = create(
        daemon, "multi_chain_comparison", "question -> total: int", config={"m": 2}, lm=lm
    )
    lm_server.script(
        "chains",
        chat_reply(reasoning="first way", total=1),
        chat_reply(reasoning="second way", total=2),
        chat_reply(rationale="the second", total=2),
    )
    assert forward(daemon, module, {"question": "q"}) == {"rationale": "the second", "total": 2}
    last = asked(lm_server, "chains")[-1][-1]["content"]
    assert "first way" in last
    assert "second way" in last


# What is refused


def test_an_unknown_type_is_told_the_nearest(daemon):
    found = faults(daemon, "create_module", {"id": 1, "type": "chain_of_thougt", "signature": QA})
    assert found["type"]["nearest"] == "chain_of_thought"


@pytest.mark.parametrize(
    ("type_", "more", "path"),
    [
        ("predict", {}, "signature"),
        ("predict", {"signature": QA, "config": {"temperature": 3}}, "config.temperature"),
        ("predict", {"signature": QA, "state": {"temperature": 3}}, "state.temperature"),
        ("predict", {"signature": QA, "state": {"demo": []}}, "state.demo"),
        ("predict", {"signature": QA, "state": {"predictors": {"x": {}}}}, "state.predictors.x"),
        ("predict", {"signature": QA, "lm": {"provider": "opnai", "model": "m"}}, "lm"),
        ("best_of_n", {"signature": QA}, "config.reward"),
        ("best_of_n", {"signature": QA, "config": {"reward": "exact_match"}}, "config.reward"),
        (
            "best_of_n",
            {"signature": QA, "config": {"reward": {**REWARD, "field": "anwser"}}},
            "config.reward.field",
        ),
        (
            "refine",
            {"signature": QA, "config": {"reward": {"name": "contains", "against": "answer"}}},
            "config.reward.against",
        ),
        ("retrieve", {"config": {"passages": []}}, "config.passages"),
        ("retrieve", {"config": {"passages": ["a", {"txt": "b"}]}}, "config.passages[1].text"),
        ("retrieve", {"config": {"passages": ["a"]}, "signature": QA}, "signature"),
        ("retrieve", {"config": {"passages": ["a"]}, "state": {"demos": []}}, "state"),
        ("custom", {}, "config.program"),
        ("chain_of_thought", {"signature": "reasoning -> answer"}, "signature.inputs[0].name"),
        (
            "chain_of_thought",
            {"signature": "why -> answer", "config": {"reasoning_field": "why"}},
            "signature.inputs[0].name",
        ),
        (
            "chain_of_thought",
            {"signature": QA, "config": {"reasoning_field": "keys"}},
            "config.reasoning_field",
        ),
        (
            "best_of_n",
            {
                "signature": "reasoning -> answer",
                "config": {"reward": REWARD, "module": "chain_of_thought"},
            },
            "signature.inputs[0].name",
        ),
        (
            "refine",
            {"signature": "hint_ -> answer", "config": {"reward": REWARD}},
            "signature.inputs[0].name",
        ),
    ],
)
def test_what_is_wrong_is_refused_at_creation_with_its_path(daemon, type_, more, path):
    assert path in faults(daemon, "create_module", {"id": new_id(), "type": type_, **more})


def test_without_an_lm_every_type_that_needs_one_is_not_configured(spawn):
    port = spawn()
    port.hello()
    for type_ in ("predict", "chain_of_thought", "multi_chain_comparison", "best_of_n", "refine"):
        module = create(port, type_, QA, config=CONFIGS.get(type_, {}))
        args = {"module_id": module, "inputs": {"question": "q"}}
        assert refused(port, "forward", args)["code"] == "not_configured"
