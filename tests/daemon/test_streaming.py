"""`stream: true`: what comes before the reply says what the reply will say, whoever asks the LM."""

from __future__ import annotations

import ast
import json
import subprocess

import pytest

from bridge.client import Port, RequestFailed
from protocol import Codec
from tests.daemon.asking import chat_reply, create, forward, lm_at, new_id, program, refused
from tests.daemon.hosting import Host
from tests.daemon.streaming import Hearing, forward_streamed, texts

QUESTION = {"question": "why is it so?"}


@pytest.fixture
def adapter(daemon, lm_server):
    """Switches adapters; the file's daemon has the chat adapter again afterwards."""

    def switch(name):
        if name == "two_step":
            extraction = lm_at(lm_server, "extraction")
            daemon.call("configure", {"adapter": {"name": name, "extraction_lm": extraction}})
        else:
            daemon.call("configure", {"adapter": name})

    yield switch
    daemon.call("configure", {"adapter": "chat"})


# What the pieces say

MODULES = {
    "predict": {},
    "chain_of_thought": {},
    "multi_chain_comparison": {"config": {"m": 2}},
    "best_of_n": {
        "config": {"n": 2, "reward": {"name": "max_words", "field": "answer", "limit": 1}}
    },
    "refine": {"config": {"n": 2, "reward": {"name": "max_words", "field": "answer", "limit": 1}}},
}


@pytest.mark.parametrize("name", ["chat", "json", "xml", "two_step"])
@pytest.mark.parametrize("type_", MODULES)
def test_the_pieces_of_a_call_are_the_texts_of_the_reply(daemon, lm_server, adapter, name, type_):
    adapter(name)
    module = create(daemon, type_, "question -> answer: str, n: int", **MODULES[type_])
    lm = lm_at(lm_server, new_id("heard"))
    hearing = forward_streamed(daemon, module, QUESTION, lm=lm)
    result = hearing.result()
    # The best of several attempts need not be the last.
    matching = [
        fields
        for fields in hearing.calls().values()
        if {field: fields.get(field) for field in texts(result)} == texts(result)
    ]
    assert matching, (result, hearing.calls())
    assert json.loads(matching[-1]["n"]) == result["n"]
    assert {chunk["module_id"] for chunk in hearing.chunks()} == {module}


@pytest.mark.parametrize("codec", list(Codec))
def test_pieces_come_as_the_lm_speaks(lm_server, codec):
    with Port(codec=codec, stderr=subprocess.DEVNULL) as port:
        port.hello()
        module = create(port, "chain_of_thought", "question -> answer")
        model = new_id("speaks")
        hearing = forward_streamed(port, module, QUESTION, lm=lm_at(lm_server, model))
        said = [chunk["text"] for chunk in hearing.chunks() if chunk["field"] == "answer"]
        assert "".join(said) == f"{model}: why is it so?"
        # A word at a time; an end that could begin a secret comes with the next.
        assert len(said) == 5
        chunk = hearing.chunks()[0]
        assert chunk == {
            "field": "reasoning",
            "text": "reasoning:",
            "module_id": module,
            "predictor": "predict",
            "call": 1,
            "index": 0,
        }


def test_a_piece_is_sent_before_the_lm_has_ended(daemon, lm_server):
    module = create(daemon, "predict", "question -> answer")
    model = new_id("half") + "+stall-body"
    args = {"module_id": module, "inputs": QUESTION}
    hearing = Hearing(daemon, "forward", args, lm=lm_at(lm_server, model), deadline_ms=60_000)
    hearing.wait_for_chunk()
    assert not hearing.future.done()
    daemon.call("cancel", {"request": hearing.id})


TYPED = {
    "n": ("integer", "12", 12),
    "score": ("float", "0.50", 0.5),
    "sure": ("boolean", "True", True),
    "tags": ({"type": "list", "items": "string"}, '["a", "b\\n"]', ["a", "b\n"]),
    "facts": ("map", '{"a": {"b": [1, 2]}}', {"a": {"b": [1, 2]}}),
    "label": ({"type": "enum", "values": ["red", "blue"]}, "blue", "blue"),
    "quoted": ({"type": "enum", "values": ["red", "blue"]}, '"blue"', "blue"),
    "day": ("date", "2024-02-03", "2024-02-03"),
    "source": ("Code[python]", "```python\nprint(1)\n```", "print(1)"),
    "thoughts": ("reasoning", "so it is", "so it is"),
}


