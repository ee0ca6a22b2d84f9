"""The LM without a signature: `generate`, `generate_batch`, `count_tokens`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.daemon.lm_maps import lm_map, refused, seen
from tests.lm_server import answer_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.client import Port
    from tests.lm_server import LMServer

NO_NETWORK = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
"""Whoever wants to download something meets a proxy that nobody serves."""


def _generate(port: Port, lm: dict[str, Any], **args: Any) -> dict[str, Any]:
    result: dict[str, Any] = port.call("generate", {"lm": lm, **args})
    return result


def test_a_prompt_is_answered_with_text_and_usage(daemon: Port, lm_server: LMServer) -> None:
    result = _generate(daemon, lm_map(lm_server, "openai", "gen"), prompt="Say hello.")
    (received,) = seen(lm_server, "gen")
    meta = result.pop("_meta")
    assert result == {
        "text": answer_text("gen", "Say hello."),
        "finish_reason": "stop",
        "model": "openai/gen",
        "usage": {
            "input_tokens": received.input_tokens,
            "output_tokens": received.output_tokens,
        },
        "cost": None,
    }
    assert meta["usage"]["openai/gen"]["calls"] == 1


def test_messages_arrive_as_they_were_sent(daemon: Port, lm_server: LMServer) -> None:
    messages = [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Never mind."},
    ]
    _generate(daemon, lm_map(lm_server, "openai", "talk"), messages=messages)
    (received,) = seen(lm_server, "talk")
    assert [m["content"] for m in received.body["messages"]] == [m["content"] for m in messages]
    assert received.body["messages"][0]["role"] in {"system", "developer"}


def test_anthropic_gets_the_system_message_where_it_wants_it(
    daemon: Port, lm_server: LMServer
) -> None:
    messages = [{"role": "system", "content": "Terse."}, {"role": "user", "content": "Hi"}]
    _generate(daemon, lm_map(lm_server, "anthropic", "claude"), messages=messages)
    (received,) = seen(lm_server, "claude")
    assert "Terse." in str(received.body["system"])
    assert [m["role"] for m in received.body["messages"]] == ["user"]


def test_options_of_the_request_go_before_those_of_the_lm(
    daemon: Port, lm_server: LMServer
) -> None:
    lm = lm_map(lm_server, "openai", "opts", temperature=0.1, max_tokens=11, config={"seed": 5})
    options = {"temperature": 0.9, "stop": "END"}
    _generate(daemon, lm, prompt="x", options=options)
    (received,) = seen(lm_server, "opts")
    assert received.body["temperature"] == 0.9
    assert received.body.get("max_tokens", received.body.get("max_completion_tokens")) == 11
    assert received.body["stop"] in ("END", ["END"])
    assert received.body["seed"] == 5


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"prompt": "x", "messages": [{"role": "user", "content": "x"}]},
        {"messages": []},
        {"messages": [{"role": "system", "content": "x"}]},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user"}]},
        {"prompt": 5},
        {"prompt": "x", "options": {"temprature": 1}},
        {"prompt": "x", "options": {"temperature": 3}},
    ],
)
def test_wrong_arguments_are_refused(daemon: Port, args: dict[str, Any]) -> None:
    assert refused(daemon, "generate", args)["code"] == "invalid_args"


def test_a_batch_answers_in_order(daemon: Port, lm_server: LMServer) -> None:
    prompts = [f"prompt {number}" for number in range(20)]
    lm = lm_map(lm_server, "openai", "many")
    result = daemon.call("generate_batch", {"prompts": prompts, "lm": lm})
    assert result["texts"] == [answer_text("many", prompt) for prompt in prompts]
    assert [row["index"] for row in result["rows"]] == list(range(20))
    assert result["_meta"]["usage"]["openai/many"]["calls"] == 20


def test_a_failed_row_leaves_the_others_whole(daemon: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "one-bad+fail-500-then-ok", max_retries=0)
    args = {"prompts": ["a", "b", "c"], "lm": lm, "max_concurrency": 1}
    result = daemon.call("generate_batch", args)
    first, *rest = result["rows"]
    assert first["text"] is None
    assert first["error"]["code"] == "lm_transport"
    assert [row["error"] for row in rest] == [None, None]
    assert result["texts"][0] is None
    assert all(result["texts"][1:])


def test_a_batch_keeps_to_its_concurrency(daemon: Port, lm_server: LMServer) -> None:
    lm_server.reset()
    lm = lm_map(lm_server, "openai", "narrow+slow-20")
    daemon.call("generate_batch", {"prompts": ["x"] * 12, "lm": lm, "max_concurrency": 3})
    assert lm_server.peak_in_flight == 3


def test_an_empty_batch_is_refused(daemon: Port) -> None:
    assert refused(daemon, "generate_batch", {"prompts": []})["code"] == "invalid_args"


def test_tokens_of_openais_models_are_exact_without_a_network(
    spawn: Callable[..., Port],
) -> None:
    port = spawn(env=NO_NETWORK)
    port.hello()
    for model, tokenizer in (("gpt-4o", "o200k_base"), ("gpt-4", "cl100k_base")):
        lm = {"provider": "openai", "model": model}
        counted = port.call("count_tokens", {"text": "tiktoken is great!", "lm": lm})
        counted.pop("_meta")
        # As OpenAI's own cookbook counts this sentence.
        assert counted == {"tokens": 6, "exact": True, "tokenizer": tokenizer}
    # Tables that tiktoken would have to fetch.
    for model in ("davinci", "gpt2"):
        lm = {"provider": "openai", "model": model}
        assert port.call("count_tokens", {"text": "a b c", "lm": lm})["exact"] is False


@pytest.mark.parametrize(
    "lm",
    [
        {"provider": "anthropic", "model": "claude-sonnet-4-5"},
        {"provider": "openai", "model": "a-model-of-next-year"},
        {"provider": "embedded", "model": "echo"},
    ],
)
def test_tokens_of_other_models_are_an_estimate_that_says_so(
    daemon: Port, lm: dict[str, Any]
) -> None:
    counted = daemon.call("count_tokens", {"text": "a few plain words", "lm": lm})
    assert counted["exact"] is False
    assert 2 <= counted["tokens"] <= 10


def test_messages_cost_more_than_their_texts(daemon: Port) -> None:
    lm = {"provider": "openai", "model": "gpt-4o"}
    messages = [{"role": "system", "content": "Terse."}, {"role": "user", "content": "Hi"}]
    together = daemon.call("count_tokens", {"messages": messages, "lm": lm})["tokens"]
    apart = sum(
        daemon.call("count_tokens", {"text": m["content"], "lm": lm})["tokens"] for m in messages
    )
    assert together > apart


def test_what_looks_like_a_special_token_is_text(daemon: Port) -> None:
    lm = {"provider": "openai", "model": "gpt-4o"}
    counted = daemon.call("count_tokens", {"text": "<|endoftext|>", "lm": lm})
    assert counted["tokens"] > 1


def test_counting_asks_no_server(daemon: Port, lm_server: LMServer) -> None:
    daemon.call("count_tokens", {"text": "hi", "lm": lm_map(lm_server, "openai", "uncalled")})
    assert seen(lm_server, "uncalled") == []


def test_no_text_has_no_tokens(daemon: Port) -> None:
    assert daemon.call("count_tokens", {"text": ""})["tokens"] == 0


@pytest.mark.parametrize("args", [{}, {"text": "x", "messages": []}, {"text": 1}])
def test_counting_nothing_is_refused(daemon: Port, args: dict[str, Any]) -> None:
    assert refused(daemon, "count_tokens", args)["code"] == "invalid_args"
