"""Learned state from the host and back: in prompts, in `get`, in exports, in a fresh process."""

from __future__ import annotations

import subprocess

import dspy
import pytest

from bridge.client import Port
from tests.daemon.asking import create, lm_at, new_id, plain_dspy, program, prompts

QA = "question -> answer"
DEMOS = [
    {"question": "Capital of France?", "answer": "Paris"},
    {"question": "Capital of Norway?", "answer": "Oslo", "augmented": True, "reasoning": "north"},
]
PERSON = {"object": {"name": "string", "born": "date"}, "name": "Person"}
ADA = {"name": "Ada", "born": "1815-12-10"}


def first_prompt(daemon, module, inputs=None):
    return prompts(daemon, "forward", {"module_id": module, "inputs": inputs or {"question": "q"}})[
        0
    ]


def test_demos_and_instructions_are_in_the_prompt_as_plain_dspy_puts_them(daemon, lm_server):
    state = {"demos": DEMOS[:1], "instructions": "Answer in one word."}
    module = create(daemon, "chain_of_thought", QA, state=state)
    plain = dspy.ChainOfThought(dspy.Signature(QA, "Answer in one word."))
    plain.predict.demos = [dspy.Example(**DEMOS[0])]
    theirs = plain_dspy(lm_server, new_id("plain"), plain, question="q")
    assert [first_prompt(daemon, module)] == theirs


def test_bootstrapped_demos_come_with_their_reasoning_as_in_plain_dspy(daemon, lm_server):
    module = create(daemon, "chain_of_thought", QA, state={"demos": DEMOS})
    plain = dspy.ChainOfThought(QA)
    plain.predict.demos = [dspy.Example(**demo) for demo in DEMOS]
    theirs = plain_dspy(lm_server, new_id("plain"), plain, question="q")
    assert [first_prompt(daemon, module)] == theirs
    assert "north" in str(theirs)


def test_the_seeds_state_map_is_applied_with_its_nulls(daemon, lm_server):
    model = new_id("seed")
    state = {
        "demos": DEMOS[:1],
        "temperature": 0.7,
        "max_tokens": 1500,
        "reasoning_field": "thinking",
        "instructions": None,
        "module_id": "3f2c",
        "signature": None,
    }
    module = create(
        daemon, "chain_of_thought", QA, state=state, config=None, lm=lm_at(lm_server, model)
    )
    (prompt,) = prompts(daemon, "forward", {"module_id": module, "inputs": {"question": "q"}})
    body = lm_server.requests[-1].body
    assert (body["temperature"], body["max_completion_tokens"]) == (0.7, 1500)
    assert "Capital of France?" in str(prompt)
    assert "{thinking}" in prompt[0]["content"]


def test_demos_in_the_config_are_learned_state_too(daemon):
    module = create(daemon, "predict", QA, config={"demos": DEMOS[:1], "instructions": "Be brief."})
    learned = daemon.call("get", {"kind": "module", "id": module})["state"]
    assert learned == {"demos": DEMOS[:1], "instructions": "Be brief."}


def test_get_gives_the_learned_state_back_as_it_was_sent(daemon):
    state = {
        "demos": [{"question": "q", "answer": None, "extra": {"nested": [1, None, {"k": None}]}}],
        "instructions": "Think.",
    }
    module = create(daemon, "predict", QA, state=state)
    assert daemon.call("get", {"kind": "module", "id": module})["state"] == state


def test_predictors_of_one_module_learn_apart_by_name(daemon):
    state = {
        "instructions": "For all.",
        "predictors": {
            "chain.predict": {"demos": DEMOS[:1]},
            "compare.predict": {"instructions": "Only compare."},
        },
    }
    module = create(daemon, "multi_chain_comparison", QA, config={"m": 2}, state=state)
    found = prompts(daemon, "forward", {"module_id": module, "inputs": {"question": "q"}})
    chains, compared = found[:2], found[2]
    assert all("Capital of France?" in str(prompt) for prompt in chains)
    assert all("For all." in prompt[0]["content"] for prompt in chains)
    assert "Capital of France?" not in str(compared)
    assert "Only compare." in compared[0]["content"]
    assert daemon.call("get", {"kind": "module", "id": module})["state"] == state


def test_typed_demos_are_written_as_plain_dspy_writes_typed_values(daemon):
    signature = {"inputs": {"who": PERSON}, "outputs": {"ok": "boolean"}}
    demos = [{"who": ADA, "ok": "true"}, {"who": "not a person", "ok": False}]
    module = create(daemon, "predict", signature, state={"demos": demos})
    prompt = first_prompt(daemon, module, {"who": ADA})
    texts = [message["content"] for message in prompt[1:]]
    assert texts[0].endswith('{"name": "Ada", "born": "1815-12-10"}')
    assert "[[ ## ok ## ]]\nTrue" in texts[1]
    assert "not a person" in texts[2]


def test_a_demo_may_have_any_field_names(daemon):
    demos = [{"question": "q", "answer": "a", "base": "x", "self": "y", "items": 1}]
    module = create(daemon, "predict", QA, state={"demos": demos})
    assert first_prompt(daemon, module)[1]["content"].endswith("q")


def test_demos_with_what_is_no_map_are_refused(daemon):
    from tests.daemon.asking import faults  # noqa: PLC0415

    spec = {"id": new_id(), "type": "predict", "signature": QA, "state": {"demos": ["q", {}]}}
    assert set(faults(daemon, "create_module", spec)) == {"state.demos[0]"}