@pytest.mark.parametrize("name", TYPED)
def test_a_field_of_any_type_is_told_as_it_is_written_and_a_text_as_it_is_read(
    daemon, lm_server, name
):
    type_, written, value = TYPED[name]
    signature = {"inputs": {"q": "string"}, "outputs": [{"name": name, "type": type_}]}
    module = create(daemon, "predict", signature)
    model = new_id("typed")
    lm_server.script(model, chat_reply(**{name: written}))
    hearing = forward_streamed(daemon, module, {"q": "?"}, lm=lm_at(lm_server, model))
    heard = hearing.last_call()[name]
    assert hearing.result()[name] == value
    assert (heard if isinstance(value, str) else ast.literal_eval(heard)) == value


def test_what_was_heard_otherwise_than_it_was_read_begins_anew(daemon, lm_server, adapter):
    adapter("json")
    module = create(daemon, "predict", "question -> answer")
    model = new_id("repaired")
    lm_server.script(model, '{"answer": "he said "yes", twice"}')
    hearing = forward_streamed(daemon, module, QUESTION, lm=lm_at(lm_server, model))
    answer = hearing.result()["answer"]
    assert "yes" in answer
    assert hearing.last_call() == {"answer": answer}
    assert [chunk["index"] for chunk in hearing.chunks()].count(0) == 2


def test_a_reply_in_the_wrong_format_is_asked_for_again_under_a_new_number(daemon, lm_server):
    module = create(daemon, "predict", "question -> answer, n: int")
    model = new_id("fallback")
    lm_server.script(model, "[[ ## answer ## ]]\nhalf of it")
    hearing = forward_streamed(daemon, module, QUESTION, lm=lm_at(lm_server, model))
    assert hearing.calls()[1] == {"answer": "half of it"}
    assert hearing.calls()[2]["answer"] == hearing.result()["answer"]
    assert [data["call"] for data in hearing.statuses("lm_start")] == [1, 2]


def test_two_steps_stream_what_the_second_finds(daemon, lm_server, adapter):
    adapter("two_step")
    module = create(daemon, "predict", "question -> answer")
    model = new_id("free")
    lm_server.script("extraction", chat_reply(answer="found"))
    hearing = forward_streamed(daemon, module, QUESTION, lm=lm_at(lm_server, model))
    assert hearing.calls() == {2: {"answer": "found"}}


def test_generate_streams_its_text(daemon, lm_server):
    model = new_id("generates")
    lm_server.script(model, "  as it  is,\n\nspace and all\n")
    hearing = Hearing(daemon, "generate", {"prompt": "?", "lm": lm_at(lm_server, model)})
    result = hearing.result()
    assert result["text"] == "  as it  is,\n\nspace and all\n"
    assert hearing.calls() == {1: {"text": result["text"]}}
    assert {chunk["module_id"] for chunk in hearing.chunks()} == {None}


PIECES = ["[[ ## ans", "wer ## ]]\nto ", "be", " it"]
WHOLE = "".join(PIECES)


@pytest.mark.parametrize("repeated", [WHOLE, None, WHOLE + " is", "[[ ## answer ## ]]\nother"])
def test_a_host_that_is_the_lm_is_heard_as_it_speaks(spawn, repeated):
    port = spawn()
    port.call("hello", {"protocol": [2]})
    host = Host(port)

    def speak(call):
        assert call.args["stream"] is True
        for piece in PIECES:
            port.call("lm_chunk", {"text": piece}, parent=call.call)
        return {"text": repeated, "usage": {"input_tokens": 5, "output_tokens": 7}}

    lm = host.lm("spoken", speak)
    module = create(port, "predict", "question -> answer")
    hearing = forward_streamed(port, module, QUESTION, lm=lm)
    (answer,) = texts(hearing.result()).values()
    assert answer == (repeated or WHOLE).partition("\n")[2]
    assert hearing.calls() == {1: {"answer": answer}}
    assert len(hearing.chunks()) > 1
    (used,) = hearing.result()["_meta"]["usage"].values()
    assert (used["input_tokens"], used["output_tokens"]) == (5, 7)


