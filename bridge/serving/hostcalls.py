"""The calls to the host that have no answer yet.

Law: a call is in the table before its frame is sent, and leaves it on every path: answered,
refused, withdrawn, or too late. An answer to a call that is not in the table is dropped. A call of
a child process is relayed under a number of ours, and so are the requests that the host sends
while it answers it: they run where the call came from.
"""

from __future__ import annotations

import itertools
import threading
import time
from contextvars import copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from bridge.serving.reading import next_of
from bridge.turnstile import turnstile
from protocol.errors import CODES, BridgeError, HostError, NotFound, Unsupported, error_from_wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from bridge.hostlink import Asker
    from bridge.scope import Scope
    from bridge.serving.connection import Connection
    from protocol import Codec, HostAnswer
    from protocol.messages import HostCall, Id

__all__ = ["HostCalls", "OpenCall"]

PASSED_ON = frozenset({"forward", "lm"})
"""Targets whose errors keep the bridge's own code: they tell what failed further down."""

MOST_OPEN = 100_000
"""Calls without an answer; each blocks a thread of ours or of a child's, so there are far fewer."""


class OpenCall:
    """One call on its way. Its `id` is what the host answers under.

    Args:
        number: the id.
        target: one of `protocol.HOST_CALL_TARGETS`.
        name: which of the host's functions.
        codec: of the request that caused it.
        scope: the asking request's; None for a call that is relayed.
        context: the asking thread's, which requests of the host's within this call run in.
        asker: whose call is relayed, and `asked_as` its own number for it.
    """

    __slots__ = ("asked_as", "asker", "codec", "context", "heard", "id", "scope", "target", "what")

    def __init__(
        self,
        number: int,
        target: str,
        name: str,
        *,
        codec: Codec,
        scope: Scope | None = None,
        context: Context | None = None,
        asker: Asker | None = None,
        asked_as: Id | None = None,
    ) -> None:
        self.id = number
        self.target = target
        self.what = f"{target} {name!r}"
        self.codec = codec
        self.scope = scope
        self.context = context
        self.asker = asker
        self.asked_as = asked_as
        # What the host said of a call of our own: pieces of text, then the answer.
        self.heard: SimpleQueue[str | HostAnswer | BridgeError | None] = SimpleQueue()

    @property
    def hear(self) -> Callable[[str], None] | None:
        """Takes a piece of the answer, if the host is an LM in this call."""
        return self.heard.put if self.target == "lm" else None


class HostCalls:
    """The table. Any thread.

    Args:
        connection: where they go.
        seconds: how long the host may take for one call.
    """

    def __init__(self, connection: Connection, seconds: Callable[[], float]) -> None:
        self._connection = connection
        self._session = connection.session
        self._seconds = seconds
        self._lock = threading.Lock()
        self._open: dict[Id, OpenCall] = {}
        self._numbers = itertools.count(1)
        self._closed = False
        self.listen: Callable[[SimpleQueue[Any], float], Any] = next_of
        """Waits for what is heard; the reader's, which then reads it on the thread that waits."""
        self.nudge: Callable[[], None] = lambda: None
        """Has it look, whatever was heard otherwise."""

    def __len__(self) -> int:
        return len(self._open)

    def close(self) -> None:
        """The host has ended its input: it answers no call any more."""
        with self._lock:
            self._closed = True
            unanswered, self._open = list(self._open.values()), {}
        for opened in unanswered:
            _fail(opened, f"the host has gone without an answer to {opened.what}")
        self.nudge()

    def link(self, request_id: Id | None, codec: Codec) -> _Link:
        """The way to the host for what request `request_id` causes."""
        return _Link(self, request_id, codec)

    def find(self, call: Id) -> OpenCall:
        """The call that has no answer yet; raise NotFound."""
        found = self._open.get(call)
        if found is None:
            raise NotFound(f"no host call {call!r} is in progress", kind="call", id=call)
        return found

    # Out

    def begin(
        self, target: str, name: str, args: dict[str, Any], request_id: Id | None, **call: Any
    ) -> OpenCall:
        """Register a call and send it.

        Raises:
            Unsupported: the connection takes no host calls.
            HostError: the arguments have no form on the wire, or too many calls are open.
            FrameTooLarge: the arguments do not fit into a frame.
        """
        if not self._connection.takes_calls:
            raise Unsupported(
                f"{target} {name!r} is the host's, and this connection takes no host calls: say "
                "hello with protocol 2, and with 'calls' in `accepts`"
            )
        opened = OpenCall(next(self._numbers), target, name, **call)
        with self._lock:
            if self._closed:
                raise HostError(f"{opened.what} is the host's, which has ended its input")
            if len(self._open) >= MOST_OPEN:
                raise HostError(f"{MOST_OPEN} host calls have no answer yet")
            self._open[opened.id] = opened
        try:
            frame = self._session.encode_host_call(
                opened.id, target, name, args, request_id, opened.codec
            )
        except ValueError as error:
            self._close(opened)
            raise HostError(f"the arguments of {opened.what} cannot be sent: {error}") from error
        except BaseException:
            self._close(opened)
            raise
        self._connection.outbox.send(frame)
        return opened

    def wait(
        self,
        opened: OpenCall,
        scope: Scope,
        on_chunk: Callable[[str], None] | None,
        seconds: float | None,
    ) -> HostAnswer:
        """What the host answers; the call is closed, or withdrawn when it has no answer by then.

        Raises:
            HostError: it did not answer in time.
            Stopped: the scope was stopped.
        """
        within = self._seconds() if seconds is None else seconds
        ends = time.monotonic() + within
        try:
            with scope.abortable(lambda: self._interrupt(opened)):
                while True:
                    left = scope.remaining(ends - time.monotonic())
                    with turnstile.outside():
                        said = self.listen(opened.heard, left)
                    scope.check()
                    if isinstance(said, str):
                        if on_chunk is not None:
                            on_chunk(said)
                        continue
                    if isinstance(said, BridgeError):
                        raise said
                    if said is None:
                        raise HostError(f"the host did not answer {opened.what} in {within:g} s")
                    answer: HostAnswer = said
                    return answer
        finally:
            self.withdraw(opened)

    def _interrupt(self, opened: OpenCall) -> None:
        opened.heard.put(None)
        self.nudge()

    def withdraw(self, opened: OpenCall) -> None:
        """Tell the host that nobody waits any more, unless it has answered."""
        if self._close(opened):
            self._connection.outbox.send(self._session.encode_cancel_call(opened.id, opened.codec))

    def relayed(self, asker: Asker, asked_as: Id | None) -> list[OpenCall]:
        """The open calls of a child: one of them, or all."""
        with self._lock:
            return [
                call
                for call in self._open.values()
                if call.asker is asker and (asked_as is None or call.asked_as == asked_as)
            ]

    def _close(self, opened: OpenCall) -> bool:
        with self._lock:
            return self._open.pop(opened.id, None) is not None

    # In

    def answered(self, answer: HostAnswer) -> bool:
        """Hand an answer to whoever waits for it; False for one that comes too late."""
        with self._lock:
            opened = self._open.pop(answer.call, None)
        if opened is None:
            return False
        if opened.asker is None:
            opened.heard.put(answer)
        else:
            _hand_back(opened, opened.asker, answer)
        return True

    def broken(self, call: Id, error: BridgeError) -> None:
        """Fail a call whose answer was no message; raise nothing."""
        with self._lock:
            opened = self._open.pop(call, None)
        if opened is not None:
            _fail(opened, f"the host's answer to {opened.what} cannot be read: {error.message}")


