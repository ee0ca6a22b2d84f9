"""The providers' request and reply shapes: what a real server sends, usage and finish included.

A format reads a request body into a `Prompt`, and writes an `Answer` as one JSON body or as
server-sent events. Cohere's OpenAI-compatible endpoint is OpenAI's shape with Cohere's errors.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Protocol

import orjson

from .answers import Prompt, count_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .provider_errors import Provider

Finish = Literal["stop", "length", "content_filter"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said, whatever the wire: `serial` makes the ids of a server's replies distinct."""

    serial: int
    model: str
    text: str
    finish: Finish
    input_tokens: int
    output_tokens: int


class WireFormat(Protocol):
    """One provider's way of asking and answering."""

    provider: ClassVar[Provider]

    def read(self, body: dict[str, Any]) -> Prompt:
        """The prompt of a request body; missing parts are empty texts."""

    def reply(self, answer: Answer) -> dict[str, Any]:
        """The whole reply as one JSON body."""

    def events(
        self, answer: Answer, pieces: Iterable[str], body: dict[str, Any]
    ) -> Iterator[bytes]:
        """The reply as server-sent events, the text in `pieces`."""


def find_format(path: str) -> WireFormat | None:
    """The format spoken at a path, whatever stands before its last words."""
    for ending, wire_format in _BY_PATH.items():
        if path.endswith(ending):
            return wire_format
    return None


def _text_of(content: Any) -> str:
    """The text of a message's content: a string, or parts of which the text ones count."""
    if isinstance(content, list):
        parts = (part.get("text", "") for part in content if isinstance(part, dict))
        return "\n\n".join(part for part in parts if isinstance(part, str) and part)
    return content if isinstance(content, str) else ""


def _read_messages(messages: Any, system: str = "") -> Prompt:
    user, tokens = "", count_tokens(system)
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            continue
        text = _text_of(message.get("content"))
        tokens += count_tokens(text)
        if message.get("role") in ("system", "developer"):
            system = f"{system}\n{text}" if system else text
        elif message.get("role") == "user":
            user = text
    return Prompt(system, user, tokens)


