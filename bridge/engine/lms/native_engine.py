"""DSPy's own HTTP engine, with what it leaves unsaid said: which wait ended, what Cohere meant.

DSPy's transport errors all arrive as one class; here a wait that was too long becomes a timeout,
and a reply that was too large an error that a repeat will not mend.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dspy import lm15
from dspy._vendor.lm15.transports._exceptions import ConnectTimeout, ReadTimeout, WriteTimeout
from dspy.clients.engines.lm15_engine import LM15Engine

from bridge.engine.lms.transport import ReplyTooLarge

if TYPE_CHECKING:
    from dspy.lm15 import ProviderDefinition, Request, Response, RouterConfig

__all__ = ["NativeEngine", "with_cohere_errors"]

COHERE_BLOCKED = 498
"""Cohere's own status for an input or output that its safety filter blocked."""


class NativeEngine:
    """One attempt over HTTP. `timeout_s` is what the configuration's transport waits."""

    def __init__(self, config: RouterConfig, timeout_s: float) -> None:
        self._engine = LM15Engine(config)
        self._timeout_s = timeout_s
        self._routes: dict[str, tuple[Any, str]] = {}

    def complete(self, request: Request) -> Response:
        """One response; raise a `dspy.lm15` error."""
        try:
            if request.config.extensions:
                # DSPy checks them, call by call.
                return self._engine.complete(request)
            provider, model = self._route(request)
            return provider.complete(replace(request, model=model))
        except lm15.TransportError as error:
            cause = error.__cause__
            if isinstance(cause, ConnectTimeout):
                raise lm15.TimeoutError(str(cause)) from error
            if isinstance(cause, ReadTimeout | WriteTimeout):
                raise lm15.TimeoutError(f"no whole reply within {self._timeout_s:g} s") from error
            if isinstance(cause, ReplyTooLarge):
                raise lm15.ProviderError(str(cause)) from error
            raise

    def _route(self, request: Request) -> tuple[Any, str]:
        """The provider, and its name of the model: found once a model, which costs DSPy 0.1 ms."""
        route = self._routes.get(request.model)
        if route is None:
            provider, routed = self._engine._target(request)  # noqa: SLF001 - it has no public way
            route = self._routes[request.model] = (provider, routed.model)
        return route


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