def _fail(opened: OpenCall, reason: str) -> None:
    failure = HostError(reason)
    if opened.asker is None:
        opened.heard.put(failure)
    else:
        opened.asker.answer(opened.asked_as or 0, error=failure.to_wire())


def _hand_back(opened: OpenCall, asker: Asker, answer: HostAnswer) -> None:
    """Give a child the answer to its own call; what it could not be sent is an error there."""
    asked_as = opened.asked_as or 0
    try:
        if answer.error is not None:
            asker.answer(asked_as, error=answer.error)
        else:
            asker.answer(asked_as, result=answer.result)
    except (BridgeError, ValueError) as error:
        failure = HostError(f"the host's answer to {opened.what} cannot be passed on: {error}")
        asker.answer(asked_as, error=failure.to_wire())


class _Link:
    """The way to the host for one request; `bridge.hostlink.HostLink`."""

    __slots__ = ("calls", "codec", "request_id")

    def __init__(self, calls: HostCalls, request_id: Id | None, codec: Codec) -> None:
        self.calls = calls
        self.request_id = request_id
        self.codec = codec

    def ask(
        self,
        scope: Scope,
        target: str,
        name: str,
        args: dict[str, Any],
        *,
        on_chunk: Callable[[str], None] | None = None,
        seconds: float | None = None,
    ) -> Any:
        """Call the host and wait; see `Scope.ask_host`."""
        opened = self.calls.begin(
            target,
            name,
            args,
            self.request_id,
            codec=self.codec,
            scope=scope,
            context=copy_context(),
        )
        answer = self.calls.wait(opened, scope, on_chunk, seconds)
        if answer.error is not None:
            raise _failure(opened, answer.error)
        return answer.result

    def relay(self, call: HostCall, asker: Asker) -> None:
        """Pass a call of a child's on; what is wrong with it is its answer."""
        try:
            self.calls.begin(
                call.target,
                call.name,
                call.args,
                self.request_id,
                codec=self.codec,
                asker=asker,
                asked_as=call.call,
            )
        except BridgeError as error:
            asker.answer(call.call, error=error.to_wire())

    def withdraw(self, asker: Asker, call: Id | None = None) -> None:
        """Withdraw one relayed call of a child's, or all of them."""
        for opened in self.calls.relayed(asker, call):
            self.calls.withdraw(opened)


def _failure(opened: OpenCall, error: dict[str, Any] | str) -> BridgeError:
    """The host's error: a HostError that says which call, or what failed further down."""
    told = {"message": error} if isinstance(error, str) else error
    code, message = str(told.get("code") or ""), str(told.get("message") or "no reason was given")
    if opened.target in PASSED_ON and code in CODES and code != HostError.code:
        return error_from_wire({**told, "message": message})
    details: dict[str, Any] = {"target": opened.target, **({"host_code": code} if code else {})}
    return HostError(f"{opened.what} failed on the host: {message}", **details)
