"""DSPy's dialects with what they leave unsaid said, and their requests written the short way.

What a provider is sent and what is read of its answers stays DSPy's: here is what Cohere means by
its errors, what an Anthropic stream has told of usage by its end, and `Forms`.
"""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dspy import lm15
from dspy._vendor.lm15.providers.base import (
    HttpResponse,
    _attach_error_metadata,
    _client_side_stop,
)
from dspy._vendor.lm15.router import _Table
from dspy._vendor.lm15.transports import TransportError as NetworkTransportError

from bridge.engine.lms.forms import Forms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspy._vendor.lm15.transports import TransportRequest
    from dspy.lm15 import ProviderDefinition, Request, Response, RouterConfig, StreamEvent

    from bridge.engine.lms.forms import Built

__all__ = ["Dialect", "Router", "with_cohere_errors"]

COHERE_BLOCKED = 498
"""Cohere's own status for an input or output that its safety filter blocked."""


class Dialect:
    """Over a dialect of DSPy's: requests are written by their forms, replies can be awaited."""

    __slots__ = ()

    _forms: Forms

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]
        # In the slots of whoever mixes this in.
        self._forms = Forms()  # type: ignore[misc]

    def _build(self, request: Request, stream: bool, **how: Any) -> Built:
        write = super()._build  # type: ignore[misc]
        # A key that is asked for anew each time, or that signs the request, is not to be learned.
        if how or callable(self.api_key) or self.access.host is not None:  # type: ignore[attr-defined]
            built: Built = write(request, stream, **how)
            return built
        return self._forms.build(request, stream, write)

    async def answer(self: Any, request: Request) -> Response:
        """`complete`, step by step as DSPy has it, but for the wait.

        What scores an answer by its tokens, which a response format asks for, is `complete`'s.
        """
        built, notes = self._build(request, stream=False)
        if _client_side_stop(notes):
            response: Response = self.complete(request)
            return response
        reply = await self._received(built)
        if reply.status >= 400:
            raise self._http_error(reply)
        try:
            response = self._finish_response(request, self.parse_response(request, reply), notes)
        except lm15.ProviderError as error:
            _attach_error_metadata(error, reply.headers)
            raise
        return response

    async def _received(self: Any, built: TransportRequest) -> HttpResponse:
        try:
            reply = await self.transport.ask(built)
            body = await reply.whole()
        except NetworkTransportError as error:
            raise lm15.TransportError(str(error)) from error
        return HttpResponse(
            status=reply.status,
            reason=reply.reason,
            headers=reply.headers,
            body=body,
            http_version=reply.http_version,
            provider=self.provider,
        )


class _OpenAIChatLM(Dialect, lm15.OpenAIChatLM):  # type: ignore[misc]
    """OpenAI's dialect, which most servers speak."""

    __slots__ = ("_forms",)


class _AnthropicLM(Dialect, lm15.AnthropicLM):  # type: ignore[misc]
    """Anthropic's dialect with the whole usage of a stream.

    A stream tells the prompt's tokens where it begins and, mostly, only the answer's where it ends;
    DSPy reads the end. One thread reads a stream from its beginning to its end.
    """

    __slots__ = ("_forms",)

    def parse_stream_events(self, request: Request, raw_event: Any) -> Iterator[StreamEvent]:
        """The events of one server-sent event."""
        for event in super().parse_stream_events(request, raw_event):
            if event.type == "start":
                message: Any = json.loads(raw_event.data).get("message")
                _begun.usage = message.get("usage") if isinstance(message, dict) else None
            if event.type == "end" and event.usage is not None:
                yield replace(event, usage=_with_input(event.usage))
            else:
                yield event


def _with_input(usage: lm15.Usage) -> lm15.Usage:
    """`usage` with what the stream's beginning told and its end did not."""
    begun: Any = getattr(_begun, "usage", None)
    told = {
        "input_tokens": "input_tokens",
        "cache_read_tokens": "cache_read_input_tokens",
        "cache_write_tokens": "cache_creation_input_tokens",
    }
    missing = {
        ours: begun[theirs]
        for ours, theirs in told.items()
        if getattr(usage, ours) is None
        and isinstance(begun, dict)
        and isinstance(begun.get(theirs), int)
    }
    return replace(usage, **missing)


_begun = threading.local()


def with_cohere_errors(definition: ProviderDefinition) -> ProviderDefinition:
    """`definition` of an OpenAI-compatible endpoint that answers errors in Cohere's own shape."""
    return replace(definition, adapter=_CohereLM)


class _CohereLM(_OpenAIChatLM):
    """OpenAI's dialect with Cohere's errors: ``{"id", "message"}``, and no codes."""

    __slots__ = ()

    def normalize_error(self, status: int, body: str) -> lm15.ProviderError:
        """The typed error of an HTTP failure."""
        message = _cohere_message(body)
        if message is None:
            return super().normalize_error(status, body)
        if status == COHERE_BLOCKED:
            return self._provider_error(lm15.InvalidRequestError, message, status=status)
        if status == 400 and "too many tokens" in message.lower():
            return self._provider_error(lm15.ContextLengthError, message, status=status)
        return super().normalize_error(status, json.dumps({"error": {"message": message}}))


def _cohere_message(body: str) -> str | None:
    try:
        said: Any = json.loads(body)
    except ValueError:
        return None
    message = said.get("message") if isinstance(said, dict) else None
    return message if isinstance(message, str) and message else None


_OURS = {lm15.OpenAIChatLM: _OpenAIChatLM, lm15.AnthropicLM: _AnthropicLM}


class Router(lm15.LMRouter):  # type: ignore[misc]
    """DSPy's router, to these dialects where it has them, for whichever provider."""

    def __init__(self, config: RouterConfig) -> None:
        super().__init__(config)
        own = {name: _OURS.get(kind, kind) for name, kind in lm15.LMRouter._adapters.items()}  # noqa: SLF001
        self._adapters = _Table(own, config.providers, is_async=False)
        self._adapters.definitions = {
            name: replace(definition, adapter=_OURS.get(definition.adapter, definition.adapter))
            for name, definition in self._adapters.definitions.items()
        }
