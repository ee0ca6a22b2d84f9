"""Programs with source: what runs, what it may call, and whose mistake is whose."""

from __future__ import annotations

import threading
import time

import pytest

from tests.daemon.asking import (
    asked,
    chat_reply,
    create,
    execute,
    faults,
    fields,
    lm_at,
    new_id,
    program,
    refused,
)

TWO_HOP = """
context = ""
for hop in range(2):
    query = self.generate_query(question=question, context=context).query
    passages = self.search(query=query).passages
    context = context + "\\n\\n" + "\\n".join(passages)
answer = self.generate_answer(question=question, context=context)
result = {"answer": answer.answer, "context": context}
"""


def two_hop(daemon, lm=None):
    more = {} if lm is None else {"lm": lm}
    return {
        "generate_query": create(daemon, "predict", "question, context -> query", **more),
        "generate_answer": create(
            daemon, "chain_of_thought", "question, context -> answer", **more
        ),
        "search": create(
            daemon,
            "retrieve",
            config={"k": 1, "passages": ["Joyce wrote Ulysses.", "Joyce was born in Dublin."]},
        ),
    }


def qa(daemon, source, signature="question -> answer", **more):
    """A program of one module `qa`."""
    return program(daemon, {"qa": create(daemon, "predict", signature)}, forward_fn=source, **more)


def failed(daemon, program_id, inputs=None, **envelope):
    args = {"program_id": program_id, "inputs": inputs or {}}
    return refused(daemon, "execute", args, **envelope)


def test_the_seed_s_two_hop_program_runs_as_it_is(daemon, lm_server):
    lm = lm_at(lm_server, new_id("m"))
    made = program(daemon, two_hop(daemon, lm), forward_fn=TWO_HOP)
    lm_server.script(
        lm["model"],
        chat_reply(query="who wrote Ulysses"),
        chat_reply(query="where was Joyce born"),
        chat_reply(reasoning="so", answer="Dublin"),
    )
    found = execute(daemon, made, {"question": "Where was the author of Ulysses born?"})
    assert found == {
        "answer": "Dublin",
        "context": "\n\nJoyce wrote Ulysses.\n\nJoyce was born in Dublin.",
    }
    last = asked(lm_server, lm["model"])[-1][-1]["content"]
    assert "[[ ## context ## ]]\n\n\nJoyce wrote Ulysses." in last


@pytest.mark.parametrize(
    "source",
    [
        "result = self.qa(question=question)",
        "return self.qa(question=question)",
        "return {'answer': self.qa(question=question).answer}",
        "return {'answer': self.qa(question=question)['answer']}",
        "return dspy.Prediction(answer=self.qa(question=question).answer)",
        "return self.qa(question)",
        "return await self.qa.acall(question=question)",
        "def ask(text):\n    return self.qa(question=text)\nresult = ask(question)",
        "def forward(self, question):\n    return self.qa(question=question)",
        "async def forward(self, question):\n    return await self.qa.acall(question=question)",
        "answers = [self.qa(question=q).answer for q in [question]]\nreturn {'answer': answers[0]}",
        (
            "try:\n    return {'answer': question['x']}\nexcept TypeError:\n"
            "    return self.qa(question=question)"
        ),
    ],
)
def test_a_program_may_be_written_in_these_ways(daemon, source):
    assert execute(daemon, qa(daemon, source), {"question": "Who?"}) == {"answer": "Who?"}


def test_calls_that_are_awaited_together_run_at_the_same_time(daemon):
    lm = {"provider": "embedded", "model": "echo", "config": {"latency_ms": 300}}
    source = (
        "a, b, c = await asyncio.gather(self.qa.acall(question='1'), "
        "self.qa.acall(question='2'), self.qa.acall(question='3'))\n"
        "result = {'all': [a.answer, b.answer, c.answer]}"
    )
    made = qa(daemon, source)
    execute(daemon, made, lm=lm)
    begun = time.monotonic()
    one = execute(daemon, qa(daemon, "return self.qa(question='1')"), lm=lm)
    alone = time.monotonic() - begun
    begun = time.monotonic()
    assert execute(daemon, made, lm=lm) == {"all": ["1", "2", "3"]}
    assert time.monotonic() - begun < 2 * alone + 0.3
    assert one == {"answer": "1"}


def test_a_failure_of_a_module_can_be_caught_in_the_source(daemon):
    source = (
        "try:\n    self.qa(question=[])\nexcept ValueError as error:\n"
        "    result = {'error': str(error)}"
    )
    assert (
        "qa.question: Input should be a valid string"
        in execute(daemon, qa(daemon, source))["error"]
    )


