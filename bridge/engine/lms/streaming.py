"""One attempt at an LM call, spoken: its text is heard as it comes, the response is whole.

What is asked of the LM is the same as without a stream, but for that; and so is what comes back.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

from dspy._vendor.lm15.result import StreamAccumulator

if TYPE_CHECKING:
    from collections.abc import Generator

    from dspy.lm15 import Request, Response

    from bridge.engine.streaming.listening import Ear

__all__ = ["Engine", "attempt"]


class Engine(Protocol):
    """One attempt at one request."""

    def complete(self, request: Request) -> Response:
        """The whole response; raise Stopped or a `dspy.lm15` error."""

    def stream(self, request: Request) -> Generator[Any, None, None]:
        """The same as lm15's events, from `start` to `end`; the iterator can be closed."""


def attempt(engine: Engine, request: Request, ear: Ear | None) -> Response:
    """One response, which `ear` has heard; in pieces only where somebody listens."""
    if ear is None or not ear.hears:
        return engine.complete(request)
    whole = StreamAccumulator(request)
    with closing(engine.stream(request)) as events:
        for event in events:
            whole.push(event)
            if event.type == "delta" and event.delta.type == "text":
                ear.hear(event.delta.text)
    return whole.response()
