"""Programs through a spawned daemon: chains, steps, parts, custom modules, whose mistake it is."""

from __future__ import annotations

import threading

import pytest

from tests.daemon.asking import (
    asked,
    chat_reply,
    create,
    execute,
    faults,
    fields,
    forward,
    lm_at,
    new_id,
    program,
    refused,
)

QA = "question -> answer"


def at(server, word="m"):
    return lm_at(server, new_id(word))


# Chains


def test_a_program_of_one_module_is_that_module(daemon):
    module = create(daemon, "predict", QA)
    found = execute(daemon, program(daemon, {"answer": module}), {"question": "q"})
    assert found == forward(daemon, module, {"question": "q"})


def test_modules_are_chained_outputs_feeding_inputs_by_name(daemon, lm_server):
    lm = at(lm_server)
    first = create(daemon, "predict", "question -> query", lm=lm)
    second = create(daemon, "predict", "query, question -> answer", lm=lm)
    lm_server.script(lm["model"], chat_reply(query="the query"), chat_reply(answer="done"))
    chain = program(daemon, {"ask": first, "reply": second})
    assert execute(daemon, chain, {"question": "the question"}) == {"answer": "done"}
    last = asked(lm_server, lm["model"])[-1][-1]["content"]
    assert "[[ ## query ## ]]\nthe query" in last
    assert "[[ ## question ## ]]\nthe question" in last


def test_an_input_that_nothing_feeds_is_refused_at_creation_with_what_there_is(daemon):
    first = create(daemon, "predict", "question -> query")
    second = create(daemon, "predict", "qery, context -> answer")
    modules = [{"id": first, "name": "a"}, {"id": second, "name": "b"}]
    found = faults(daemon, "create_program", {"id": new_id(), "modules": modules})
    assert set(found) == {"modules[1].inputs.qery", "modules[1].inputs.context"}
    assert found["modules[1].inputs.qery"]["nearest"] == "query"
    assert "question, query" in found["modules[1].inputs.context"]["message"]


def test_a_reference_to_no_module_needs_its_spec(daemon):
    error = refused(daemon, "create_program", {"id": new_id(), "modules": [{"id": "nowhere"}]})
    assert error["code"] == "not_found"
    assert error["details"] == {"kind": "module", "id": "nowhere", "need": "spec"}


def test_whole_specs_without_names_are_created_and_get_names(daemon):
    ids = [new_id("3f2c"), "summarise"]
    specs = [
        {"id": ids[0], "type": "predict", "signature": "question -> query", "state": {"demos": []}},
        {"id": ids[1], "type": "predict", "signature": "query -> answer", "state": {}},
    ]
    made = new_id("p")
    daemon.call("create_program", {"id": made, "modules": specs, "forward_fn": None})
    refs = daemon.call("get", {"kind": "program", "id": made})["modules"]
    assert refs == [{"id": ids[0], "name": "module_1"}, {"id": ids[1], "name": "summarise"}]
    assert set(execute(daemon, made, {"question": "q"})) == {"answer"}
    assert set(forward(daemon, ids[1], {"query": "q"})) == {"answer"}


def test_a_wrong_module_within_a_program_is_refused_with_its_path_and_leaves_nothing(daemon):
    good, bad, made = new_id(), new_id(), new_id("p")
    specs = [
        {"id": good, "type": "predict", "signature": QA},
        {"id": bad, "type": "predict", "signature": "question -> answr: strin"},
    ]
    found = faults(daemon, "create_program", {"id": made, "modules": specs})
    assert set(found) == {"modules[1].signature.outputs[0].type"}
    for kind, key in (("module", good), ("program", made)):
        assert refused(daemon, "get", {"kind": kind, "id": key})["code"] == "not_found"


def test_modules_may_have_the_names_of_dspys_own_attributes(daemon):
    names = ["forward", "batch", "history", "predictors", "deepcopy", "read", "run", "parts"]
    modules = {name: create(daemon, "predict", QA) for name in names}
    steps = [{"call": name, "in": {"question": "$question"}} for name in names]
    made = program(daemon, modules, steps=[*steps, {"output": {"answer": "$parts.answer"}}])
    assert set(execute(daemon, made, {"question": "q"})) == {"answer"}


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"forward": "elixir"}, "forward"),
        ({"forward": "host", "steps": [{"call": "m"}]}, "steps"),
        ({"forward_fn": "result = {}", "steps": [{"call": "m"}]}, "steps"),
        ({"forward_fn": "result = {}", "forward": "host"}, "forward"),
        ({"limits": {"calls": 1}}, "limits"),
        ({"signature": "q -> a"}, "signature"),
    ],
)
def test_a_program_has_one_way(daemon, more, path):
    module = create(daemon, "predict", QA)
    args = {"id": new_id(), "modules": [{"id": module, "name": "m"}], **more}
    assert path in faults(daemon, "create_program", args)