def test_a_failure_that_is_not_caught_is_the_module_s_own(daemon, lm_server):
    lm = lm_at(lm_server, new_id("m") + "+auth")
    module = create(daemon, "predict", "question -> answer", lm=lm)
    made = program(daemon, {"qa": module}, forward_fn="return self.qa(question='q')")
    assert failed(daemon, made)["code"] == "lm_auth"


def test_an_input_that_a_module_refuses_is_the_request_s_fault(daemon):
    made = qa(daemon, "return self.qa(question=question)")
    found = faults(daemon, "execute", {"program_id": made, "inputs": {"question": [1]}})
    assert list(found) == ["inputs.question"]


def test_a_value_of_the_source_s_that_a_module_refuses_is_the_program_s_fault(daemon):
    error = failed(daemon, qa(daemon, "return self.qa(question=[1])"))
    assert (error["code"], error["details"]["module"]) == ("program_error", "qa")


@pytest.mark.parametrize(
    ("source", "kind", "line"),
    [
        ("x = 1\nresult = {'n': x / 0}", "ZeroDivisionError", 2),
        ("result = {}['a']", "KeyError", 1),
        ("def f():\n    raise ValueError('no')\nresult = {'a': f()}", "ValueError", 2),
        ("result = {'a': sorted({'a': 1}, key={}.get)}", "AttributeError", 1),
    ],
)
def test_what_the_source_raises_is_told_with_its_place(daemon, source, kind, line):
    details = failed(daemon, qa(daemon, source))["details"]
    assert (details["kind"], details["line"]) == (kind, line)
    assert details["excerpt"].startswith(source.splitlines()[line - 1])


@pytest.mark.parametrize(
    "source",
    ["return question", "x = {}\nreturn x['a'] if x else None", "return [x for x in question]"],
)
def test_a_program_that_gives_no_map_is_wrong(daemon, source):
    inputs = {"question": "q"} if "question" in source else {}
    assert failed(daemon, qa(daemon, source), inputs)["code"] == "program_error"


def test_a_result_that_is_bound_on_no_way_is_said(daemon):
    made = qa(daemon, "if question == 'x':\n    result = {}")
    assert "without binding `result`" in failed(daemon, made, {"question": "y"})["message"]


def test_mistakes_are_found_when_the_program_is_created(daemon):
    module = create(daemon, "predict", "question -> answer")
    args = {"id": new_id(), "modules": [{"id": module, "name": "qa"}]}
    source = "result = self.qa(qestion=question)"
    error = refused(daemon, "create_program", {**args, "forward_fn": source})
    assert error["code"] == "program_error"
    assert error["details"]["faults"][1]["nearest"] == "question"


def test_missing_and_unknown_inputs_are_refused(daemon):
    made = qa(daemon, "return self.qa(question=question)")
    found = faults(daemon, "execute", {"program_id": made, "inputs": {"qestion": "q"}})
    assert set(found) == {"inputs.question", "inputs.qestion"}


def test_inputs_with_a_default_may_be_left_out(daemon):
    made = qa(daemon, "def forward(self, question, k=3):\n    return {'k': k, 'q': question}")
    assert execute(daemon, made, {"question": "q"}) == {"k": 3, "q": "q"}
    assert execute(daemon, made, {"question": "q", "k": 5})["k"] == 5


def test_the_source_comes_back_with_the_spec_and_survives_export(daemon, spawn):
    made = program(daemon, two_hop(daemon), forward_fn=TWO_HOP, limits={"calls": 7})
    spec = daemon.call("get", {"kind": "program", "id": made})
    assert (spec["forward_fn"], spec["limits"]) == (TWO_HOP, {"calls": 7})
    other = spawn()
    other.hello()
    other.call("import", daemon.call("export", {"programs": [made]}))
    again = other.call("get", {"kind": "program", "id": made})
    assert again == spec


def test_a_program_within_a_program_runs_within_one_worker(spawn):
    port = spawn("--sandbox-workers", "1")
    port.hello()
    port.call("configure", {"lm": {"provider": "embedded", "model": "echo"}})
    inner = qa(port, "return self.qa(question=question + '!')")
    part = create(port, "custom", config={"program": inner})
    outer = program(port, {"inner": part}, forward_fn="return self.inner(question=question)")
    assert execute(port, outer, {"question": "q"}) == {"answer": "q!"}


def test_another_program_s_steps_may_call_it_and_name_any_field_of_its_answer(daemon):
    inner = qa(daemon, "fields = dict(a=question)\nreturn fields")
    part = create(daemon, "custom", config={"program": inner})
    steps = [
        {"call": "inner", "in": {"question": "$question"}},
        {"output": {"got": "$inner.a"}},
    ]
    outer = program(daemon, {"inner": part}, steps=steps)
    assert execute(daemon, outer, {"question": "q"}) == {"got": "q"}


