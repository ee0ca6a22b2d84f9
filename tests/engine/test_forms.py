"""Requests written by their forms: the bytes that the dialect itself writes, or its refusal."""

from __future__ import annotations

from typing import Any

import pytest
from dspy import lm15
from dspy.lm15 import Config, FunctionTool, Message, Request, RouterConfig, TextPart
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine.lms import forms
from bridge.engine.lms.dialects import Router
from bridge.engine.lms.forms import Forms

MODELS = {
    "openai-chat": "gpt-4o-mini",
    "ollama": "llama3:8b",
    "groq": "m",
    "anthropic": "claude-3-5-haiku-latest",
    "moonshotai-anthropic": "kimi-k2",
}
SAID = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
ROLES = st.lists(st.sampled_from(["user", "assistant"]), min_size=1, max_size=4)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.one_of(st.sampled_from([0, 1, 2]), st.floats(0, 1)),
        "max_tokens": st.integers(1, 10_000),
        "top_p": st.floats(0.1, 1),
        "stop": st.lists(SAID, max_size=2).map(tuple),
        "seed": st.integers(0, 9),
        "presence_penalty": st.floats(-2, 2),
    },
)


def configuration(provider: str) -> RouterConfig:
    return RouterConfig(env={}, api_keys={provider: "k-e-y"})


def written(dialect: Any, request: Request, *, stream: bool = False) -> tuple[Any, ...]:
    built, notes = dialect._build(request, stream=stream)
    return built.method, built.url, built.headers, built.body, notes


def spoken(roles: list[str], texts: list[str]) -> tuple[Message, ...]:
    return tuple(Message(role, (TextPart(text),)) for role, text in zip(roles, texts, strict=True))


@given(st.sampled_from(sorted(MODELS)), ROLES, OPTIONS, st.booleans(), st.booleans(), st.data())
def test_the_bytes_are_the_dialects_own(provider, roles, options, system, stream, data):
    ours = Router(configuration(provider)).lm(f"{provider}:{MODELS[provider]}")
    theirs = lm15.LMRouter(configuration(provider)).lm(f"{provider}:{MODELS[provider]}")
    for _ in range(4):
        texts = [data.draw(SAID) for _ in roles]
        request = Request(
            MODELS[provider],
            spoken(roles, texts),
            system=data.draw(SAID) if system else None,
            config=Config(**options),
        )
        assert written(ours, request, stream=stream) == written(theirs, request, stream=stream)


class Pen:
    """A dialect that counts what it writes."""

    def __init__(self) -> None:
        self.dialect = lm15.LMRouter(configuration("ollama")).lm("ollama:m")
        self.count = 0

    def __call__(self, request: Request, stream: bool) -> Any:
        self.count += 1
        return self.dialect._build(request, stream)


def asked(text: str = "hello", **more: Any) -> Request:
    return Request("m", (Message.user(text),), **more)


def test_the_dialect_writes_the_first_two_of_a_shape_and_its_form():
    pen, own = Pen(), Forms()
    for number in range(20):
        own.build(asked(f"question {number}"), False, pen)
    assert pen.count == 3


@pytest.mark.parametrize(
    "request_",
    [
        asked(tools=(FunctionTool(name="f"),)),
        asked(config=Config(response_format={"type": "json_object"})),
        asked(config=Config(extensions={"x": 1})),
        asked(config=Config(user_id="somebody")),
        Request("m", (Message("user", (TextPart("one"), TextPart("two"))),)),
        asked(system=(TextPart("one"), TextPart("two"))),
    ],
    ids=["tools", "a format", "extensions", "a user", "two parts", "a system of parts"],
)
def test_what_is_not_plain_is_written_by_the_dialect_each_time(request_):
    pen, own = Pen(), Forms()
    for _ in range(5):
        own.build(request_, False, pen)
    assert pen.count >= 5


def test_a_text_without_bytes_is_refused_as_the_dialect_refuses_it():
    pen, own = Pen(), Forms()
    for _ in range(3):
        own.build(asked(), False, pen)
    with pytest.raises(ValueError, match="lone surrogate"):
        own.build(asked("\ud800"), False, pen)


def test_shapes_beyond_the_bound_are_forgotten(monkeypatch):
    monkeypatch.setattr(forms, "MOST", 3)
    pen, own = Pen(), Forms()
    for number in range(50):
        own.build(asked(config=Config(seed=number)), False, pen)
    assert len(own._forms) == 3


def test_a_key_that_is_asked_for_each_time_is_not_learnt():
    keys = iter(["first", "second", "third", "fourth"])
    config = RouterConfig(env={}, api_keys={"openai-chat": lambda: next(keys)})
    dialect = Router(config).lm("openai-chat:m")
    headers = [dialect._build(asked(), stream=False)[0].headers for _ in range(4)]
    assert [dict(h)["Authorization"] for h in headers] == [
        f"Bearer {key}" for key in ("first", "second", "third", "fourth")
    ]


def test_a_form_shows_no_key():
    pen, own = Pen(), Forms()
    for _ in range(3):
        own.build(asked(), False, pen)
    assert "k-e-y" not in repr(own._forms)