@pytest.fixture(scope="module")
def fresh():
    """Another daemon, which has never heard of what this file's daemon knows."""
    with Port(stderr=subprocess.DEVNULL) as port:
        port.hello()
        port.wait_ready()
        port.call("configure", {"lm": {"provider": "embedded", "model": "echo"}})
        yield port


def test_an_export_in_a_fresh_process_gives_prompts_equal_to_the_byte(daemon, fresh):
    typed = {
        "inputs": [
            {"name": "who", "type": PERSON, "description": "The person"},
            {"name": "when", "type": "datetime", "optional": True},
            {"name": "tags", "type": "{:array, :string}", "default": ["a"]},
        ],
        "outputs": [
            {"name": "best", "type": {"array": PERSON}},
            {"name": "kind", "type": {"enum": ["a", 1]}},
        ],
        "instructions": "Choose.",
    }
    typed_state = {
        "demos": [{"who": ADA, "best": [ADA, ADA], "kind": 1, "when": "2024-01-02T03:04:05Z"}]
    }
    reward = {"name": "max_words", "limit": 3}
    modules = {
        create(daemon, "predict", typed, state=typed_state): {"who": ADA},
        create(daemon, "chain_of_thought", QA, state={"demos": DEMOS, "instructions": "I."}): None,
        create(daemon, "chain_of_thought", QA, config={"reasoning_field": "why"}): None,
        create(daemon, "multi_chain_comparison", QA, config={"m": 2}, state={"demos": DEMOS}): None,
        create(
            daemon, "best_of_n", QA, config={"n": 2, "reward": reward}, state={"demos": DEMOS}
        ): None,
        create(
            daemon, "refine", QA, config={"n": 2, "reward": reward, "module": "chain_of_thought"}
        ): None,
    }
    data = daemon.call("export", {"modules": list(modules)})
    assert fresh.call("import", data) == {"modules": len(modules), "programs": 0, "missing": []}
    for module, inputs in modules.items():
        args = {"module_id": module, "inputs": inputs or {"question": "Why?"}}
        ours, theirs = prompts(daemon, "forward", args), prompts(fresh, "forward", args)
        assert ours
        assert ours == theirs
        asked_for = {"kind": "module", "id": module}
        assert fresh.call("get", asked_for) == daemon.call("get", asked_for)
    assert fresh.call("export", {"modules": list(modules)}) == data


def test_an_exported_program_runs_alike_in_a_fresh_process(daemon, fresh):
    passages = create(
        daemon, "retrieve", config={"passages": ["Paris is in France.", "Oslo is not."]}
    )
    answer = create(daemon, "chain_of_thought", "passages: list[str], query -> answer")
    inner = program(daemon, {"look": passages, "answer": answer})
    custom = create(daemon, "custom", config={"program": inner})
    outer = program(daemon, {"ask": custom})
    data = daemon.call("export", {"programs": [outer]})
    assert {spec["id"] for spec in data["programs"]} == {inner, outer}
    assert {spec["id"] for spec in data["modules"]} == {passages, answer, custom}
    fresh.call("import", data)
    args = {"program_id": outer, "inputs": {"query": "Where is Paris?"}}
    assert prompts(fresh, "execute", args) == prompts(daemon, "execute", args)


def test_an_export_has_no_key_in_it(daemon):
    key = "sk-secret-of-the-export"
    lm = {"provider": "openai", "model": "m", "api_key": key}
    module = create(daemon, "predict", QA, lm=lm)
    data = daemon.call("export", {"modules": [module]})
    assert key not in str(data)
    assert data["modules"][0]["lm"] == {"provider": "openai", "model": "m"}
    assert key not in str(daemon.call("get", {"kind": "module", "id": module}))


def test_the_same_spec_has_the_same_version_in_every_process_and_under_every_id(daemon, fresh):
    spec = {"type": "predict", "signature": QA, "state": {"demos": DEMOS}}
    versions = {
        port.call("create_module", {"id": new_id(), **spec})["version"]
        for port in (daemon, fresh) * 2
    }
    assert len(versions) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"signature": "question -> reply"},
        {
            "signature": {
                "inputs": {"question": "string"},
                "outputs": {"answer": "string"},
                "name": "N",
            }
        },
        {"config": {"temperature": 0.5}},
        {"state": {"demos": DEMOS[:1]}},
        {"state": {"instructions": "x"}},
        {"type": "chain_of_thought"},
        {"lm": "other"},
        {"lm": {"provider": "openai", "model": "m", "api_key": "one"}},
    ],
)
def test_a_changed_spec_has_another_version(daemon, change):
    spec = {"id": new_id(), "type": "predict", "signature": QA}
    before = daemon.call("create_module", spec)["version"]
    assert daemon.call("create_module", {**spec, **change})["version"] != before
    assert daemon.call("create_module", spec)["version"] == before


def test_two_spellings_of_one_signature_are_one_version(daemon):
    fields = {
        "inputs": [{"name": "question", "type": "String.t()", "description": None}],
        "outputs": {"answer": ":string"},
    }
    versions = {
        daemon.call("create_module", {"id": new_id(), "type": "predict", "signature": signature})[
            "version"
        ]
        for signature in (QA, fields, "question: str -> answer: string")
    }
    assert len(versions) == 1
