"""DSPy's own HTTP engine, with what it leaves unsaid said: which wait ended, and how.

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

from bridge.engine.lms.dialects import Dialect, Router
from bridge.engine.lms.reply import ReplyTooLarge
from bridge.engine.lms.streaming import spoken
from bridge.strand import drive

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspy.lm15 import Request, Response, RouterConfig

__all__ = ["NativeEngine"]

TOO_LONG = ("SSE line exceeds", "SSE event exceeds")
"""How DSPy begins to say that one event of a stream is above its bound (64 KiB a line)."""


class NativeEngine:
    """One attempt over HTTP, at one model.

    Args:
        config: of the router; its transport does the waiting.
        model: as the router has it, with the provider before it.
        timeout_s: what the transport waits.
    """

    def __init__(self, config: RouterConfig, model: str, timeout_s: float) -> None:
        self._engine = LM15Engine(config)
        self._engine.router = Router(config)
        self._routed = model
        self._timeout_s = timeout_s
        self._dialect: Any = None
        self.model: str = self._engine.resolve(model).model
        """What requests are to call it: the provider's own name of it."""

    def complete(self, request: Request) -> Response:
        """`answer`, on this thread."""
        return drive(self.answer(request))

    async def answer(self, request: Request) -> Response:
        """One response; raise a `dspy.lm15` error."""
        try:
            if request.config.extensions:
                # DSPy checks them, call by call.
                return self._engine.complete(replace(request, model=self._routed))
            if self._dialect is None:
                self._dialect = self._found(request)
            if isinstance(self._dialect, Dialect) and request.config.response_format is None:
                return await self._dialect.answer(request)
            return self._dialect.complete(request)
        except Exception as error:
            self._explain(error)
            raise

    def speak(self, request: Request, say: Callable[[str], None]) -> Response:
        """The same, told as it comes."""
        try:
            events = self._engine.stream(replace(request, model=self._routed))
            return spoken(events, request, say)
        except Exception as error:
            self._explain(error)
            raise

    def _found(self, request: Request) -> Any:
        """The dialect, with its key: looked for once, which costs DSPy 0.1 ms."""
        routed = replace(request, model=self._routed)
        dialect, _ = self._engine._target(routed)  # noqa: SLF001 - it has no public way
        return dialect

    def _explain(self, error: Exception) -> None:
        """Raise what `error` means, where it does not say so itself."""
        if isinstance(error, lm15.StreamAssemblyError):
            raise lm15.TransportError("the LM's reply ended before it was whole") from error
        if isinstance(error, json.JSONDecodeError):
            raise lm15.ProviderError("the LM's reply has an event that is not JSON") from error
        if not isinstance(error, lm15.TransportError):
            return
        cause = error.__cause__
        if isinstance(cause, ConnectTimeout):
            raise lm15.TimeoutError(str(cause)) from error
        if isinstance(cause, ReadTimeout | WriteTimeout):
            raise lm15.TimeoutError(f"no whole reply within {self._timeout_s:g} s") from error
        if isinstance(cause, ReplyTooLarge):
            raise lm15.ProviderError(str(cause)) from error
        if str(error).startswith(TOO_LONG):
            raise lm15.ProviderError(str(error)) from error
