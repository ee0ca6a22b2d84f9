"""`generate`, `generate_batch`, `count_tokens`, `lm_chunk`: the LM without a signature."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bridge.commands.command import Command, Invocation, Work
from bridge.specs.checking import Args
from bridge.specs.lms import LMOptions, LMSpec
from protocol.errors import InvalidArgs

__all__ = ["COMMANDS"]

MOST_PROMPTS = 10_000
"""Prompts of one `generate_batch`."""


class Said(Args):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


LMField = Annotated[LMSpec | str | None, Field(description="an LM, or the name of one")]


class GenerateArgs(Args):
    """Arguments of `generate`: one of `prompt` and `messages`."""

    prompt: str | None = None
    messages: Annotated[list[Said], Field(max_length=10_000)] | None = None
    lm: LMField = None
    options: Annotated[LMOptions | None, Field(description="generation options")] = None

    @model_validator(mode="after")
    def _one_of_two(self) -> GenerateArgs:
        if (self.prompt is None) == (not self.messages):
            raise ValueError("give one of prompt and messages, and not an empty one")
        if self.messages and all(said.role == "system" for said in self.messages):
            raise ValueError("messages: at least one is not the system's")
        return self


class GenerateBatchArgs(Args):
    """Arguments of `generate_batch`."""

    prompts: Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS)]
    lm: LMField = None
    options: LMOptions | None = None
    max_concurrency: Annotated[int, Field(ge=1)] = 16


class CountTokensArgs(Args):
    """Arguments of `count_tokens`: one of `text` and `messages`."""

    text: str | None = None
    messages: Annotated[list[Said], Field(max_length=10_000)] | None = None
    lm: LMField = None

    @model_validator(mode="after")
    def _one_of_two(self) -> CountTokensArgs:
        if (self.text is None) == (self.messages is None):
            raise ValueError("give one of text and messages")
        return self


class LMChunkArgs(Args):
    """Arguments of `lm_chunk`."""

    text: str


def generate(args: GenerateArgs, invocation: Invocation) -> Work:
    """Ask the LM; the result is `{text, finish_reason, model, usage, cost}`."""
    spoken = _spoken(args.prompt, args.messages)
    options = args.options.given() if args.options else {}
    lm = _lm(args.lm, invocation)
    return Work(lambda engine: engine.generate(lm, spoken, options))


def generate_batch(args: GenerateBatchArgs, invocation: Invocation) -> Work:
    """Ask the LM once a prompt; `{texts, rows}`, in order, a failed row with its `error`."""
    options = args.options.given() if args.options else {}
    lm = _lm(args.lm, invocation)
    at_once = min(args.max_concurrency, invocation.services.limits().max_batch_concurrency)
    return Work(lambda engine: engine.generate_batch(lm, args.prompts, options, at_once))


def count_tokens(args: CountTokensArgs, invocation: Invocation) -> Work:
    """Count a text's tokens; `exact` says whether the model's own tokenizer counted."""
    spoken = _spoken(args.text, args.messages)
    lm = _lm(args.lm, invocation)
    return Work(lambda engine: engine.count_tokens(lm, spoken))


def lm_chunk(args: LMChunkArgs, invocation: Invocation) -> dict[str, Any]:
    """Give a piece of an answer, as the LM that the host is; `parent` is the call it answers."""
    if invocation.hear is None:
        raise InvalidArgs.at("parent", "must be the id of a call with the target 'lm'")
    invocation.hear(args.text)
    return {}


def _lm(ref: LMSpec | str | None, invocation: Invocation) -> LMSpec | str | None:
    if isinstance(ref, LMSpec) and ref.key is not None:
        invocation.services.secrets.add(ref.key)
    return ref


def _spoken(text: str | None, messages: list[Said] | None) -> list[dict[str, str]]:
    if messages is None:
        return [{"role": "user", "content": text or ""}]
    return [{"role": said.role, "content": said.content} for said in messages]


COMMANDS = (
    Command("generate", GenerateArgs, generate, streams=True, within=True),
    Command("generate_batch", GenerateBatchArgs, generate_batch, within=True),
    Command("count_tokens", CountTokensArgs, count_tokens, within=True),
    Command("lm_chunk", LMChunkArgs, lm_chunk, within=True),
)
