"""litellm, for the providers that DSPy has no engine for: bounded, and possible to break off.

Only litellm's async calls can be cancelled, so they run on one loop of its own in a thread. It
reads replies without any bound; its HTTP transports are therefore made to stop at ours.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError
from contextlib import aclosing, asynccontextmanager, contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from dspy import lm15

from bridge.engine.lms.reply import ReplyTooLarge
from bridge.engine.lms.streaming import spoken
from bridge.scope import current_scope
from bridge.turnstile import turnstile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator
    from concurrent.futures import Future

    from dspy.lm15 import Request, Response, StreamEvent

    from bridge.specs.lms import LMSpec

__all__ = ["LiteLLMEngine"]

DEEPEST_CAUSE = 16
"""Exceptions of a chain that are looked at: litellm wraps an error about five times."""


class LiteLLMEngine:
    """One attempt through litellm. The first one made imports it, which takes seconds.

    Args:
        spec: whose LM; its `timeout_s` bounds the whole call.
        max_reply: bytes of an HTTP reply, for all engines of the process: the first one's holds.
    """

    def __init__(self, spec: LMSpec, max_reply: int) -> None:
        from dspy.clients._litellm import get_litellm  # noqa: PLC0415 - only where it is needed
        from dspy.clients.engines.litellm_engine import AsyncLiteLLMEngine  # noqa: PLC0415

        # Here, not in the first call: on the loop it would eat into every call's time.
        with turnstile.outside():
            get_litellm(feature=f"the provider {spec.provider!r}")
            _bound_replies(max_reply)
        options: dict[str, Any] = {"timeout": spec.timeout_s}
        if spec.key:
            options["api_key"] = spec.key
        if spec.base_url:
            options["api_base"] = spec.base_url
            # Without one, litellm would send a key of the environment to that address.
            options.setdefault("api_key", "none")
        self._engine = AsyncLiteLLMEngine(**options)
        self._timeout_s = spec.timeout_s

    def complete(self, request: Request) -> Response:
        """One response; raise Stopped or a `dspy.lm15` error."""
        current_scope.get().check()
        future = asyncio.run_coroutine_threadsafe(self._attempt(request), _own_loop())
        with _explained(), _breaking_off(future), turnstile.outside():
            return future.result()

    def speak(self, request: Request, say: Callable[[str], None]) -> Response:
        """The same, told as it comes."""
        return spoken(self._events(request), request, say)

    def _events(self, request: Request) -> Generator[StreamEvent, None, None]:
        current_scope.get().check()
        # Bounded by `max_reply`, as the whole reply is; and whoever takes from it never waits for
        # the host.
        events: SimpleQueue[StreamEvent | None] = SimpleQueue()
        future = asyncio.run_coroutine_threadsafe(self._speak(request, events), _own_loop())
        future.add_done_callback(lambda _: events.put(None))
        with _explained(), _breaking_off(future):
            while (event := _next(events)) is not None:
                yield event
            future.result()

    async def _attempt(self, request: Request) -> Response:
        async with self._in_time():
            return await self._engine.complete(request)

    async def _speak(self, request: Request, events: SimpleQueue[StreamEvent | None]) -> None:
        async with self._in_time(), aclosing(self._engine.stream(request)) as spoken:
            async for event in spoken:
                events.put(event)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as error:
            # Ours, or litellm's own, whose text speaks of its client.
            message = f"no whole reply within {self._timeout_s:g} s"
            raise lm15.TimeoutError(message) from error


def _next(events: SimpleQueue[StreamEvent | None]) -> StreamEvent | None:
    """The next event, waited for outside."""
    try:
        return events.get_nowait()
    except Empty:
        with turnstile.outside():
            return events.get()


@contextmanager
def _breaking_off(future: Future[Any]) -> Iterator[None]:
    """Within, the end of the request is the end of `future`; and so is leaving."""
    try:
        with current_scope.get().abortable(lambda: (future.cancel(), None)[1]):
            yield
    finally:
        future.cancel()


@contextmanager
def _explained() -> Iterator[None]:
    """Within, errors become those of `dspy.lm15`."""
    try:
        yield
    except CancelledError as error:
        current_scope.get().check()
        raise lm15.TransportError("the call was broken off") from error
    except lm15.StreamAssemblyError as error:
        raise lm15.TransportError("the LM's reply ended before it was whole") from error
    except Exception as error:
        for cause in _chain(error):
            if isinstance(cause, ReplyTooLarge):
                raise lm15.ProviderError(str(cause)) from error
        if isinstance(error, lm15.RateLimitError) and error.retry_after is None:
            error.retry_after = _retry_after(error)
        raise


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what led to it."""
    current: BaseException | None = error
    for _ in range(DEEPEST_CAUSE):
        if current is None:
            return
        yield current
        current = current.__cause__ or current.__context__


def _retry_after(error: BaseException) -> float | None:
    """Seconds that the server asked for: litellm's errors drop its headers, their causes do not."""
    from dspy.clients._http import retry_after_seconds  # noqa: PLC0415 - loaded with litellm

    for cause in _chain(error):
        for holder in (cause, getattr(cause, "response", None)):
            headers: Any = getattr(holder, "headers", None)
            # Both httpx's headers, which ignore case, and plain maps of what they held.
            asked = headers.get("retry-after") if hasattr(headers, "get") else None
            seconds = retry_after_seconds(asked)
            if seconds is not None:
                return float(seconds)
    return None


_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_bounded = False


def _own_loop() -> asyncio.AbstractEventLoop:
    global _loop  # noqa: PLW0603 - one loop for all of litellm, made when first needed
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="litellm", daemon=True).start()
        return _loop


def _bound_replies(max_reply: int) -> None:
    """Let every HTTP transport that litellm makes from now on stop at `max_reply` bytes."""
    global _bounded  # noqa: PLW0603 - litellm's factory is the process's, so is its bound
    with _lock:
        if _bounded:
            return
        _bounded = True
        from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler  # noqa: PLC0415

        # litellm has no setting for it; all its async clients get their transport here.
        make = AsyncHTTPHandler.create_async_transport

        def make_bounded(*args: Any, **options: Any) -> Any:
            return _bounded_transport(make(*args, **options), max_reply)

        AsyncHTTPHandler.create_async_transport = staticmethod(make_bounded)


def _bounded_transport(inner: Any, max_reply: int) -> Any:
    import httpx  # noqa: PLC0415 - litellm has it; the native engines do without

    class BoundedStream(httpx.AsyncByteStream):
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for chunk in self._stream:
                size += len(chunk)
                if size > max_reply:
                    raise ReplyTooLarge(max_reply)
                yield chunk

        async def aclose(self) -> None:
            await self._stream.aclose()

    class BoundedTransport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: Any) -> Any:
            # What comes compressed could be small here and anything once it is unpacked.
            request.headers["accept-encoding"] = "identity"
            response = await carrier.handle_async_request(request)
            response.stream = BoundedStream(response.stream)
            return response

        async def aclose(self) -> None:
            await carrier.aclose()

    carrier = inner if inner is not None else httpx.AsyncHTTPTransport()
    return BoundedTransport()