def test_a_metric_may_name_any_field_of_outputs_that_are_not_known(daemon):
    made = qa(daemon, "return self.qa(question=question).toDict()")
    args = {"program_id": made, "devset": [{"question": "q", "answer": "q"}]}
    assert daemon.call("evaluate", {**args, "metric": "exact_match"})["score"] == 1.0


def test_its_own_limits_are_kept(daemon):
    source = "for n in range(10):\n    self.qa(question=str(n))\nresult = {}"
    error = failed(daemon, qa(daemon, source, limits={"calls": 3}))
    assert (error["code"], error["details"]["bound"]) == ("sandbox_limit", "calls")


def test_its_own_limits_are_no_larger_than_the_daemon_s(spawn):
    port = spawn()
    port.hello()
    port.call("configure", {"limits": {"sandbox_calls": 2}})
    port.call("configure", {"lm": {"provider": "embedded", "model": "echo"}})
    source = "for n in range(10):\n    self.qa(question=str(n))\nresult = {}"
    error = failed(port, qa(port, source, limits={"calls": 5}))
    assert error["details"]["bound"] == "calls"


# The end of a request


def test_a_budget_cannot_be_caught(daemon):
    source = (
        "while True:\n    try:\n        self.qa(question='q')\n    except BaseException:\n"
        "        pass\nresult = {}"
    )
    error = failed(daemon, qa(daemon, source), budget={"lm_calls": 3})
    assert error["code"] == "budget_exceeded"


def test_a_deadline_ends_a_program_that_waits(daemon):
    lm = {"provider": "embedded", "model": "echo", "config": {"latency_ms": 60_000}}
    error = failed(daemon, qa(daemon, "return self.qa(question='q')"), lm=lm, deadline_ms=300)
    assert error["code"] == "deadline_exceeded"


def test_a_cancel_ends_a_program_that_waits_for_several_calls(daemon):
    lm = {"provider": "embedded", "model": "echo", "config": {"latency_ms": 60_000}}
    source = (
        "a = await asyncio.gather(self.qa.acall(question='a'), self.qa.acall(question='b'))\n"
        "result = {}"
    )
    made = qa(daemon, source)
    future = daemon.send("execute", {"program_id": made, "inputs": {}}, lm=lm)
    cancelled = threading.Event()

    def cancel():
        daemon.call("cancel", {"request": future.request_id})
        cancelled.set()

    threading.Timer(0.5, cancel).start()
    with pytest.raises(Exception, match="cancelled"):
        future.result(30)
    assert cancelled.wait(30)


# Tools


def test_tools_in_source_are_called_as_methods_of_self(daemon):
    tool = {"code": "def twice(n: int) -> int:\n    '''Twice a number.'''\n    return 2 * n"}
    made = qa(daemon, "result = {'n': self.twice(n=4), 'm': self.twice(5)}", tools=[tool])
    assert execute(daemon, made) == {"n": 8, "m": 10}


def test_a_tool_that_fails_can_be_caught(daemon):
    tool = {"code": "def bad(n: int):\n    '''Fail.'''\n    return 1 / n"}
    source = (
        "try:\n    self.bad(n=0)\nexcept RuntimeError as error:\n    result = {'e': str(error)}"
    )
    assert "ZeroDivisionError" in execute(daemon, qa(daemon, source, tools=[tool]))["e"]


def test_a_tool_may_not_have_a_module_s_name(daemon):
    tool = {"name": "qa", "description": "", "parameters": {}}
    module = create(daemon, "predict", "question -> answer")
    args = {"id": new_id(), "modules": [{"id": module, "name": "qa"}], "tools": [tool]}
    found = faults(daemon, "create_program", {**args, "forward_fn": "result = {}"})
    assert "tools[0].name" in found


def test_hello_says_how_source_is_locked_in(daemon):
    about = daemon.hello()["sandbox"]
    assert about["engine"] == "pydantic-monty"
    assert about["jailed"] is ("note" not in about)


def test_what_the_source_prints_reaches_nobody(daemon):
    source = (
        'for n in range(20):\n    print(\'{"id": 1, "result": "forged"}\')\n'
        "return self.qa(question='q')"
    )
    assert execute(daemon, qa(daemon, source)) == {"answer": "q"}
    assert daemon.unrouted == []


def test_batch_runs_many_at_once(daemon):
    made = qa(daemon, "return self.qa(question=question)")
    rows = [{"question": str(n)} for n in range(40)]
    found = daemon.call("batch", {"program_id": made, "inputs": rows, "max_concurrency": 16})
    assert [fields(row["outputs"]) for row in found["rows"]] == [
        {"answer": str(n)} for n in range(40)
    ]
