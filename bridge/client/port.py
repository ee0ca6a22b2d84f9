"""A fake Erlang port: spawns the daemon, frames requests, routes answers by id.

It does what the BEAM does with ``Port.open(…, [{:packet, 4}])``, and uses the same `protocol`
classes as the daemon, from the other side.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from protocol import (
    CancelCall,
    Codec,
    ErrorReply,
    Event,
    HostCall,
    HostSession,
    Reply,
    load_quick_codecs,
)
from protocol.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

__all__ = ["DaemonExited", "Port", "RequestFailed"]

CALL_TIMEOUT = 60.0
"""Seconds that `call` waits when it is told nothing: no wait without an end."""

LOOK_SECONDS = 0.1
"""How often a wait for an event looks whether the daemon is still there."""


class RequestFailed(Exception):  # noqa: N818 - the name of what happened to the request
    """The daemon answered with an error. `error` is its map (version 2) or string (version 1)."""

    def __init__(self, error: Any) -> None:
        super().__init__(str(error))
        self.error = error

    @property
    def code(self) -> str:
        """The error's code in either version."""
        if isinstance(self.error, str):
            return self.error.partition(":")[0]
        return str(self.error.get("code"))


class DaemonExited(Exception):  # noqa: N818 - the name of what happened
    """The daemon ended before it answered; `status` is its exit status."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"the daemon exited with status {status}")
        self.status = status


class Port:
    """One spawned daemon. Use as a context manager; methods may be called from any thread.

    Args:
        argv: the daemon's command line; this Python's `dspy-bridge` when left out.
        codec: what requests are written in.
        env: added to this process's environment.
        stderr: where the daemon's log goes, as for subprocess.Popen; inherited when None.
    """

    def __init__(
        self,
        argv: Sequence[str] | None = None,
        *,
        codec: Codec = Codec.MSGPACK,
        env: Mapping[str, str] | None = None,
        stderr: Any = None,
    ) -> None:
        command = list(argv or (sys.executable, "-m", "bridge"))
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=0,
            env={**os.environ, **(env or {})},
        )
        assert self.process.stdin is not None  # noqa: S101 - for the type checker
        assert self.process.stdout is not None  # noqa: S101 - for the type checker
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        # Nobody waits for a host's first word.
        load_quick_codecs()
        self.session = HostSession(codec=codec)
        self.events: SimpleQueue[Event] = SimpleQueue()
        self.on_event: Callable[[Event], None] = self.events.put
        self.on_call: Callable[[HostCall], None] = self._refuse
        self.on_cancel_call: Callable[[CancelCall], None] = lambda _: None
        self.unrouted: list[Any] = []
        self._ids = itertools.count(1)
        # Keyed by what a reply may carry: None is the id of a frame that could not be read.
        self._pending: dict[int | str | None, Future[Any]] = {}
        self._hearers: dict[int | str | None, Callable[[Event], None]] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="port", daemon=True)
        self._reader.start()

    # Requests

    def send(
        self,
        command: str,
        args: Any = None,
        *,
        id: int | str | None = None,  # noqa: A002 - the wire's name
        on_event: Callable[[Event], None] | None = None,
        **envelope: Any,
    ) -> Future[Any]:
        """Send a request; the future gives its result or raises RequestFailed, DaemonExited.

        `on_event` gets the request's events, on the reader's thread, before the future is done;
        without it they are among the others.
        """
        request_id = next(self._ids) if id is None else id
        future: Future[Any] = Future()
        future.request_id = request_id  # type: ignore[attr-defined]
        frame = self.session.encode_request(request_id, command, args or {}, **envelope)
        # Registered before it is sent: the answer may be faster than we are.
        with self._lock:
            self._pending[request_id] = future
            if on_event is not None:
                self._hearers[request_id] = on_event
        try:
            self.write(frame)
        except (OSError, ValueError):
            # It has gone, or our end of the pipe is closed.
            self._fail_all()
        return future

    def call(
        self, command: str, args: Any = None, *, timeout: float = CALL_TIMEOUT, **envelope: Any
    ) -> Any:
        """Send a request and wait for its result.

        Raises:
            RequestFailed: the daemon answered with an error.
            DaemonExited: it ended first.
            TimeoutError: it said nothing for `timeout` seconds.
        """
        return self.send(command, args, **envelope).result(timeout)

    def hello(self, *versions: int) -> Any:
        """Say hello; version 2 unless told otherwise."""
        accepts = ["events", "calls"]
        return self.call("hello", {"protocol": list(versions or (1, 2)), "accepts": accepts})

    def answer(self, call: int | str, *, result: Any = None, error: Any = None) -> None:
        """Answer a host call that `on_call` was given. Any thread, any time.

        Raises:
            FrameTooLarge, ValueError: the answer has no form on the wire.
        """
        frame = self.session.encode_answer(call, result=result, error=error)
        # The daemon may have gone meanwhile, and our end of the pipe with it.
        with suppress(OSError, ValueError):
            self.write(frame)

    def wait_ready(self, timeout: float = CALL_TIMEOUT) -> Event:
        """Wait for the `ready` event (after `hello`).

        Raises:
            DaemonExited: the daemon ended first.
            TimeoutError: it did not come within `timeout` seconds.
        """
        ends = time.monotonic() + timeout
        while True:
            # Looked at before the queue is: what was read before the end is in it by then.
            ended = not self._reader.is_alive()
            try:
                event = self.events.get(timeout=LOOK_SECONDS)
            except Empty:
                if ended:
                    raise DaemonExited(self.process.poll()) from None
                if time.monotonic() >= ends:
                    raise TimeoutError(f"the daemon was not ready within {timeout} s") from None
                continue
            if event.event == "ready":
                return event

    def write(self, data: bytes) -> None:
        """Write raw bytes to the daemon."""
        with self._writing:
            view = memoryview(data)
            while view:
                view = view[self._stdin.write(view) :]

    # Life

    def close(self, timeout: float = CALL_TIMEOUT) -> int:
        """End the input, wait for the daemon to drain, and return its exit status."""
        with self._writing:
            self._stdin.close()
        status = self.process.wait(timeout)
        self.release()
        return status

    def kill(self) -> None:
        """Kill the daemon, as the out-of-memory killer would."""
        self.process.kill()
        self.process.wait()

    def release(self) -> None:
        """Close our ends of the pipes; the daemon is gone, or will be."""
        self._stdin.close()
        self._reader.join(CALL_TIMEOUT)
        self._stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None and error is None:
            self.close()
        elif self.process.poll() is None:
            self.kill()
        self.release()

    # Answers

    def _read(self) -> None:
        fd = self._stdout.fileno()
        try:
            while data := os.read(fd, 1024 * 1024):
                for message in self.session.receive_data(data):
                    self._route(message)
        except (OSError, ValueError):
            pass
        finally:
            self._fail_all()

    def _route(self, message: Any) -> None:
        match message:
            case Event():
                return self._hearers.get(message.id, self.on_event)(message)
            case HostCall():
                return self.on_call(message)
            case CancelCall():
                return self.on_cancel_call(message)
        future = None
        if isinstance(message, Reply | ErrorReply):
            with self._lock:
                future = self._pending.pop(message.id, None)
                self._hearers.pop(message.id, None)
        if future is None:
            self.unrouted.append(message)
        elif isinstance(message, Reply):
            future.set_result(message.result)
        else:
            future.set_exception(RequestFailed(message.error))
        return None

    def _refuse(self, call: HostCall) -> None:
        refusal = Unsupported(f"this host answers no calls: {call.target} {call.name!r}")
        self.answer(call.call, error=refusal.to_wire())

    def _fail_all(self) -> None:
        try:
            status = self.process.wait(5)
        except subprocess.TimeoutExpired:
            status = None
        with self._lock:
            pending, self._pending = list(self._pending.values()), {}
        for future in pending:
            if not future.done():
                future.set_exception(DaemonExited(status))