# Programs

STEPS = [
    {"call": "split", "in": {"question": "$question"}, "as": "parts"},
    {
        "each": "$parts.topics",
        "as": "topic",
        "do": [{"call": "look", "in": {"topic": "$topic"}, "as": "found"}],
        "collect": "$found.answer",
        "into": "answers",
        "parallel": True,
    },
    {"output": {"answers": "$answers"}},
]


def test_a_program_tells_which_module_speaks(daemon, lm_server):
    first = create(daemon, "predict", "question -> middle")
    second = create(daemon, "chain_of_thought", "middle -> answer")
    chain = program(daemon, {"first": first, "second": second})
    args = {"program_id": chain, "inputs": QUESTION}
    hearing = Hearing(daemon, "execute", args, lm=lm_at(lm_server, new_id("chained")))
    result = hearing.result()
    calls = hearing.calls()
    assert calls[2]["answer"] == result["answer"]
    assert [(data["status"], data["module_id"]) for data in hearing.statuses()] == [
        ("module_start", first),
        ("lm_start", first),
        ("module_end", first),
        ("module_start", second),
        ("lm_start", second),
        ("module_end", second),
    ]
    assert {chunk["call"]: chunk["module_id"] for chunk in hearing.chunks()} == {
        1: first,
        2: second,
    }


def test_modules_at_work_side_by_side_are_told_apart_by_their_calls(daemon, lm_server):
    topics = {"name": "topics", "type": {"type": "list", "items": "string"}}
    split = create(daemon, "predict", {"inputs": {"question": "string"}, "outputs": [topics]})
    look = create(daemon, "predict", "topic -> answer")
    steps = program(daemon, {"split": split, "look": look}, steps=STEPS)
    model = new_id("aside")
    names = [f"topic {n}" for n in range(6)]
    lm_server.script(model, chat_reply(topics=json.dumps(names)))
    args = {"program_id": steps, "inputs": QUESTION}
    hearing = Hearing(daemon, "execute", args, lm=lm_at(lm_server, model))
    result = hearing.result()
    heard = [fields["answer"] for call, fields in hearing.calls().items() if call > 1]
    assert sorted(heard) == sorted(result["answers"])
    assert len(hearing.statuses("module_end")) == 7


# As without a stream


def test_a_cached_reply_is_streamed_too(spawn, lm_server):
    port = spawn()
    port.hello()
    port.call("configure", {"cache": {"enabled": True}})
    module = create(port, "chain_of_thought", "question -> answer")
    lm = lm_at(lm_server, new_id("cached"))
    first = forward_streamed(port, module, QUESTION, lm=lm)
    again = forward_streamed(port, module, QUESTION, lm=lm)
    (used,) = again.result()["_meta"]["usage"].values()
    assert used["cached_calls"] == 1
    assert again.calls() == first.calls() == {1: texts(first.result())}


@pytest.mark.parametrize("fault", ["cut-body", "fail-500", "cut"])
def test_an_attempt_that_fails_is_told_anew(daemon, lm_server, fault):
    module = create(daemon, "predict", "question -> answer, other")
    model = f"{new_id('again')}+{fault}-then-ok"
    lm = lm_at(lm_server, model, max_retries=1, retry_delay_ms=1)
    hearing = forward_streamed(daemon, module, QUESTION, lm=lm)
    assert hearing.calls() == {1: texts(hearing.result())}
    begun = [(data["call"], data["attempt"]) for data in hearing.statuses("lm_start")]
    assert begun == [(1, 0), (1, 1)]
    told_twice = [chunk["field"] for chunk in hearing.chunks() if chunk["index"] == 0]
    assert (told_twice.count("answer") == 2) is (fault == "cut-body")


