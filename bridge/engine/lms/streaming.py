"""One attempt at an LM call, spoken: its text is heard as it comes, the response is whole.

What is asked of the LM is the same as without a stream, but for that; and so is what comes back.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

from dspy._vendor.lm15.result import StreamAccumulator

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from dspy.lm15 import Request, Response

    from bridge.engine.streaming.listening import Ear

__all__ = ["Awaited", "Engine", "attempt", "spoken"]


class Engine(Protocol):
    """One attempt at one request; raises Stopped or a `dspy.lm15` error."""

    def complete(self, request: Request) -> Response:
        """The whole response."""

    def speak(self, request: Request, say: Callable[[str], None]) -> Response:
        """The same; `say` gets its text in pieces, on this thread, as they come."""


class Awaited(Engine, Protocol):
    """An engine whose response can be awaited; the others hold their thread."""

    async def answer(self, request: Request) -> Response:
        """The whole response."""


async def attempt(engine: Engine | Awaited, request: Request, ear: Ear | None) -> Response:
    """One response, which `ear` has heard; in pieces only where somebody listens."""
    if ear is not None and ear.hears:
        return engine.speak(request, ear.hear)
    answer = getattr(engine, "answer", None)
    if answer is None:
        return engine.complete(request)
    response: Response = await answer(request)
    return response


def spoken(
    events: Generator[Any, None, None], request: Request, say: Callable[[str], None]
) -> Response:
    """The response that lm15's `events` make, their text said as it comes."""
    whole = StreamAccumulator(request)
    with closing(events):
        for event in events:
            whole.push(event)
            if event.type == "delta" and event.delta.type == "text":
                say(event.delta.text)
    return whole.response()
