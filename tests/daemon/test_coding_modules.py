"""Modules whose LM writes code: program_of_thought, code_act, rlm, in the sandbox."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import pytest

from tests.daemon.asking import asked, chat_reply, create, faults, forward, lm_at, new_id, refused

DOUBLE = "def double(n: int) -> int:\n    '''Twice a number.'''\n    return 2 * n"


def coding(daemon, lm_server, type_, signature, replies, **more):
    """A module of this type, and its LM, which will say these things in turn."""
    lm = lm_at(lm_server, new_id("m"))
    module = create(daemon, type_, signature, lm=lm, **more)
    lm_server.script(lm["model"], *[chat_reply(**reply) for reply in replies])
    return module, lm["model"]


def said(lm_server, model, number):
    return asked(lm_server, model)[number][-1]["content"]


def test_program_of_thought_answers_from_what_its_code_computed(daemon, lm_server):
    code = "```python\ntotal = sum(range(11))\nSUBMIT({'answer': total})\n```"
    replies = [
        {"reasoning": "add", "generated_code": code},
        {"reasoning": "so", "answer": "55"},
    ]
    module, model = coding(
        daemon, lm_server, "program_of_thought", "question -> answer: int", replies
    )
    found = forward(daemon, module, {"question": "1 to 10?"})
    assert found == {"reasoning": "so", "answer": 55}
    assert '{"output": {"answer": 55}}' in said(lm_server, model, 1)


def test_program_of_thought_repairs_code_that_fails(daemon, lm_server):
    replies = [
        {"reasoning": "try", "generated_code": "```python\nx = 1\ndel x\n```"},
        {"reasoning": "again", "generated_code": "```python\nSUBMIT(7)\n```"},
        {"reasoning": "so", "answer": "7"},
    ]
    module, model = coding(daemon, lm_server, "program_of_thought", "question -> answer", replies)
    assert forward(daemon, module, {"question": "q"})["answer"] == "7"
    assert "del" in said(lm_server, model, 1)


def test_code_that_never_runs_is_the_program_s_error(daemon, lm_server):
    bad = {"reasoning": "try", "generated_code": "```python\n1 / 0\n```"}
    module, _ = coding(
        daemon, lm_server, "program_of_thought", "q -> a", [bad, bad], config={"max_iters": 2}
    )
    error = refused(daemon, "forward", {"module_id": module, "inputs": {"q": "q"}})
    assert error["code"] == "program_error"
    assert "division by zero" in error["message"]


def test_code_act_defines_its_tools_in_the_sandbox(daemon, lm_server):
    replies = [
        {"generated_code": "```python\nprint(double(21))\n```", "finished": "True"},
        {"reasoning": "so", "answer": "42"},
    ]
    module, model = coding(
        daemon, lm_server, "code_act", "question -> answer", replies, tools=[{"code": DOUBLE}]
    )
    found = forward(daemon, module, {"question": "21 twice?"})
    assert found["answer"] == "42"
    assert found["trajectory"]["code_output_0"] == '"42\\n"'
    assert "Twice a number." in asked(lm_server, model)[0][0]["content"]


def test_a_tool_of_code_act_needs_its_source(daemon):
    tool = {"name": "t", "description": "d", "parameters": {}}
    spec = {"id": new_id(), "type": "code_act", "signature": "q -> a", "tools": [tool]}
    assert "tools[0].code" in faults(daemon, "create_module", spec)


def test_rlm_looks_into_its_inputs_with_code_and_keeps_what_it_bound(daemon, lm_server):
    replies = [
        {"reasoning": "look", "code": "```python\nwords = text.split()\nprint(len(words))\n```"},
        {"reasoning": "use", "code": "```python\nprint(double(len(words)))\n```"},
        {"reasoning": "done", "code": "```python\nSUBMIT(count=len(words))\n```"},
    ]
    module, model = coding(
        daemon, lm_server, "rlm", "text -> count: int", replies, tools=[{"code": DOUBLE}]
    )
    found = forward(daemon, module, {"text": "one two three"})
    assert found["count"] == 3
    assert [entry["output"].strip() for entry in found["trajectory"][:2]] == ["3", "6"]
    assert "sandboxed Python" in asked(lm_server, model)[0][0]["content"]


def test_rlm_asks_the_lm_from_within_its_code(daemon, lm_server):
    lm = lm_at(lm_server, new_id("m"))
    module = create(daemon, "rlm", "text -> answer", lm=lm)
    ask = "```python\nSUBMIT(answer=llm_query('what is ' + text))\n```"
    lm_server.script(lm["model"], chat_reply(reasoning="ask", code=ask), "a town")
    assert forward(daemon, module, {"text": "Rohrau"})["answer"] == "a town"
    assert asked(lm_server, lm["model"])[1][-1]["content"] == "what is Rohrau"


def test_the_code_of_rlm_asks_its_sub_lm_whatever_the_request_names(daemon, lm_server):
    own, sub = lm_at(lm_server, new_id("own")), lm_at(lm_server, new_id("sub"))
    other = lm_at(lm_server, new_id("other"))
    daemon.call("configure", {"lms": {sub["model"]: sub, other["model"]: other}})
    config = {"sub_lm": sub["model"]}
    module = create(daemon, "rlm", "text -> answer", lm=own, config=config)
    ask = "```python\nSUBMIT(answer=llm_query('what is ' + text))\n```"
    for lm in (own, other):
        lm_server.script(lm["model"], chat_reply(reasoning="ask", code=ask))
    lm_server.script(sub["model"], "a town", "a village")
    args = {"module_id": module, "inputs": {"text": "Rohrau"}}
    assert daemon.call("forward", args)["answer"] == "a town"
    result = daemon.call("forward", args, lm=other["model"])
    assert result["answer"] == "a village"
    counted = {name.split("/")[1]: used["calls"] for name, used in result["_meta"]["usage"].items()}
    assert counted == {other["model"]: 1, sub["model"]: 1}


def test_a_sub_lm_that_is_not_configured_is_told_before_any_lm_is_asked(daemon, lm_server):
    lm = lm_at(lm_server, new_id("m"))
    module = create(daemon, "rlm", "text -> answer", lm=lm, config={"sub_lm": "nobody"})
    args = {"module_id": module, "inputs": {"text": "x"}}
    assert refused(daemon, "forward", args)["code"] == "not_found"
    assert asked(lm_server, lm["model"]) == []


@pytest.mark.skipif(
    find_spec("deno") is not None or shutil.which("deno") is not None, reason="Deno is here"
)
def test_deno_is_offered_where_it_is(daemon):
    spec = {"id": new_id(), "type": "rlm", "signature": "q -> a", "config": {"interpreter": "deno"}}
    error = refused(daemon, "create_module", spec)
    assert error["code"] == "missing_extra"
    assert error["details"]["install"] == "pip install 'dspy[deno]'"


@pytest.mark.parametrize("type_", ["program_of_thought", "code_act", "rlm"])
def test_what_they_learned_goes_in_and_comes_out_by_dspy_s_names(daemon, type_):
    names = {
        "program_of_thought": "code_generate.predict",
        "code_act": "codeact",
        "rlm": "generate_action",
    }
    state = {"predictors": {names[type_]: {"instructions": "Be brief."}}}
    module = create(daemon, type_, "q -> a", state=state)
    assert daemon.call("get", {"kind": "module", "id": module})["state"] == state
    # Its LM fills every field with something, and may fail so: what counts is that it is built.
    assert daemon.call("batch", {"module_id": module, "inputs": [{"q": "x"}]})["total"] == 1
