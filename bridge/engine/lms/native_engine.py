"""DSPy's own HTTP engine, with what it leaves unsaid said: which wait ended, what Cohere meant.

DSPy's transport errors all arrive as one class; here a wait that was too long becomes a timeout,
and a reply that was too large an error that a repeat will not mend.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from dspy import lm15
from dspy._vendor.lm15.transports._exceptions import ConnectTimeout, ReadTimeout, WriteTimeout
from dspy.clients.engines.lm15_engine import LM15Engine

from bridge.engine.lms.reply import ReplyTooLarge
from bridge.engine.lms.streaming import spoken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dspy.lm15 import ProviderDefinition, Request, Response, RouterConfig, StreamEvent

__all__ = ["NativeEngine", "with_cohere_errors"]

TOO_LONG = ("SSE line exceeds", "SSE event exceeds")
"""How DSPy begins to say that one event of a stream is above its bound (64 KiB a line)."""

COHERE_BLOCKED = 498
"""Cohere's own status for an input or output that its safety filter blocked."""


class NativeEngine:
    """One attempt over HTTP. `timeout_s` is what the configuration's transport waits."""

    def __init__(self, config: RouterConfig, timeout_s: float) -> None:
        self._engine = LM15Engine(config)
        self._engine.router = _Router(config)
        self._timeout_s = timeout_s
        self._routes: dict[str, tuple[Any, str]] = {}

    def complete(self, request: Request) -> Response:
        """One response; raise a `dspy.lm15` error."""
        with self._explained():
            if request.config.extensions:
                # DSPy checks them, call by call.
                return self._engine.complete(request)
            provider, model = self._route(request)
            return provider.complete(replace(request, model=model))

    def speak(self, request: Request, say: Callable[[str], None]) -> Response:
        """The same, told as it comes."""
        with self._explained():
            return spoken(self._engine.stream(request), request, say)

    def _route(self, request: Request) -> tuple[Any, str]:
        """The provider, and its name of the model: found once a model, which costs DSPy 0.1 ms."""
        route = self._routes.get(request.model)
        if route is None:
            provider, routed = self._engine._target(request)  # noqa: SLF001 - it has no public way
            route = self._routes[request.model] = (provider, routed.model)
        return route

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except lm15.TransportError as error:
            cause = error.__cause__
            if isinstance(cause, ConnectTimeout):
                raise lm15.TimeoutError(str(cause)) from error
            if isinstance(cause, ReadTimeout | WriteTimeout):
                raise lm15.TimeoutError(f"no whole reply within {self._timeout_s:g} s") from error
            if isinstance(cause, ReplyTooLarge):
                raise lm15.ProviderError(str(cause)) from error
            if str(error).startswith(TOO_LONG):
                raise lm15.ProviderError(str(error)) from error
            raise
        except lm15.StreamAssemblyError as error:
            raise lm15.TransportError("the LM's reply ended before it was whole") from error
        except json.JSONDecodeError as error:
            raise lm15.ProviderError("the LM's reply has an event that is not JSON") from error


class _AnthropicLM(lm15.AnthropicLM):  # type: ignore[misc]
    """Anthropic's dialect with the whole usage of a stream.

    A stream tells the prompt's tokens where it begins and, mostly, only the answer's where it ends;
    DSPy reads the end. One thread reads a stream from its beginning to its end.
    """

    __slots__ = ()

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


class _Router(lm15.LMRouter):  # type: ignore[misc]
    _adapters: ClassVar = {**lm15.LMRouter._adapters, "anthropic": _AnthropicLM}  # noqa: SLF001


def with_cohere_errors(definition: ProviderDefinition) -> ProviderDefinition:
    """`definition` of an OpenAI-compatible endpoint that answers errors in Cohere's own shape."""
    return replace(definition, adapter=_CohereLM)


class _CohereLM(lm15.OpenAIChatLM):  # type: ignore[misc]
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