def _data(payload: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(payload)


def _named(payload: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (payload["type"].encode(), orjson.dumps(payload))


class OpenAIChat:
    """`POST …/chat/completions`."""

    provider: ClassVar[Provider] = "openai"

    def read(self, body: dict[str, Any]) -> Prompt:
        return _read_messages(body.get("messages"))

    def reply(self, answer: Answer) -> dict[str, Any]:
        refused = answer.finish == "content_filter"
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if refused else answer.text,
            "refusal": "I'm sorry, but I can't assist with that." if refused else None,
            "annotations": [],
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish}
        return self._envelope(answer, "chat.completion") | {
            "choices": [choice],
            "usage": self._usage(answer),
        }

    def events(
        self, answer: Answer, pieces: Iterable[str], body: dict[str, Any]
    ) -> Iterator[bytes]:
        envelope = self._envelope(answer, "chat.completion.chunk")
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        if with_usage:
            envelope["usage"] = None

        def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return _data(envelope | {"choices": [choice]})

        yield event({"role": "assistant", "content": "", "refusal": None})
        for piece in pieces:
            yield event({"content": piece})
        yield event({}, answer.finish)
        if with_usage:
            yield _data(envelope | {"choices": [], "usage": self._usage(answer)})
        yield b"data: [DONE]\n\n"

    @staticmethod
    def _envelope(answer: Answer, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{answer.serial:024d}",
            "object": kind,
            "created": int(time.time()),
            "model": answer.model,
            "service_tier": "default",
            "system_fingerprint": "fp_0123456789",
        }

    @staticmethod
    def _usage(answer: Answer) -> dict[str, Any]:
        return {
            "prompt_tokens": answer.input_tokens,
            "completion_tokens": answer.output_tokens,
            "total_tokens": answer.input_tokens + answer.output_tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


class CohereCompatible(OpenAIChat):
    """`POST …/compatibility/v1/chat/completions`."""

    provider: ClassVar[Provider] = "cohere"


class OpenAIResponses:
    """`POST …/responses`."""

    provider: ClassVar[Provider] = "openai"

    def read(self, body: dict[str, Any]) -> Prompt:
        given, system = body.get("input"), _text_of(body.get("instructions"))
        messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
        return _read_messages(messages, system)

    def reply(self, answer: Answer) -> dict[str, Any]:
        status = "completed" if answer.finish == "stop" else "incomplete"
        return self._response(answer, status, [self._item(answer, answer.text, status)])

    def events(
        self, answer: Answer, pieces: Iterable[str], body: dict[str, Any]
    ) -> Iterator[bytes]:
        number = 0

        def event(kind: str, **payload: Any) -> bytes:
            nonlocal number
            number += 1
            return _named({"type": kind, "sequence_number": number - 1, **payload})

        item = self._item(answer, "", "in_progress") | {"content": []}
        at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        started = self._response(answer, "in_progress", []) | {"usage": None}
        yield event("response.created", response=started)
        yield event("response.output_item.added", output_index=0, item=item)
        yield event("response.content_part.added", **at, part=self._part(""))
        said = []
        for piece in pieces:
            said.append(piece)
            yield event("response.output_text.delta", **at, delta=piece, logprobs=[])
        text = "".join(said)
        ended = self.reply(answer) | {"output": [self._item(answer, text, "completed")]}
        yield event("response.output_text.done", **at, text=text, logprobs=[])
        yield event("response.content_part.done", **at, part=self._part(text))
        yield event("response.output_item.done", output_index=0, item=ended["output"][0])
        yield event(f"response.{ended['status']}", response=ended)

    @staticmethod
    def _part(text: str) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _item(self, answer: Answer, text: str, status: str) -> dict[str, Any]:
        return {
            "id": f"msg_{answer.serial:024d}",
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [self._part(text)],
        }

    @staticmethod
    def _response(answer: Answer, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        reason = {"length": "max_output_tokens", "content_filter": "content_filter"}
        return {
            "id": f"resp_{answer.serial:024d}",
            "object": "response",
            "created_at": int(time.time()),
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason[answer.finish]}
            if status == "incomplete"
            else None,
            "model": answer.model,
            "output": output,
            "usage": {
                "input_tokens": answer.input_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": answer.output_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": answer.input_tokens + answer.output_tokens,
            },
        }


class AnthropicMessages:
    """`POST …/messages`."""

    provider: ClassVar[Provider] = "anthropic"
    _STOP: Final = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}

    def read(self, body: dict[str, Any]) -> Prompt:
        return _read_messages(body.get("messages"), _text_of(body.get("system")))

    def reply(self, answer: Answer) -> dict[str, Any]:
        refused = answer.finish == "content_filter"
        return self._message(answer) | {
            "content": [] if refused else [{"type": "text", "text": answer.text}],
            "stop_reason": self._STOP[answer.finish],
            "usage": self._usage(answer, answer.output_tokens),
        }

    def events(
        self, answer: Answer, pieces: Iterable[str], body: dict[str, Any]
    ) -> Iterator[bytes]:
        started = self._message(answer) | {"content": [], "usage": self._usage(answer, 1)}
        yield _named({"type": "message_start", "message": started})
        block = {"type": "text", "text": ""}
        yield _named({"type": "content_block_start", "index": 0, "content_block": block})
        yield _named({"type": "ping"})
        for piece in pieces:
            delta = {"type": "text_delta", "text": piece}
            yield _named({"type": "content_block_delta", "index": 0, "delta": delta})
        yield _named({"type": "content_block_stop", "index": 0})
        stop = {"stop_reason": self._STOP[answer.finish], "stop_sequence": None}
        usage = {"output_tokens": answer.output_tokens}
        yield _named({"type": "message_delta", "delta": stop, "usage": usage})
        yield _named({"type": "message_stop"})

    @staticmethod
    def _message(answer: Answer) -> dict[str, Any]:
        return {
            "id": f"msg_{answer.serial:024d}",
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "stop_reason": None,
            "stop_sequence": None,
        }

    @staticmethod
    def _usage(answer: Answer, output_tokens: int) -> dict[str, Any]:
        return {
            "input_tokens": answer.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_tokens,
            "service_tier": "standard",
        }


class CohereChat:
    """`POST …/v2/chat`. Cohere has no finish reason for a refusal: `ERROR` stands for it."""

    provider: ClassVar[Provider] = "cohere"
    _FINISH: Final = {"stop": "COMPLETE", "length": "MAX_TOKENS", "content_filter": "ERROR"}

    def read(self, body: dict[str, Any]) -> Prompt:
        return _read_messages(body.get("messages"))

    def reply(self, answer: Answer) -> dict[str, Any]:
        refused = answer.finish == "content_filter"
        content = [] if refused else [{"type": "text", "text": answer.text}]
        return {
            "id": self._id(answer),
            "finish_reason": self._FINISH[answer.finish],
            "message": {"role": "assistant", "content": content},
            "usage": self._usage(answer),
        }

    def events(
        self, answer: Answer, pieces: Iterable[str], body: dict[str, Any]
    ) -> Iterator[bytes]:
        opening = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": []}
        start: dict[str, Any] = {"type": "message-start", "id": self._id(answer)}
        yield _named(start | {"delta": {"message": opening}})
        block = {"message": {"content": {"type": "text", "text": ""}}}
        yield _named({"type": "content-start", "index": 0, "delta": block})
        for piece in pieces:
            delta = {"message": {"content": {"text": piece}}}
            yield _named({"type": "content-delta", "index": 0, "delta": delta})
        yield _named({"type": "content-end", "index": 0})
        end = {"finish_reason": self._FINISH[answer.finish], "usage": self._usage(answer)}
        yield _named({"type": "message-end", "delta": end})
        yield b"data: [DONE]\n\n"

    @staticmethod
    def _id(answer: Answer) -> str:
        return f"00000000-0000-4000-8000-{answer.serial:012d}"

    @staticmethod
    def _usage(answer: Answer) -> dict[str, Any]:
        tokens = {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens}
        return {"billed_units": tokens, "tokens": tokens}


_BY_PATH: Final[dict[str, WireFormat]] = {
    "/compatibility/v1/chat/completions": CohereCompatible(),
    "/chat/completions": OpenAIChat(),
    "/responses": OpenAIResponses(),
    "/messages": AnthropicMessages(),
    "/v2/chat": CohereChat(),
}