def test_usage_and_history_are_as_without_a_stream(daemon, lm_server):
    module = create(daemon, "chain_of_thought", "question -> answer")
    lm = lm_at(lm_server, new_id("same"))
    whole = daemon.call("forward", {"module_id": module, "inputs": QUESTION}, lm=lm, trace=True)
    streamed = forward_streamed(daemon, module, QUESTION, lm=lm, trace=True).result()
    assert texts(whole) == texts(streamed)
    assert whole["_meta"]["usage"] == streamed["_meta"]["usage"]
    (row,), (heard,) = whole["_meta"]["trace"], streamed["_meta"]["trace"]
    for key in ("prompt", "response", "inputs", "outputs", "usage", "module_id", "model"):
        assert heard[key] == row[key], key


def test_a_budget_ends_a_streamed_program(daemon, lm_server):
    first = create(daemon, "predict", "question -> middle")
    second = create(daemon, "predict", "middle -> answer")
    chain = program(daemon, {"first": first, "second": second})
    hearing = Hearing(
        daemon,
        "execute",
        {"program_id": chain, "inputs": QUESTION},
        lm=lm_at(lm_server, new_id("poor")),
        budget={"lm_calls": 1},
    )
    with pytest.raises(RequestFailed) as caught:
        hearing.result()
    assert caught.value.code == "budget_exceeded"
    assert list(hearing.calls()) == [1]


def test_a_module_without_an_lm_is_only_told_of(daemon):
    config = {"passages": ["the sea is salt"], "k": 1}
    module = create(daemon, "retrieve", config=config)
    hearing = forward_streamed(daemon, module, {"query": "sea"})
    assert hearing.chunks() == []
    assert [data["status"] for data in hearing.statuses()] == ["module_start", "module_end"]


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_secret_that_comes_in_pieces_is_masked(daemon, lm_server, cut):
    secret = "sk-secret-in-pieces"
    model = new_id("leaks")
    daemon.call("configure", {"lms": {"leaky": lm_at(lm_server, model, api_key=secret)}})
    said = f"so: {secret[:cut]} {secret[cut:]} sk- {secret[:cut]}"
    pieces = f"{secret[:cut]}{secret[cut:]}"
    lm_server.script(model, f"{said}{pieces}")
    hearing = Hearing(daemon, "generate", {"prompt": "?", "lm": "leaky"})
    result = hearing.result()
    assert secret not in result["text"]
    assert hearing.calls() == {1: {"text": result["text"]}}
    assert secret not in "".join(chunk["text"] for chunk in hearing.chunks())


# Refused

UNSTREAMED = {
    "batch": {"module_id": "m", "inputs": []},
    "generate_batch": {"prompts": ["a"]},
    "stats": {},
    "create_module": {"id": "x", "type": "predict", "signature": "a -> b"},
}


@pytest.mark.parametrize("command", UNSTREAMED)
def test_a_command_that_is_not_streamed_says_which_are(daemon, command):
    error = refused(daemon, command, UNSTREAMED[command], stream=True)
    assert error["code"] == "unsupported"
    for name in ("forward", "execute", "generate"):
        assert name in error["message"]


def test_an_unknown_command_is_unknown_with_a_stream_too(daemon):
    assert refused(daemon, "forwards", {}, stream=True)["code"] == "unknown_command"


def test_a_host_that_takes_no_events_cannot_stream(spawn):
    port = spawn()
    port.call("hello", {"protocol": [2], "accepts": ["calls"]})
    error = refused(port, "generate", {"prompt": "hello"}, stream=True)
    assert error["code"] == "unsupported"
    assert "events" in error["message"]


def test_version_1_has_no_stream(spawn):
    port = spawn()
    port.call("configure", {"lm": {"provider": "embedded", "model": "echo"}})
    hearing = Hearing(port, "generate", {"prompt": "hello there"})
    assert hearing.result()
    assert hearing.events == []


def test_one_module_streams_again_and_again_and_at_once(daemon, lm_server):
    module = create(daemon, "predict", "question -> answer")
    lm = lm_at(lm_server, new_id("repeated"))
    for _ in range(3):
        hearings = [
            Hearing(
                daemon,
                "forward",
                {"module_id": module, "inputs": {"question": f"why {n}?"}},
                lm=lm,
            )
            for n in range(8)
        ]
        for hearing in hearings:
            assert texts(hearing.result()) == hearing.last_call()
    assert forward(daemon, module, QUESTION, lm=lm)["answer"]
