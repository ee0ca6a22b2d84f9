"""HTTP that can be broken off: DSPy's own transport over sockets of ours.

While a request waits for its LM, to connect, to send or to receive, the current scope can break
the wait, and the LM's server then sees the connection close. Replies are bounded in size and in
total time, which the transport underneath bounds only between two bytes.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies_environment

from dspy._vendor.lm15.transports import StdlibTransport
from dspy._vendor.lm15.transports._exceptions import (
    ConnectError,
    ConnectTimeout,
    ProtocolError,
    ReadTimeout,
    WriteTimeout,
)
from dspy._vendor.lm15.transports._sync import _ConnectionPool, _SyncConnection

from bridge.engine.lms.sockets import PatientSocket, connect
from bridge.scope import current_scope

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MOST_CONNECTIONS", "AbortableTransport", "ReplyTooLarge"]

MOST_CONNECTIONS = 4_096
"""Above every other bound of the daemon: DSPy's own 100 made 1,000 calls wait in tens of rows."""


MOST_IDLE = 64
"""Connections to one server that stay open for later calls; what a burst opened above it closes."""


class _Connection(_SyncConnection):  # type: ignore[misc]
    """DSPy's connection, which asks `select`, and that takes no descriptor above 1,023."""

    __slots__ = ()

    def is_stale(self) -> bool:
        """Whether the server has closed it, or said what nobody asked for."""
        try:
            return bool(self.closed or self.sock.has_something())
        except (OSError, ValueError):
            return True


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

    def _open(
        self, parsed: Any, *, proxy: Any, origin: tuple[str, str, int], connect_timeout: float
    ) -> _Connection:
        tls = self._tls_half() if parsed.is_tls else None
        peer = parsed if proxy is None else proxy
        sock = self._connect(peer.host, peer.port, connect_timeout)
        try:
            if tls is not None:
                if proxy is not None:
                    self._connect_tunnel(sock, parsed, proxy, timeout=connect_timeout)
                _start_tls(sock, tls, parsed.host)
        except BaseException:
            sock.close()
            raise
        return _Connection(origin, sock)

    def _connect(self, host: str, port: int, timeout: float) -> PatientSocket:
        try:
            return connect(host, port, timeout, self._exchange.ends)
        except TimeoutError as error:
            raise ConnectTimeout(f"timed out connecting to {host}:{port}") from error
        except OSError as error:
            raise ConnectError(f"failed to connect to {host}:{port}: {error}") from error

    def _send_request(self, conn: Any, *request: Any, **rest: Any) -> None:
        conn.sock.ends = self._exchange.ends
        conn.sock.hold()
        super()._send_request(conn, *request, **rest)
        try:
            conn.sock.send_held()
        except TimeoutError as error:
            raise WriteTimeout(f"the request was not taken within {self._total:g} s") from error

    def _iter_body(
        self, conn: Any, decoder: Any, *, initial: bytes, read_timeout: float, **rest: Any
    ) -> Iterator[bytes]:
        size = 0
        chunks = super()._iter_body(
            conn, decoder, initial=initial, read_timeout=read_timeout, **rest
        )
        for chunk in chunks:
            size += len(chunk)
            if size > self._max_reply:
                raise ReplyTooLarge(self._max_reply)
            if time.monotonic() > conn.sock.ends:
                raise ReadTimeout(f"the reply was not complete after {self._total:g} s")
            yield chunk


def _start_tls(sock: PatientSocket, tls: Any, hostname: str) -> None:
    try:
        sock.start_tls(tls._ctx, hostname)  # noqa: SLF001 - its own way would block
    except TimeoutError as error:
        raise ConnectTimeout(f"timed out in the TLS handshake with {hostname}") from error
    except OSError as error:
        raise ConnectError(f"TLS handshake failed: {error}") from error