# Inputs


def test_a_programs_inputs_are_checked_by_name_before_anything_is_asked(daemon, lm_server):
    lm = at(lm_server)
    made = program(daemon, {"a": create(daemon, "predict", QA, lm=lm)})
    args = {"program_id": made, "inputs": {"qestion": "q"}}
    found = faults(daemon, "execute", args)
    assert set(found) == {"inputs.question", "inputs.qestion"}
    assert found["inputs.qestion"]["nearest"] == "question"
    assert not asked(lm_server, lm["model"])


def test_an_ill_typed_input_of_a_program_is_invalid_args_at_the_requests_path(daemon):
    made = program(daemon, {"a": create(daemon, "predict", "n: int, xs: list[int] -> answer")})
    args = {"program_id": made, "inputs": {"n": "many", "xs": [1, "x"]}}
    assert set(faults(daemon, "execute", args)) == {"inputs.n", "inputs.xs[1]"}


def test_a_value_that_a_module_made_and_the_next_does_not_take_is_a_program_error(daemon):
    first = create(daemon, "predict", "question -> n")
    second = create(daemon, "predict", "n: int -> answer")
    made = program(daemon, {"first": first, "second": second})
    error = refused(daemon, "execute", {"program_id": made, "inputs": {"question": "q"}})
    assert error["code"] == "program_error"
    assert error["details"]["module"] == "second"
    assert [fault["path"] for fault in error["details"]["faults"]] == ["second.n"]


def test_a_program_within_a_program_blames_whoever_gave_the_value(daemon):
    inner = program(daemon, {"count": create(daemon, "predict", "n: int -> answer")})
    custom = create(daemon, "custom", config={"program": inner})
    make = create(daemon, "predict", "question -> n")
    theirs = program(daemon, {"inner": custom})
    assert set(faults(daemon, "execute", {"program_id": theirs, "inputs": {"n": "x"}})) == {
        "inputs.n"
    }
    ours = program(daemon, {"make": make, "inner": custom})
    error = refused(daemon, "execute", {"program_id": ours, "inputs": {"question": "q"}})
    assert (error["code"], error["details"]["module"]) == ("program_error", "inner")


def test_typed_outputs_reach_the_next_module_as_values(daemon, lm_server):
    lm = at(lm_server)
    person = {"object": {"name": "string", "born": "date"}, "name": "Person"}
    first = create(
        daemon,
        "predict",
        {"inputs": {"q": "string"}, "outputs": {"people": {"array": person}}},
        lm=lm,
    )
    second = create(
        daemon, "predict", {"inputs": {"who": person}, "outputs": {"code": "code"}}, lm=lm
    )
    steps = [
        {"call": "find"},
        {"call": "show", "in": {"who": "$people.1"}},
        {"output": {"code": "$code", "year": "$people.0.born"}},
    ]
    made = program(daemon, {"find": first, "show": second}, steps=steps)
    people = '[{"name": "A", "born": "2001-01-01"}, {"name": "B", "born": "2002-02-02"}]'
    lm_server.script(lm["model"], chat_reply(people=people), chat_reply(code="```\nx\n```"))
    assert execute(daemon, made, {"q": "who"}) == {"code": "x", "year": "2001-01-01"}
    assert '{"name": "B", "born": "2002-02-02"}' in asked(lm_server, lm["model"])[-1][-1]["content"]


# Options, LMs, versions


def test_a_requests_options_reach_every_module_of_a_program(daemon, lm_server):
    one, other = at(lm_server), at(lm_server)
    first = create(daemon, "predict", "question -> query", lm=one, config={"temperature": 0.1})
    second = create(daemon, "chain_of_thought", "query -> answer", lm=other)
    made = program(daemon, {"a": first, "b": second})
    daemon.call(
        "execute", {"program_id": made, "inputs": {"question": "q"}, "config": {"temperature": 0.8}}
    )
    sent = {r.model: r.body["temperature"] for r in lm_server.requests[-2:]}
    assert sent == {one["model"]: 0.8, other["model"]: 0.8}


