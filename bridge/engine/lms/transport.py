"""HTTP that can be broken off: DSPy's own transport, with its waiting sockets in our hands.

While a request waits for its LM, the current scope holds a way to shut the socket down, so that
`stop` frees the thread at once and the LM's server sees the connection close. Replies are bounded
in size and in total time, which the transport underneath bounds only between two bytes.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies_environment

from dspy._vendor.lm15.transports import StdlibTransport
from dspy._vendor.lm15.transports._exceptions import ProtocolError, ReadTimeout
from dspy._vendor.lm15.transports._sync import _ConnectionPool

from bridge.scope import current_scope
from bridge.turnstile import turnstile

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MOST_CONNECTIONS", "AbortableTransport", "ReplyTooLarge"]

MOST_CONNECTIONS = 4_096
"""Above every other bound of the daemon: DSPy's own 100 made 1,000 calls wait in tens of rows."""


MOST_IDLE = 64
"""Connections to one server that stay open for later calls; what a burst opened above it closes."""


class _Pool(_ConnectionPool):  # type: ignore[misc]
    """DSPy's pool, which never closes what a burst has opened."""

    def checkin(self, conn: Any) -> None:
        """Keep `conn` for another call, unless enough are kept."""
        if len(self._idle.get(conn.origin, ())) >= MOST_IDLE:
            self.discard(conn)
        else:
            super().checkin(conn)


class ReplyTooLarge(ProtocolError):  # type: ignore[misc]  # noqa: N818 - what the reply is
    """An HTTP reply has more than `max_reply` bytes."""

    def __init__(self, max_reply: int) -> None:
        super().__init__(f"the LM's reply is larger than {max_reply} bytes")


class AbortableTransport(StdlibTransport):  # type: ignore[misc]
    """`StdlibTransport` whose waits the current scope can break.

    Args:
        timeout: seconds for a whole exchange, and for each wait within it.
        max_reply: bytes of body; more is a ReplyTooLarge.
    """

    def __init__(self, *, timeout: float, max_reply: int) -> None:
        super().__init__(
            connect_timeout=min(timeout, 10.0),
            read_timeout=timeout,
            write_timeout=timeout,
            pool_timeout=timeout,
            max_connections=MOST_CONNECTIONS,
            user_agent="dspy-bridge",
            # Looking through the environment costs a tenth of a call; it does not change.
            trust_env=bool(getproxies_environment()),
        )
        self._pool = _Pool(MOST_CONNECTIONS)
        self._total = timeout
        self._max_reply = max_reply
        # A thread is in one exchange at a time.
        self._exchange = threading.local()

    def stream(self, request: Any) -> Any:
        """Send `request`; the response's body is read through `_iter_body`."""
        current_scope.get().check()
        self._exchange.ends = time.monotonic() + self._total
        return super().stream(request)

    def _open(self, *target: Any, **rest: Any) -> Any:
        with turnstile.outside():
            return super()._open(*target, **rest)

    def _send_request(self, conn: Any, *request: Any, **rest: Any) -> None:
        with current_scope.get().abortable(lambda: _shut(conn.sock)), turnstile.outside():
            super()._send_request(conn, *request, **rest)

    def _read_head(self, conn: Any, *, read_timeout: float) -> Any:
        with current_scope.get().abortable(lambda: _shut(conn.sock)), turnstile.outside():
            return super()._read_head(conn, read_timeout=self._left(read_timeout))

    def _iter_body(
        self, conn: Any, decoder: Any, *, initial: bytes, read_timeout: float, **rest: Any
    ) -> Iterator[bytes]:
        ends = self._exchange.ends
        size = 0
        with current_scope.get().abortable(lambda: _shut(conn.sock)):
            chunks = super()._iter_body(
                conn, decoder, initial=initial, read_timeout=self._left(read_timeout), **rest
            )
            for chunk in _outside_when_waiting(chunks, decoder, initial):
                size += len(chunk)
                if size > self._max_reply:
                    raise ReplyTooLarge(self._max_reply)
                if time.monotonic() > ends:
                    raise ReadTimeout(f"the reply was not complete after {self._total:g} s")
                yield chunk
                # The next wait has only what is left: a stream may stall at its last word.
                conn.sock.settimeout(self._left(read_timeout))

    def _left(self, at_most: float) -> float:
        """Seconds that one wait may take; never zero, which a socket takes for no wait at all."""
        left = min(at_most, self._exchange.ends - time.monotonic())
        return max(0.001, current_scope.get().remaining(left))


def _outside_when_waiting(chunks: Iterator[bytes], decoder: Any, initial: bytes) -> Iterator[bytes]:
    """`chunks`, stepping out for those that have to be waited for: most bodies come whole."""
    while True:
        if initial or decoder.complete:
            chunk = next(chunks, None)
        else:
            with turnstile.outside():
                chunk = next(chunks, None)
        if chunk is None:
            return
        initial = b""
        yield chunk


def _shut(sock: socket.socket) -> None:
    # The plain socket's shutdown even under TLS: SSLSocket's would tear the session object away
    # from the thread that is reading through it.
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
