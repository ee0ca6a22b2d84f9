"""Steps of programs through a spawned daemon: what runs, at once or not, and what is refused."""

from __future__ import annotations

import pytest

from tests.daemon.asking import (
    asked,
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

PASSAGES = [
    "The Eiffel Tower stands in Paris.",
    "Paris is the capital of France.",
    "Oslo is the capital of Norway.",
    "The tower was designed by Gustave Eiffel.",
]


def test_call_each_repeat_if_and_output_run_as_written(daemon):
    say = create(daemon, "predict", "text -> said")
    steps = [
        {"each": "$words", "as": "word", "do": [{"call": "say", "in": {"text": "$word"}}],
         "collect": "$said", "into": "all"},
        {"repeat": 3, "do": [{"call": "say", "in": {"text": "again"}, "as": "last"}],
         "until": {"equals": ["$last.said", "again"]}},
        {"if": {"less": [{"length": "$all"}, 2]},
         "then": [{"output": {"result": "few", "all": "$all"}}],
         "else": [{"output": {"result": {"join": "$all", "with": "+"}, "all": "$all"}}]},
    ]  # fmt: skip
    made = program(daemon, {"say": say}, steps=steps)
    result = daemon.call("execute", {"program_id": made, "inputs": {"words": ["a", "b"]}})
    assert fields(result) == {"result": "a+b", "all": ["a", "b"]}
    assert result["_meta"]["usage"]["embedded/echo"]["calls"] == 3
    assert execute(daemon, made, {"words": ["a"]})["result"] == "few"


def test_output_fields_may_have_any_names(daemon):
    say = create(daemon, "predict", "text -> said")
    names = {"self": "$said", "base": "$said", "dspy_x": "$said", "keys": "$said", "a-b": "$said"}
    made = program(daemon, {"say": say}, steps=[{"call": "say"}, {"output": names}])
    assert execute(daemon, made, {"text": "t"}) == dict.fromkeys(names, "t")


def parallel(daemon, lm, items="$words"):
    say = create(daemon, "predict", "text -> said", lm=lm)
    steps = [
        {"each": items, "as": "word", "parallel": True, "collect": "$said", "into": "all",
         "do": [{"call": "say", "in": {"text": "$word"}}]},
        {"output": {"all": "$all"}},
    ]  # fmt: skip
    return program(daemon, {"say": say}, steps=steps)


def test_a_parallel_each_asks_at_once_within_bounds_and_keeps_the_order(daemon, lm_server):
    lm = lm_at(lm_server, "together+slow-50")
    made = parallel(daemon, lm)
    words = [f"w{n}" for n in range(20)]
    result = daemon.call("execute", {"program_id": made, "inputs": {"words": words}}, trace=True)
    assert [said.split()[-1] for said in result["all"]] == words
    assert 1 < lm_server.peak_in_flight <= 8
    assert result["_meta"]["usage"][f"openai/{lm['model']}"]["calls"] == 20
    assert {row["inputs"]["text"] for row in result["_meta"]["trace"]} == set(words)
    assert {row["program_id"] for row in result["_meta"]["trace"]} == {made}


def test_other_requests_do_not_wait_while_a_parallel_each_does(daemon, lm_server):
    lm = lm_at(lm_server, "aside+slow-900")
    made = parallel(daemon, lm)
    other = create(daemon, "predict", "text -> said")
    running = daemon.send("execute", {"program_id": made, "inputs": {"words": ["a", "b"]}})
    lm_server.wait_for(lambda: lm_server.in_flight(lm["model"]) == 2)
    assert forward(daemon, other, {"text": "hi"}) == {"said": "hi"}
    assert not running.done()
    assert len(running.result(30)["all"]) == 2


def test_a_failure_in_a_parallel_each_is_the_answer_and_the_rest_is_not_begun(daemon, lm_server):
    lm = lm_at(lm_server, "refusing+auth")
    made = parallel(daemon, lm)
    args = {"program_id": made, "inputs": {"words": [f"w{n}" for n in range(200)]}}
    assert refused(daemon, "execute", args)["code"] == "lm_auth"
    assert len(asked(lm_server, lm["model"])) < 100


def test_a_cancelled_parallel_each_ends_its_lm_calls(daemon, lm_server):
    lm = lm_at(lm_server, "waiting+stall")
    made = parallel(daemon, lm)
    args = {"program_id": made, "inputs": {"words": [f"w{n}" for n in range(20)]}}
    future = daemon.send("execute", args)
    lm_server.wait_for(lambda: lm_server.in_flight(lm["model"]) == 8)
    assert daemon.call("cancel", {"request": future.request_id}) == {"cancelled": True}
    lm_server.wait_for(lambda: lm_server.in_flight(lm["model"]) == 0)
    assert len(asked(lm_server, lm["model"])) == 8
    assert future.exception(10).code == "cancelled"


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        ([{"call": "sya"}], "steps[0].call"),
        ([{"call": "say", "in": {"txt": "$t"}}], "steps[0].in.txt"),
        ([{"call": "say"}, {"output": {"x": "$nothing.y"}}], None),
        ([{"call": "say"}, {"repeat": 0, "do": [{"call": "say"}]}], "steps[1].repeat"),
        ([{"cal": "say"}], "steps[0]"),
        ([{"call": "say", "in": {"text": {"format": "{"}}}], "steps[0].in.text.format"),
    ],
)
def test_wrong_steps_are_refused_at_creation_with_their_path(daemon, steps, path):
    say = create(daemon, "predict", "text -> said")
    args = {"id": new_id(), "modules": [{"id": say, "name": "say"}], "steps": steps}
    if path is None:
        # A name that nothing binds is an input of the program.
        daemon.call("create_program", args)
        assert "inputs.nothing" in faults(daemon, "execute", {"program_id": args["id"]})
    else:
        assert path in faults(daemon, "create_program", args)