def test_a_replaced_module_changes_its_programs_version_and_what_runs(daemon):
    module = create(daemon, "predict", QA)
    args = {"id": new_id("p"), "modules": [{"id": module, "name": "m"}]}
    before = daemon.call("create_program", args)["version"]
    asked_for = {"kind": "program", "id": args["id"]}
    assert daemon.call("get", asked_for)["version"] == before
    changed = {"id": module, "type": "chain_of_thought", "signature": QA}
    daemon.call("create_module", changed)
    after = daemon.call("get", asked_for)["version"]
    assert after != before
    assert daemon.call("create_program", args)["version"] == after
    assert set(execute(daemon, args["id"], {"question": "q"})) == {"reasoning", "answer"}


def test_a_module_replaced_by_one_that_does_not_fit_is_told_when_the_program_runs(daemon):
    first = create(daemon, "predict", "question -> query")
    second = create(daemon, "predict", "query -> answer")
    made = program(daemon, {"a": first, "b": second})
    daemon.call("create_module", {"id": first, "type": "predict", "signature": "question -> other"})
    found = faults(daemon, "execute", {"program_id": made, "inputs": {"question": "q"}})
    assert set(found) == {"modules[1].inputs.query"}
    assert daemon.call("get", {"kind": "program", "id": made})["id"] == made


def test_a_request_in_flight_finishes_on_the_module_it_began_with(daemon, lm_server):
    lm = lm_at(lm_server, new_id("old") + "+slow-200")
    module = create(daemon, "predict", QA, lm=lm)
    future = daemon.send("forward", {"module_id": module, "inputs": {"question": "q"}})
    lm_server.wait_for(lambda: lm_server.in_flight(lm["model"]) == 1)
    daemon.call(
        "create_module", {"id": module, "type": "predict", "signature": "question -> other"}
    )
    assert set(fields(future.result(10))) == {"answer"}
    assert set(forward(daemon, module, {"question": "q"})) == {"other"}


# Custom modules


def test_a_custom_module_is_a_program_by_another_name(daemon):
    inner = program(daemon, {"m": create(daemon, "chain_of_thought", QA)})
    custom = create(daemon, "custom", config={"program": inner})
    assert set(forward(daemon, custom, {"question": "q"})) == {"reasoning", "answer"}
    outer = program(daemon, {"inner": custom, "more": create(daemon, "predict", "answer -> more")})
    assert set(execute(daemon, outer, {"question": "q"})) == {"more"}


def test_a_custom_module_of_no_program_needs_its_spec(daemon):
    spec = {"id": new_id(), "type": "custom", "config": {"program": "nowhere"}}
    error = refused(daemon, "create_module", spec)
    assert error["code"] == "not_found"
    assert error["details"] == {"kind": "program", "id": "nowhere", "need": "spec"}


def test_a_program_that_would_call_itself_is_refused_whichever_way_the_circle_closes(daemon):
    plain = create(daemon, "predict", QA)
    first = program(daemon, {"m": plain})
    custom = create(daemon, "custom", config={"program": first})
    again = {"id": first, "modules": [{"id": custom, "name": "m"}]}
    assert set(faults(daemon, "create_program", again)) == {"modules[0]"}
    closing = {"id": plain, "type": "custom", "config": {"program": first}}
    assert set(faults(daemon, "create_module", closing)) == {"config.program.modules[0]"}
    assert set(execute(daemon, first, {"question": "q"})) == {"answer"}


def test_programs_within_programs_that_multiply_are_refused_at_once(daemon):
    below = program(daemon, {"m": create(daemon, "predict", QA)})
    for _ in range(3):
        custom = create(daemon, "custom", config={"program": below})
        args = {
            "id": new_id("p"),
            "modules": [{"id": custom, "name": f"m{n}"} for n in range(20)],
            "steps": [{"call": "m0"}],
        }
        below = args["id"]
        if _ < 2:
            daemon.call("create_program", args)
    assert refused(daemon, "create_program", args)["code"] == "invalid_args"


def test_one_program_runs_in_many_requests_at_once(daemon):
    made = program(daemon, {"m": create(daemon, "predict", QA)})
    barrier = threading.Barrier(4)
    answers = {}

    def ask(n):
        barrier.wait(10)
        answers[n] = [execute(daemon, made, {"question": f"q{n}-{k}"})["answer"] for k in range(20)]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == {n: [f"q{n}-{k}" for k in range(20)] for n in range(4)}
