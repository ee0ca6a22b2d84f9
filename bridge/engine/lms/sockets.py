"""Sockets that wait without holding anything up, and that a request's end breaks off.

A `PatientSocket` can be awaited, and it is what an HTTP transport takes for a socket: `sendall`
and `recv` wait as they do with a blocking one. Every wait ends with the scope that is current
(`stop` shuts the connection, so the LM's server sees it close), with the timeout, or when the
exchange's time is over, whichever comes first.
"""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import ssl
import sys
import time
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bridge.engine.lms.watch import READ, WRITE, SocketWait
from bridge.scope import current_scope
from bridge.strand import drive
from bridge.turnstile import turnstile

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PatientSocket", "connect"]

LONGEST = 24 * 3600.0
"""Seconds of a wait that was given no timeout."""

# Each system call gives the interpreter away, and getting it back may take longer than the call.

NONBLOCKING: int = getattr(socket, "SOCK_NONBLOCK", 0)
"""Linux makes a socket non-blocking where it makes it."""

TCP_INFO: int | None = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
"""Asks Linux for a connection's state, without giving the interpreter away."""

ESTABLISHED = 1
"""The state of a connection that has come about."""


class PatientSocket:
    """A connection. Not for two threads at once, but for `shut`."""

    __slots__ = ("_asked", "_timeout", "_watched", "_wire", "ends")

    def __init__(self, wire: socket.socket) -> None:
        if wire.gettimeout() != 0:
            wire.setblocking(False)
        self._wire = wire
        self._asked = False
        self._watched = False
        self._timeout: float | None = None
        self.ends = math.inf
        """When the exchange's time is over, in `time.monotonic` seconds: waits end by then."""

    def settimeout(self, timeout: float | None) -> None:
        """Bound each wait, in seconds."""
        self._timeout = timeout

    def fileno(self) -> int:
        """The descriptor."""
        return self._wire.fileno()

    async def receive(self, size: int) -> bytes:
        """At most `size` bytes, none at the end; raise TimeoutError, OSError or Stopped."""
        if self._asked:
            # The answer is not there yet: looking for it would be a system call in vain. What TLS
            # has taken from the wire already, nobody would wake us for.
            self._asked = False
            if type(self._wire) is socket.socket:
                await self._until(READ)
        data: bytes = await self._try(self._wire.recv, size, READ)
        return data

    async def send(self, data: bytes) -> None:
        """Send all of `data`; raise TimeoutError, OSError or Stopped."""
        view = memoryview(data)
        while view:
            view = view[await self._try(self._wire.send, view, WRITE) :]
        self._asked = True

    async def start_tls(self, context: ssl.SSLContext, hostname: str) -> None:
        """Speak TLS from here on; raise TimeoutError, OSError (which ssl's errors are), Stopped."""
        wire = context.wrap_socket(
            self._wire, server_hostname=hostname, do_handshake_on_connect=False
        )
        self._wire = wire
        await self._try(wire.do_handshake, False, READ)

    def recv(self, size: int) -> bytes:
        """`receive`, on this thread."""
        return drive(self.receive(size))

    def sendall(self, data: bytes) -> None:
        """`send`, on this thread."""
        drive(self.send(data))

    def has_something(self) -> bool:
        """Whether bytes or the end have come in."""
        return _is_ready(self._wire, READ)

    def shut(self) -> None:
        """End the connection, whoever waits for it. Any thread."""
        # The plain socket's shutdown even under TLS: SSLSocket's would tear the session object
        # away from the thread that is reading through it.
        with suppress(OSError):
            socket.socket.shutdown(self._wire, socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the descriptor back."""
        self._wire.close()

    async def until_connected(self) -> None:
        """Wait until `connect` on the socket has come to its end; raise what it came to."""
        if TCP_INFO is not None:
            (state,) = self._wire.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 1)
            if state == ESTABLISHED:
                return
        if not _is_ready(self._wire, WRITE):
            await self._until(WRITE)
        fault = self._wire.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if fault:
            raise OSError(fault, os.strerror(fault))

    async def _try(self, act: Callable[[Any], Any], argument: Any, usually: int) -> Any:
        """What `act` gives, as soon as it would not wait."""
        while True:
            try:
                return act(argument)
            except ssl.SSLWantReadError:
                # TLS may have to read in order to write, and the other way round.
                wanted = READ
            except ssl.SSLWantWriteError:
                wanted = WRITE
            except BlockingIOError:
                wanted = usually
            await self._until(wanted)

    async def _until(self, wanted: int) -> None:
        scope = current_scope.get()
        timeout = LONGEST if self._timeout is None else self._timeout
        left = min(self.ends - time.monotonic(), timeout)
        with scope.abortable(self.shut):
            known, self._watched = self._watched, True
            came = await SocketWait(self._wire.fileno(), wanted, scope.remaining(left), known=known)
        scope.check()
        if not came:
            raise TimeoutError("timed out")


async def connect(host: str, port: int, patience: float, ends: float) -> PatientSocket:
    """A connection to the first address of `host` that takes one.

    Args:
        host: a name or an address.
        port: a port.
        patience: seconds for each address.
        ends: when the exchange's time is over, in `time.monotonic` seconds.

    Raises:
        TimeoutError: the last address tried did not answer in time.
        OSError: it refused, or `host` has no address.
        Stopped: the scope was stopped meanwhile.
    """
    failure: OSError | None = None
    for family, kind, protocol, _, address in _addresses(host, port):
        wire = PatientSocket(socket.socket(family, kind | NONBLOCKING, protocol))
        wire.settimeout(patience)
        wire.ends = ends
        try:
            await _begin(wire, address)
        except OSError as error:
            failure = error
            wire.close()
        except BaseException:
            wire.close()
            raise
        else:
            return wire
    raise failure or OSError(f"{host} has no address")


async def _begin(wire: PatientSocket, address: Any) -> None:
    raw = wire._wire  # noqa: SLF001 - the two are one thing
    with suppress(OSError):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    fault = raw.connect_ex(address)
    if fault == errno.EINPROGRESS:
        await wire.until_connected()
    elif fault:
        raise OSError(fault, os.strerror(fault))


def _addresses(host: str, port: int) -> list[Any]:
    numeric = _numeric_addresses(host, port)
    if numeric is not None:
        return numeric
    with turnstile.outside():
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


@lru_cache(maxsize=256)
def _numeric_addresses(host: str, port: int) -> list[Any] | None:
    """Of a host that is an address, which nobody need be asked for; None for a name."""
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=numeric)
    except socket.gaierror:
        return None


def _is_ready(wire: socket.socket, wanted: int) -> bool:
    poll = select.poll()
    poll.register(wire, wanted)
    return bool(poll.poll(0))
