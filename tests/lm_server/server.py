"""The server itself: connections on one asyncio loop in a thread, seen through `LMServer`.

Reading never stops while a reply is pending, so a client that closes is noticed at once, whether
its reply stalls, trickles or is too large for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

import orjson

from .exchange import Exchange, control_reply
from .http11 import CONTINUE, HttpRequest, MalformedRequestError, RequestParser, encode_head
from .ledger import Ledger, Received
from .wire_formats import find_format

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

Endpoint = Literal["openai", "anthropic", "local", "cohere", "cohere-chat"]

_BASE_PATHS: Final[dict[str, str]] = {
    "openai": "/v1",
    "anthropic": "/v1",
    "local": "/v1",
    "cohere": "/compatibility/v1",
    "cohere-chat": "/v2/chat",
}

_BACKLOG: Final = 4096
"""Connections that may wait to be accepted: a burst of thousands must not meet a full queue."""


class _Connection(asyncio.Protocol):
    """One client connection: its requests are answered one after the other."""

    def __init__(self, ledger: Ledger, gap_s: float, connections: set[_Connection]) -> None:
        self._ledger, self._gap_s, self._connections = ledger, gap_s, connections
        self._parser = RequestParser()
        self._queue: deque[HttpRequest] = deque()
        self._exchange: Exchange | None = None
        self._busy = False
        self._counted = True
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)
        self._ledger.opened()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._queue.clear()
        if self._exchange is not None:
            self._exchange.abandon()
        if self._counted:
            self._ledger.closed()

    def data_received(self, data: bytes) -> None:
        try:
            self._queue.extend(self._parser.feed(data))
        except MalformedRequestError as malformed:
            self._write_error(400, str(malformed), keep_alive=False)
            return
        if self._parser.take_continue():
            self._transport.write(CONTINUE)
        self._advance()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def drain(self) -> None:
        # The turn of the loop lets a lost connection be noticed, and others be served, even
        # while a fast reader, or one that is gone, never makes a write wait.
        await asyncio.sleep(0)
        await self._writable.wait()

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        """Close without waiting for a client that does not read."""
        self._transport.abort()

    def end_exchange(self) -> None:
        self._busy, self._exchange = False, None
        if self._queue:
            asyncio.get_running_loop().call_soon(self._advance)

    def _advance(self) -> None:
        if self._busy or not self._queue or self._transport.is_closing():
            return
        request = self._queue.popleft()
        wire_format = find_format(request.path) if request.method == "POST" else None
        if wire_format is not None:
            self._busy = True
            exchange = Exchange(self, self._ledger, request, wire_format, self._gap_s)
            # An exchange that ended while it was made has already reported so.
            self._exchange = exchange if self._busy else None
            return
        if request.path.startswith("/control/"):
            self._leave_the_count()
            self._transport.writelines(control_reply(self._ledger, request))
            if not request.keep_alive:
                self._transport.close()
        else:
            known = "POST …/chat/completions, …/responses, …/messages, …/v2/chat; /control/…"
            text = f"no {request.method} {request.path}; this server has {known}"
            self._write_error(404, text, keep_alive=request.keep_alive)
        self.end_exchange()

    def _leave_the_count(self) -> None:
        """Whoever only asks for the counts is not one of the connections counted."""
        if self._counted:
            self._counted = False
            self._ledger.closed()

    def _write_error(self, status: int, text: str, *, keep_alive: bool) -> None:
        content = orjson.dumps({"error": {"message": text, "type": "invalid_request_error"}})
        headers = {"content-type": "application/json"}
        head = encode_head(status, headers, length=len(content), keep_alive=keep_alive)
        self._transport.write(head + content)
        if not keep_alive:
            self._transport.close()


class LMServer:
    """A server in this process; use it in a `with`, or `start()` and `stop()` it.

    `keep` bounds how many requests are remembered (all, unless said); `gap_s` is the wait between
    the pieces of a streamed reply whose model's name does not say otherwise.
    """

    def __init__(self, *, port: int = 0, keep: int | None = None, gap_s: float = 0.0) -> None:
        self.host = "127.0.0.1"
        self.port = port
        self._gap_s = gap_s
        self._ledger = Ledger(keep)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Listen; returns when connections are accepted. Raises OSError if the port is taken."""
        listening: Future[int] = Future()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening)), name="lm-server", daemon=True
        )
        self._thread.start()
        self.port = listening.result(timeout=10)
        return self

    def stop(self) -> None:
        """Close every connection and stop listening."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout=10)
        self._thread = None

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:<port>`, without a path."""
        return f"http://{self.host}:{self.port}"

    def url_for(self, endpoint: Endpoint) -> str:
        """The base URL that a provider's client is configured with.

        `cohere` is its OpenAI-compatible endpoint; `cohere-chat` is the whole native URL.
        """
        return self.base_url + _BASE_PATHS[endpoint]

    @property
    def requests(self) -> list[Received]:
        """The requests received, oldest first: a snapshot of live objects."""
        return self._ledger.requests()

    @property
    def open_connections(self) -> int:
        """Client connections now open, idle ones included."""
        return self._ledger.open_connections

    @property
    def peak_connections(self) -> int:
        """The most client connections that were open at once."""
        return self._ledger.peak_connections

    @property
    def peak_in_flight(self) -> int:
        """The most requests that were in flight at once."""
        return self._ledger.peak_in_flight

    @property
    def closed_early(self) -> int:
        """Requests whose client closed before it had the whole reply."""
        return self._ledger.closed_early

    def in_flight(self, model: str | None = None) -> int:
        """Requests received whose reply is not out, of one model or of all."""
        return self._ledger.in_flight(model)

    def wait_for(self, predicate: Callable[[], _T], timeout: float = 5.0) -> _T:
        """Wait until `predicate()` is truthy; gives its value. Raises TimeoutError."""
        return self._ledger.wait_for(predicate, timeout)

    def set_behaviour(self, model: str, behaviour: str) -> None:
        """Let a model do as `behaviour` says, whatever its name says, until `reset`."""
        self._ledger.order_behaviour(model, behaviour)

    def script(self, model: str, *texts: str) -> None:
        """Let the next well-formed replies of a model have exactly these texts, one each."""
        self._ledger.order_script(model, list(texts))

    def reset(self) -> None:
        """Forget requests, counts, attempts, behaviours set and scripts."""
        self._ledger.reset()

    def stats(self) -> dict[str, Any]:
        """All counts, as `GET /control/stats` gives them."""
        return self._ledger.stats()

    async def _serve(self, listening: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        connections: set[_Connection] = set()
        try:
            server = await self._loop.create_server(
                lambda: _Connection(self._ledger, self._gap_s, connections),
                self.host,
                self.port,
                backlog=_BACKLOG,
            )
        except OSError as failure:
            listening.set_exception(failure)
            return
        listening.set_result(server.sockets[0].getsockname()[1])
        await self._stopping.wait()
        server.close()
        for connection in list(connections):
            connection.abort()
        # One turn of the loop lets every closed connection report itself.
        await asyncio.sleep(0)
