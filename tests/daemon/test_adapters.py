"""Prompt adapters through a spawned daemon: each answers, and a switch is in order of arrival."""

from __future__ import annotations

import dspy
import pytest

from tests.daemon.asking import asked, chat_reply, create, forward, lm_at, new_id, plain_dspy


@pytest.fixture
def adapter(daemon, lm_server):
    """Switches adapters; the file's daemon has the chat adapter again afterwards."""

    def switch(name):
        if name == "two_step":
            extraction = lm_at(lm_server, "extraction")
            daemon.send("configure", {"adapter": {"name": name, "extraction_lm": extraction}})
        else:
            daemon.send("configure", {"adapter": name})

    yield switch
    daemon.call("configure", {"adapter": "chat"})


PLAIN_ADAPTERS = {"chat": dspy.ChatAdapter, "json": dspy.JSONAdapter, "xml": dspy.XMLAdapter}


@pytest.mark.parametrize("name", ["chat", "json", "xml", "two_step"])
def test_every_adapter_answers_and_a_switch_holds_from_the_next_request_on(
    daemon, lm_server, adapter, name
):
    model = new_id("adapter")
    lm = lm_at(lm_server, model)
    signature = "question: str, n: int -> answer: str, score: float"
    module = create(daemon, "chain_of_thought", signature)
    args = {"module_id": module, "inputs": {"question": "why?", "n": 2}}
    before = daemon.send("forward", args, lm=lm)
    adapter(name)
    result = daemon.call("forward", args, lm=lm, trace=True)
    assert set(result) == {"reasoning", "answer", "score", "_meta"}
    assert isinstance(result["score"], float)
    assert set(before.result(10)) == {"reasoning", "answer", "score", "_meta"}
    if name in PLAIN_ADAPTERS:
        plain = plain_dspy(
            lm_server,
            "plain-" + model,
            dspy.ChainOfThought(signature),
            adapter=PLAIN_ADAPTERS[name](),
            question="why?",
            n=2,
        )
        assert [row["prompt"] for row in result["_meta"]["trace"]] == plain


def test_the_two_step_adapter_extracts_with_its_own_lm(daemon, lm_server, adapter):
    adapter("two_step")
    model = new_id("first-step")
    module = create(daemon, "predict", "question -> answer")
    before = len(asked(lm_server, "extraction"))
    forward(daemon, module, {"question": "q"}, lm=lm_at(lm_server, model))
    assert len(asked(lm_server, model)) == 1
    assert len(asked(lm_server, "extraction")) == before + 1


def test_refine_gives_its_hint_through_the_two_step_adapter(daemon, lm_server, adapter):
    adapter("two_step")
    model = new_id("refining")
    config = {"n": 2, "reward": {"name": "exact_match", "expected": "no"}}
    module = create(daemon, "refine", "question -> answer", config=config)
    lm_server.script(
        "extraction",
        chat_reply(answer="yes"),
        chat_reply(discussion="d", advice='{"inner": "say no"}'),
        chat_reply(answer="no"),
    )
    found = forward(daemon, module, {"question": "q"}, lm=lm_at(lm_server, model))
    assert found == {"answer": "no"}
    assert "say no" in str(asked(lm_server, model)[-1])


def test_an_adapter_is_its_tenants_and_the_others_keep_theirs(daemon, lm_server):
    module = create(daemon, "predict", "question -> answer")
    daemon.call("configure", {"adapter": "json"}, tenant="of-json")

    def prompt(tenant):
        model = new_id("tenant")
        args = {"module_id": module, "inputs": {"question": "why?"}}
        daemon.call("forward", args, lm=lm_at(lm_server, model), tenant=tenant)
        return str(asked(lm_server, model)[0])

    assert "JSON" in prompt("of-json")
    assert "JSON" not in prompt("another")
    assert "JSON" not in prompt(None)
