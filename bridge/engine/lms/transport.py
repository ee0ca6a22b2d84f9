"""HTTP that can be broken off: requests over sockets of ours, in place of DSPy's own transport.

While a request waits for its LM, to connect, to send or to receive, the current scope can break
the wait, and the LM's server then sees the connection close. Replies are bounded in size and in
total time, which DSPy's own transport bounds only between two bytes. Of that, what goes between
us and a server is used: TLS, proxies, the pool of connections, and how a request is written.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from urllib.request import getproxies_environment

from dspy._vendor.lm15.transports import StdlibTransport
from dspy._vendor.lm15.transports._exceptions import (
    ConnectError,
    ConnectTimeout,
    WriteError,
    WriteTimeout,
)
from dspy._vendor.lm15.transports._http11 import build_request_head
from dspy._vendor.lm15.transports._proxy import proxy_route_for, route_origin
from dspy._vendor.lm15.transports._url import parse_url

from bridge.engine.lms.pool import Connection, Pool
from bridge.engine.lms.reply import Reply
from bridge.engine.lms.sockets import PatientSocket, connect
from bridge.scope import current_scope
from bridge.strand import drive

__all__ = ["AbortableTransport"]


@dataclass(frozen=True, slots=True)
class _Form:
    """What requests that are alike but for their bodies share: where they go, how they begin."""

    method: str
    url: str
    headers: list[tuple[str, str]] = field(repr=False)
    target: Any
    proxy: Any
    origin: tuple[str, str, int]
    head: bytes = field(repr=False)
    """Its head but for the length of its body."""


class AbortableTransport(StdlibTransport):  # type: ignore[misc]
    """`StdlibTransport` whose waits the current scope can break.

    Args:
        timeout: seconds for a whole exchange, and for each wait within it.
        max_reply: bytes of body; more is a ReplyTooLarge.
    """

    def __init__(self, *, timeout: float, max_reply: int) -> None:
        super().__init__(
            user_agent="dspy-bridge",
            # Looking through the environment costs a tenth of a call; it does not change.
            trust_env=bool(getproxies_environment()),
        )
        # Its slots are not asked for: DSPy's 100 made 1,000 calls wait in tens of rows. A call in
        # progress has one connection, and those are bounded by who may call.
        self._pool = Pool(self._max_connections)
        self._connect_seconds = min(timeout, 10.0)
        self._seconds = timeout
        self._max_reply = max_reply
        # A transport is one LM's: its next request mostly goes where the last one went, and says
        # the same of itself.
        self._last: _Form | None = None

    def stream(self, request: Any) -> Reply:
        """`ask`, on this thread."""
        return drive(self.ask(request))

    async def ask(self, request: Any) -> Reply:
        """Send `request`; the reply's body is still to be read.

        Raises:
            Stopped: the scope was stopped.
            TransportError: of the exchange; which one says what was waited for.
        """
        current_scope.get().check()
        ends = time.monotonic() + self._seconds
        form = self._form_of(request)
        conn = await self._sent(form, _written(form, request.body or b""), ends)

        def release(reusable: bool) -> None:
            (self._pool.checkin if reusable else self._pool.discard)(conn)

        reply = Reply(conn.sock, max_reply=self._max_reply, release=release)
        await reply.read_head()
        return reply

    def _form_of(self, request: Any) -> _Form:
        last = self._last
        if (
            last is None
            or last.url != request.url
            or last.headers != request.headers
            or last.method != request.method
        ):
            last = self._last = self._new_form(request)
        return last

    def _new_form(self, request: Any) -> _Form:
        url = parse_url(request.url)
        proxy = proxy_route_for(url, proxy=self._proxy, trust_env=self._trust_env)
        target, headers = url.target, list(request.headers)
        if proxy is not None and not url.is_tls:
            target = f"http://{url.host_header()}{url.target}"
            if proxy.basic_auth is not None:
                headers.append(("Proxy-Authorization", proxy.basic_auth))
        head: bytes = build_request_head(
            method=request.method,
            target=target,
            host=url.host,
            port=url.port,
            is_tls=url.is_tls,
            headers=headers,
            body_length=None,
            user_agent=self._user_agent,
        )
        return _Form(
            request.method,
            request.url,
            list(request.headers),
            url,
            proxy,
            route_origin(url, proxy),
            head.removesuffix(b"\r\n"),
        )

    # The way there

    async def _sent(self, form: _Form, data: bytes, ends: float) -> Any:
        """A connection that `data` has been sent on, one that was kept if its server took it."""
        kept = self._pool.checkout(form.origin)
        if kept is not None:
            try:
                return await self._send(kept, data, ends)
            except WriteTimeout:
                raise
            except WriteError:
                # The server closed it while it was idle.
                pass
        opened = await self._open_to(form, ends)
        self._pool.register_new(opened)
        return await self._send(opened, data, ends)

    async def _send(self, conn: Any, data: bytes, ends: float) -> Any:
        conn.sock.settimeout(self._seconds)
        conn.sock.ends = ends
        try:
            await conn.sock.send(data)
        except TimeoutError as error:
            self._pool.discard(conn)
            raise WriteTimeout(f"the request was not taken within {self._seconds:g} s") from error
        except OSError as error:
            self._pool.discard(conn)
            raise WriteError(f"write failed: {error}") from error
        except BaseException:
            self._pool.discard(conn)
            raise
        return conn

    async def _open_to(self, form: _Form, ends: float) -> Connection:
        url, proxy = form.target, form.proxy
        tls = self._tls_half() if url.is_tls else None
        peer = url if proxy is None else proxy
        sock = await self._connect(peer.host, peer.port, ends)
        try:
            if tls is not None:
                if proxy is not None:
                    # DSPy's own, on this thread.
                    self._connect_tunnel(sock, url, proxy, timeout=self._connect_seconds)
                await _start_tls(sock, tls, url.host)
        except BaseException:
            sock.close()
            raise
        return Connection(form.origin, sock)

    async def _connect(self, host: str, port: int, ends: float) -> PatientSocket:
        try:
            return await connect(host, port, self._connect_seconds, ends)
        except TimeoutError as error:
            raise ConnectTimeout(f"timed out connecting to {host}:{port}") from error
        except OSError as error:
            raise ConnectError(f"failed to connect to {host}:{port}: {error}") from error


def _written(form: _Form, body: bytes) -> bytes:
    """The bytes of a request."""
    if not body and form.method in {"GET", "HEAD", "DELETE"}:
        return form.head + b"\r\n"
    return b"%bContent-Length: %d\r\n\r\n%b" % (form.head, len(body), body)


async def _start_tls(sock: PatientSocket, tls: Any, hostname: str) -> None:
    try:
        await sock.start_tls(tls._ctx, hostname)  # noqa: SLF001 - its own way would block
    except TimeoutError as error:
        raise ConnectTimeout(f"timed out in the TLS handshake with {hostname}") from error
    except OSError as error:
        raise ConnectError(f"TLS handshake failed: {error}") from error
