"""What the daemon asks of its host: LMs, tools, retrievers, rewards, metrics, forwards."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from bridge.client import Port, RequestFailed
from protocol.errors import HostError
from tests.daemon.asking import (
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
from tests.daemon.hosting import Host, last_question
from tests.daemon.raw_daemon import packed
from tests.daemon.streaming import forward_streamed

ADD = {
    "name": "add",
    "description": "adds two numbers",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
}


def step(tool, args="{}"):
    return chat_reply(next_thought="go on", next_tool_name=tool, next_tool_args=args)


def agent(host, *replies, **more):
    """A ReAct module whose LM says these in turn; its id, and what it was asked."""
    turns = iter(replies)
    name = new_id("lm")
    lm = host.lm(name, lambda _: next(turns))
    module = create(host.port, "react", "question -> answer", tools=[ADD], lm=lm, **more)
    return module, lambda: [call for call in host.asked if call.name == name]


ANSWERED = chat_reply(reasoning="because", answer="5")


# LMs


def test_the_host_is_the_lm(host):
    lm = host.lm(new_id("lm"), lambda call: chat_reply(answer=last_question(call).upper()))
    module = create(host.port, "predict", "question -> answer", lm=lm)
    assert forward(host.port, module, {"question": "why"}) == {"answer": "WHY"}


def test_the_usage_that_a_host_lm_tells_is_counted(host):
    usage = {"input_tokens": 11, "output_tokens": 7}
    lm = host.lm(new_id("lm"), lambda _: {"text": chat_reply(answer="a"), "usage": usage})
    module = create(host.port, "predict", "question -> answer", lm=lm)
    result = host.port.call("forward", {"module_id": module, "inputs": {"question": "q"}})
    used = result["_meta"]["usage"][f"host/{lm['model']}"]
    assert (used["calls"], used["input_tokens"], used["output_tokens"]) == (1, 11, 7)


def test_a_host_lm_is_told_the_options_of_the_call(host):
    lm = host.lm(new_id("lm"), lambda _: chat_reply(answer="a"))
    module = create(
        host.port, "predict", "question -> answer", lm={**lm, "temperature": 0.5, "max_tokens": 9}
    )
    forward(host.port, module, {"question": "q"}, config={"stop": ["x"]})
    told = host.asked[-1].args
    assert told["config"] == {"temperature": 0.5, "max_tokens": 9, "stop": ["x"]}
    assert [message["role"] for message in told["messages"]] == ["system", "user"]
    assert told["tools"] == []
    assert told["stream"] is False


def test_a_host_lm_that_is_rate_limited_is_asked_again_as_often_as_its_spec_says(host):
    replies = iter(["busy", "busy", chat_reply(answer="third")])

    def answer(call):
        said = next(replies)
        if said == "busy":
            raise RequestFailed({"code": "lm_rate_limited", "message": "slow down"})
        return said

    lm = host.lm(new_id("lm"), answer)
    module = create(
        host.port,
        "predict",
        "question -> answer",
        lm={**lm, "max_retries": 2, "retry_delay_ms": 1},
    )
    assert forward(host.port, module, {"question": "q"}) == {"answer": "third"}


def test_what_a_host_lm_fails_with_keeps_its_code(host):
    def fail(call):
        raise RequestFailed({"code": "lm_auth", "message": "no key"})

    module = create(host.port, "predict", "question -> answer", lm=host.lm(new_id("lm"), fail))
    assert refused(host.port, "forward", ask(module))["code"] == "lm_auth"


def ask(module):
    return {"module_id": module, "inputs": {"question": "q"}}


@pytest.mark.parametrize("said", [7, None, ["text"], {"txt": "x"}, {"text": 5}])
def test_nonsense_of_a_host_lm_is_the_hosts_error(host, said):
    module = create(
        host.port, "predict", "question -> answer", lm=host.lm(new_id("lm"), lambda _: said)
    )
    assert refused(host.port, "forward", ask(module))["code"] == "host_error"


def test_a_host_lm_that_is_silent_times_out_by_its_spec(host):
    lm = host.lm(new_id("lm"), lambda _: time.sleep(2))
    module = create(
        host.port,
        "predict",
        "question -> answer",
        lm={**lm, "timeout_s": 0.1, "max_retries": 0},
    )
    error = refused(host.port, "forward", ask(module))
    assert error["code"] == "host_error"
    assert host.withdrawn


def test_generate_asks_the_host(host):
    lm = host.lm(new_id("lm"), lambda call: call.args["messages"][0]["content"][::-1])
    result = host.port.call("generate", {"prompt": "abc", "lm": lm})
    assert result["text"] == "cba"


# Tools


def test_react_calls_tools_of_the_host(host):
    host.answers("tool", "add", lambda call: call.args["a"] + call.args["b"])
    module, _ = agent(host, step("add", '{"a": 2, "b": 3}'), step("finish"), ANSWERED)
    result = forward(host.port, module, {"question": "2+3"})
    assert result["answer"] == "5"
    assert result["trajectory"]["observation_0"] == 5


def test_a_tool_gets_its_arguments_as_they_are(host):
    seen = []
    host.answers("tool", "add", lambda call: seen.append(call.args))
    module, _ = agent(host, step("add", '{"a": 2, "b": -3}'), step("finish"), ANSWERED)
    forward(host.port, module, {"question": "2-3"})
    assert seen == [{"a": 2, "b": -3}]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ('{"a": 2}', "'b' is a required property"),
        ('{"a": 2, "b": "x"}', "b: 'x' is not of type 'integer'"),
    ],
)
def test_wrong_tool_arguments_are_told_to_the_lm_and_not_to_the_host(host, args, told):
    host.answers("tool", "add", lambda call: pytest.fail("was called"))
    module, _ = agent(host, step("add", args), step("finish"), ANSWERED)
    result = forward(host.port, module, {"question": "q"})
    assert told in result["trajectory"]["observation_0"]


def test_a_tool_that_fails_is_told_to_the_lm_without_our_paths(host):
    def fail(call):
        raise ValueError("no such city")

    host.answers("tool", "add", fail)
    module, turns = agent(host, step("add", '{"a": 1, "b": 1}'), step("finish"), ANSWERED)
    result = forward(host.port, module, {"question": "q"})
    assert "no such city" in result["trajectory"]["observation_0"]
    seen = turns()[1].args["messages"][-1]["content"]
    assert "no such city" in seen
    assert ".py" not in seen
    assert "Traceback" not in seen


def test_a_streamed_agent_tells_when_its_tools_begin_and_end(host):
    host.answers("tool", "add", lambda call: 5)
    module, _ = agent(host, step("add", '{"a": 2, "b": 3}'), step("finish"), ANSWERED)
    hearing = forward_streamed(host.port, module, {"question": "2+3"})
    told = hearing.statuses("tool_start", "tool_end")
    assert [(row["status"], row["tool"], row["module_id"]) for row in told] == [
        ("tool_start", "add", module),
        ("tool_end", "add", module),
    ]
    assert hearing.last_call() == {"reasoning": "because", "answer": "5"}


def test_react_keeps_its_tools_when_it_is_exported(host):
    module, _ = agent(host)
    spec = host.port.call("get", {"kind": "module", "id": module})
    assert spec["tools"] == [ADD]


def test_instructions_of_a_react_state_are_its_signatures(host):
    module, turns = agent(
        host, step("finish"), ANSWERED, state={"instructions": "Be a careful clerk."}
    )
    forward(host.port, module, {"question": "q"})
    system = turns()[0].args["messages"][0]["content"]
    assert "Be a careful clerk." in system
    assert "adds two numbers" in system


def test_the_seeds_max_iterations_is_max_iters(host):
    module, _ = agent(host, state={"max_iterations": 5})
    assert host.port.call("get", {"kind": "module", "id": module})["config"]["max_iters"] == 5


def test_react_stops_after_max_iters(host):
    host.answers("tool", "add", lambda call: 2)
    module, turns = agent(host, step("add", '{"a": 1, "b": 1}'), ANSWERED, config={"max_iters": 1})
    forward(host.port, module, {"question": "q"})
    assert len(turns()) == 2


def test_a_host_lm_serves_native_tool_calls(host):
    """With the JSON adapter ReActV2 hands its tools to the LM, and the host answers with calls."""
    host.answers("tool", "add", lambda call: call.args["a"] + call.args["b"])
    replies = iter(
        [
            {"tool_calls": [{"id": "c1", "name": "add", "args": {"a": 2, "b": 3}}]},
            {"tool_calls": [{"id": "c2", "name": "submit", "args": {"answer": "5"}}]},
        ]
    )
    usage = {"input_tokens": 1, "output_tokens": 2}
    lm = host.lm(new_id("lm"), lambda _: {**next(replies), "usage": usage})
    module = create(host.port, "react_v2", "question -> answer", tools=[ADD], lm=lm)
    host.port.call("configure", {"adapter": "json"})
    try:
        result = host.port.call("forward", {"module_id": module, "inputs": {"question": "2+3"}})
    finally:
        host.port.call("configure", {"adapter": "chat"})
    assert result["answer"] == "5"
    assert result["termination_reason"] == "submit"
    first, second = [call.args for call in host.asked if call.name == lm["model"]]
    assert [tool["name"] for tool in first["tools"]] == ["add", "submit"]
    assert first["tools"][0]["parameters"] == ADD["parameters"]
    spoken = {message["role"]: message for message in second["messages"]}
    assert spoken["assistant"]["tool_calls"] == [
        {"id": "c1", "name": "add", "args": {"a": 2, "b": 3}}
    ]
    assert spoken["tool"]["tool_call_id"] == "c1"
    assert "5" in spoken["tool"]["content"]
    assert result["_meta"]["usage"][f"host/{lm['model']}"]["output_tokens"] == 4


@pytest.mark.parametrize(
    ("tool", "path"),
    [
        ({**ADD, "name": "finish"}, "tools[0].name"),
        ({**ADD, "name": "no good"}, "tools[0].name"),
        ({"description": "x"}, "tools[0].name"),
        ({**ADD, "parameters": {"type": "array"}}, "tools[0].parameters.type"),
        (
            {**ADD, "parameters": {"properties": {"a": {"type": "whole"}}}},
            "tools[0].parameters.properties.a.type",
        ),
        ({**ADD, "desc": "x"}, "tools[0].desc"),
    ],
)
def test_an_ill_formed_tool_is_refused_with_its_place(host, tool, path):
    spec = {"id": "x", "type": "react", "signature": "q -> a", "tools": [tool]}
    assert path in faults(host.port, "create_module", spec)


def test_a_module_that_takes_no_tools_says_who_does(host):
    spec = {"id": "x", "type": "predict", "signature": "q -> a", "tools": [ADD]}
    assert "react" in faults(host.port, "create_module", spec)["tools"]["message"]


# Retrievers and rewards


def test_the_host_retrieves(host):
    host.answers("retrieve", "wiki", lambda call: [f"{call.args['query']} {i}" for i in range(9)])
    module = create(host.port, "retrieve", config={"host": "wiki", "k": 2})
    assert forward(host.port, module, {"query": "x"}) == {"passages": ["x 0", "x 1"]}
    assert host.asked[-1].args == {"query": "x", "k": 2}


def test_the_host_retrieves_maps_with_text(host):
    host.answers("retrieve", "maps", lambda _: [{"text": "one", "id": 1, "score": 0.5}])
    module = create(host.port, "retrieve", config={"host": "maps"})
    assert forward(host.port, module, {"query": "x"}) == {"passages": ["one"]}


@pytest.mark.parametrize("said", ["text", [5], [{"id": 1}], None])
def test_nonsense_of_a_retriever_is_the_hosts_error(host, said):
    host.answers("retrieve", "odd", lambda _: said)
    module = create(host.port, "retrieve", config={"host": "odd"})
    error = refused(host.port, "forward", {"module_id": module, "inputs": {"query": "x"}})
    assert error["code"] == "host_error"


def test_a_retriever_has_passages_or_a_host(host):
    for config in ({}, {"host": "x", "passages": ["p"]}):
        spec = {"id": "x", "type": "retrieve", "config": config}
        assert "config" in faults(host.port, "create_module", spec)


def test_best_of_n_takes_a_reward_of_the_host(host):
    replies = iter("abc")
    lm = host.lm(new_id("lm"), lambda _: chat_reply(answer=next(replies)))
    host.answers("reward", "likes_b", lambda call: call.args["prediction"]["answer"] == "b")
    config = {"n": 3, "reward": {"host": "likes_b"}}
    module = create(host.port, "best_of_n", "question -> answer", config=config, lm=lm)
    assert forward(host.port, module, {"question": "q"}) == {"answer": "b"}
    rewarded = [call.args for call in host.asked if call.target == "reward"][-2:]
    assert [args["prediction"]["answer"] for args in rewarded] == ["a", "b"]
    assert rewarded[0]["inputs"] == {"question": "q"}


def test_a_reward_that_says_nothing_is_the_hosts_error(host):
    host.answers("reward", "mute", lambda _: None)
    config = {"n": 2, "reward": {"host": "mute"}}
    module = create(host.port, "best_of_n", "question -> answer", config=config)
    assert refused(host.port, "forward", ask(module))["code"] == "host_error"


# Forward


def driven(host, modules, drive, **more):
    """A program that the host drives: `drive(call, ask)`."""
    made = program(host.port, modules, forward="host", **more)

    def answer(call):
        def ask(module_id, **inputs):
            args = {"module_id": module_id, "inputs": inputs}
            return fields(host.port.call("forward", args, parent=call.call))

        return drive(call, ask)

    host.answers("forward", made, answer)
    return made


def test_the_host_drives_a_program_over_its_modules(host):
    module = create(host.port, "predict", "question -> answer")
    made = driven(
        host,
        {"m": module},
        lambda call, ask: {"answer": ask(module, **call.args["inputs"])["answer"] + "!"},
    )
    assert execute(host.port, made, {"question": "q"}) == {"answer": "ok!"}


def test_what_a_driven_program_spends_is_its_requests(host):
    module = create(host.port, "predict", "question -> answer")
    made = driven(host, {"m": module}, lambda call, ask: ask(module, question="a"))
    args = {"program_id": made, "inputs": {"question": "q"}}
    result = host.port.call("execute", args, trace=True)
    assert result["_meta"]["usage"]["host/ok"]["calls"] == 1
    assert [row["module_id"] for row in result["_meta"]["trace"]] == [module]
    error = refused(host.port, "execute", args, budget={"lm_calls": 0})
    assert error["code"] == "budget_exceeded"


def test_what_fails_within_a_driven_program_keeps_its_code(host):
    module = create(host.port, "predict", "question -> answer")
    made = driven(host, {"m": module}, lambda call, ask: ask("nobody", question="a"))
    error = refused(host.port, "execute", {"program_id": made, "inputs": {"question": "q"}})
    assert error["code"] == "not_found"
    assert error["details"]["need"] == "spec"


def test_a_driven_program_must_give_the_outputs_of_its_signature(host):
    module = create(host.port, "predict", "question -> answer")
    made = driven(
        host, {"m": module}, lambda call, ask: {"other": 1}, signature="question -> answer"
    )
    error = refused(host.port, "execute", {"program_id": made, "inputs": {"question": "q"}})
    assert error["code"] == "host_error"
    assert error["details"]["missing"] == ["answer"]


def test_forwards_are_nested_three_levels_deep(host):
    module = create(host.port, "predict", "question -> answer")
    made = driven(host, {"m": module}, lambda call, ask: ask(module, **call.args["inputs"]))
    for _ in range(3):
        inner = made

        def drive(call, ask, inner=inner):
            args = {"program_id": inner, "inputs": call.args["inputs"]}
            found = fields(host.port.call("execute", args, parent=call.call))
            return {"answer": found["answer"] + "+"}

        made = driven(host, {"m": module}, drive)
    assert execute(host.port, made, {"question": "q"}) == {"answer": "ok+++"}


def test_driven_programs_need_no_places_of_their_own(spawn):
    """With one place for all, the requests within a call would otherwise wait for it for ever."""
    with spawn() as port:
        port.hello()
        port.wait_ready()
        narrow = Host(port)
        narrow.functions.add("lm", "ok", lambda _: chat_reply(answer="ok"))
        lm = {"provider": "host", "model": "ok"}
        port.call("configure", {"lm": lm, "limits": {"max_concurrent": 1}})
        module = create(port, "predict", "question -> answer")
        made = driven(narrow, {"m": module}, lambda call, ask: ask(module, question="a"))
        sent = [
            port.send("execute", {"program_id": made, "inputs": {"question": "q"}})
            for _ in range(5)
        ]
        assert [fields(each.result(30)) for each in sent] == [{"answer": "ok"}] * 5


def test_a_parent_that_is_no_open_call_is_not_found(host):
    module = create(host.port, "predict", "question -> answer")
    assert refused(host.port, "forward", ask(module), parent=987654)["code"] == "not_found"


# Ends


def test_a_host_that_never_answers_is_a_host_error_at_the_deadline(host):
    made = driven(host, {"m": create(host.port, "predict", "q -> a")}, lambda *_: time.sleep(2))
    args = {"program_id": made, "inputs": {"q": "x"}}
    error = refused(host.port, "execute", args, deadline_ms=100)
    assert error["code"] == "host_error"


def test_a_cancelled_request_withdraws_its_calls(host):
    reached, go_on = threading.Event(), threading.Event()

    def stall(call, ask):
        reached.set()
        go_on.wait(30)
        return {"a": "late"}

    made = driven(host, {"m": create(host.port, "predict", "q -> a")}, stall)
    sent = host.port.send("execute", {"program_id": made, "inputs": {"q": "x"}})
    assert reached.wait(30)
    call = host.asked[-1].call
    host.port.call("cancel", {"request": sent.request_id})
    with pytest.raises(RequestFailed) as caught:
        sent.result(30)
    assert caught.value.code == "cancelled"
    ends = time.monotonic() + 30
    while call not in host.withdrawn:
        assert time.monotonic() < ends
        time.sleep(0.01)
    go_on.set()
    # The late answer is dropped, and the daemon goes on.
    assert host.port.call("ping", {"x": 1}) == {"x": 1}
    assert host.port.call("stats")["host_calls"] == 0


def test_cancelling_the_outer_request_ends_those_within(host):
    slow = host.lm(new_id("lm"), lambda _: time.sleep(5))
    module = create(host.port, "predict", "question -> answer", lm=slow)
    inner = []

    def drive(call, ask):
        args = {"module_id": module, "inputs": {"question": "q"}}
        inner.append(host.port.send("forward", args, parent=call.call))
        inner[0].result(30)

    made = driven(host, {"m": module}, drive)
    sent = host.port.send("execute", {"program_id": made, "inputs": {"question": "x"}})
    host_asked(host, slow["model"])
    host.port.call("cancel", {"request": sent.request_id})
    with pytest.raises(RequestFailed) as caught:
        inner[0].result(4)
    assert caught.value.code == "cancelled"


def host_asked(host, name):
    ends = time.monotonic() + 30
    while not any(call.name == name for call in host.asked):
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_an_answer_that_is_no_message_fails_its_call(host):
    made = program(host.port, {"m": create(host.port, "predict", "q -> a")}, forward="host")
    seen = threading.Event()
    calls = []

    def keep(call):
        calls.append(call)
        seen.set()

    functions, host.port.on_call = host.port.on_call, keep
    try:
        sent = host.port.send("execute", {"program_id": made, "inputs": {"q": "x"}})
        assert seen.wait(30)
        broken = {"call": calls[0].call, "error": 5}
        host.port.write(packed(broken))
        with pytest.raises(RequestFailed) as caught:
            sent.result(30)
    finally:
        host.port.on_call = functions
    assert caught.value.code == HostError.code


def test_version_1_has_no_host_calls(spawn):
    with spawn() as port:
        args = {"lm": {"provider": "host", "model": "ok"}}
        port.call("configure", args)
        create(port, "predict", "question -> answer")
        with pytest.raises(RequestFailed) as caught:
            port.call("generate", {"prompt": "x"})
        assert caught.value.code == "unsupported"


def test_a_host_that_accepts_no_calls_is_sent_none(spawn):
    with spawn() as port:
        port.call("hello", {"protocol": [2], "accepts": ["events"]})
        port.call("configure", {"lm": {"provider": "host", "model": "ok"}})
        error = refused(port, "generate", {"prompt": "x"})
        assert error["code"] == "unsupported"
        assert "accepts" in error["message"]


def test_eight_threads_make_a_thousand_calls_each_without_a_lost_answer(host):
    """Every row asks the host for passages, from as many threads as the batch has."""
    host.functions.add("retrieve", "echo", lambda call: [call.args["query"]])
    module = create(host.port, "retrieve", config={"host": "echo", "k": 1})
    rows = [{"query": f"q{number}"} for number in range(8_000)]
    result = host.port.call(
        "batch", {"module_id": module, "inputs": rows, "max_concurrency": 8}, timeout=300
    )
    assert [row["outputs"]["passages"] for row in result["rows"]] == [
        [row["query"]] for row in rows
    ]


def test_calls_requests_and_cancels_beside_one_another_lose_nothing(host):
    """Whoever waits for the host reads the pipe for the others, too: answers, requests, cancels."""
    host.functions.add("retrieve", "mixed", lambda call: [call.args["query"]])
    module = create(host.port, "retrieve", config={"host": "mixed", "k": 1})
    failures: list[str] = []

    def ask(text: str) -> None:
        if forward(host.port, module, {"query": text}) != {"passages": [text]}:
            failures.append(text)

    def ping(text: str) -> None:
        if host.port.call("ping", {"text": text * 1_000}) != {"text": text * 1_000}:
            failures.append(text)

    def cancel(text: str) -> None:
        sent = host.port.send("forward", {"module_id": module, "inputs": {"query": text}})
        host.port.call("cancel", {"request": sent.request_id})
        try:
            sent.result(60)
        except RequestFailed as error:
            if error.code != "cancelled":
                failures.append(error.code)

    def repeat(act) -> None:
        for number in range(150):
            act(f"{act.__name__} {number}")

    threads = [threading.Thread(target=repeat, args=(act,)) for act in (ask, ping, cancel) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
    assert host.port.call("stats")["host_calls"] == 0


def test_where_there_is_no_epoll_calls_and_host_calls_are_served_all_the_same(lm_server):
    without = "import select; del select.epoll; from bridge.__main__ import main; main()"
    with Port([sys.executable, "-c", without]) as port:
        port.hello()
        host = Host(port)
        host.answers("retrieve", "own", lambda call: [call.args["query"]])
        lm = lm_at(lm_server, new_id("m"))
        module = create(port, "predict", "question -> answer", lm=lm)
        sent = [
            port.send("forward", {"module_id": module, "inputs": {"question": f"q{number}"}})
            for number in range(20)
        ]
        assert all(future.result(60)["answer"] for future in sent)
        found = create(port, "retrieve", config={"host": "own", "k": 1})
        rows = [{"query": f"q{number}"} for number in range(50)]
        result = port.call("batch", {"module_id": found, "inputs": rows, "max_concurrency": 8})
        assert [row["outputs"]["passages"] for row in result["rows"]] == [
            [row["query"]] for row in rows
        ]


def test_an_agent_whose_lm_never_submits_is_a_program_error(host):
    lm = {"provider": "embedded", "model": "lexical"}
    module = create(host.port, "react_v2", "question -> answer", tools=[{"name": "t"}], lm=lm)
    args = {"module_id": module, "inputs": {"question": "2+3?"}}
    assert refused(host.port, "forward", args)["code"] == "program_error"


def test_source_asks_a_tool_with_what_fits_its_schema_only(host):
    host.answers("tool", "add", lambda call: call.args["a"] + call.args["b"])
    spec = {
        "id": new_id("p"),
        "modules": [{"id": create(host.port, "predict", "question -> answer"), "name": "qa"}],
        "tools": [ADD],
        "forward_fn": "try:\n    result = {'answer': self.add(a='x', b=1)}\n"
        "except ValueError as error:\n    result = {'answer': str(error)}",
    }
    host.port.call("create_program", spec)
    asked = len(host.asked)
    args = {"program_id": spec["id"], "inputs": {}}
    assert "'x' is not of type 'integer'" in host.port.call("execute", args)["answer"]
    assert len(host.asked) == asked