def test_what_a_step_cannot_do_is_a_program_error_with_its_path(daemon):
    say = create(daemon, "predict", "text -> said")
    steps = [
        {"call": "say"},
        {"if": True, "then": [{"output": {"x": {"first": "$items"}}}], "else": []},
        {"output": {"x": "$said"}},
    ]
    made = program(daemon, {"say": say}, steps=steps)
    error = refused(daemon, "execute", {"program_id": made, "inputs": {"text": "t", "items": []}})
    assert error["code"] == "program_error"
    assert error["details"]["path"] == "steps[1].then[0].output.x"


def test_the_two_hop_program_looks_twice_and_answers(daemon):
    lm = {"provider": "embedded", "model": "lexical"}
    modules = {
        "generate_query": create(
            daemon, "chain_of_thought", "context: list[str], question -> query", lm=lm
        ),
        "look": create(daemon, "retrieve", config={"passages": PASSAGES, "k": 2}),
        "answer": create(
            daemon, "chain_of_thought", "context: list[str], question -> answer", lm=lm
        ),
    }
    steps = [
        {"let": {"context": []}},
        {"repeat": 2, "do": [
            {"call": "generate_query"},
            {"call": "look", "in": {"query": "$query"}},
            {"let": {"context": {"concat": ["$context", "$passages"]}}},
        ]},
        {"call": "answer"},
        {"output": {"answer": "$answer", "context": "$context"}},
    ]  # fmt: skip
    made = program(daemon, modules, steps=steps)
    question = {"question": "Of which country is the city of the Eiffel Tower the capital?"}
    result = daemon.call("execute", {"program_id": made, "inputs": question}, trace=True)
    assert set(result["context"]) <= set(PASSAGES)
    assert len(result["context"]) == 4
    called = [row["module_id"] for row in result["_meta"]["trace"]]
    assert called == [modules["generate_query"]] * 2 + [modules["answer"]]
