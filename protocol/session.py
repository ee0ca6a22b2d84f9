"""One peer's side of the connection: bytes in, messages out; messages in, bytes out.

The law of this file: a session has no fd, thread or clock, and keeps no bytes but those of frames
that are not whole or not taken. What a peer got wrong comes out as an item (`Refused`), in its
place among the others, and only a stream that cannot be read on raises (`FramingError`). What *we*
got wrong is a `LocalProtocolError`: a bug, never the peer's doing.

``receive_data`` belongs to one reader. The ``encode_*`` methods only read the session's state and
may be called from any number of threads at once; each gives the whole bytes of one frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from protocol.codecs import Codec, encode
from protocol.errors import BridgeError, Internal, InvalidMessage
from protocol.frames import DEFAULT_MAX_FRAME, OversizedFrame
from protocol.messages import (
    HOST_CALL_TARGETS,
    VERSIONS,
    CancelCall,
    Event,
    FromDaemon,
    FromHost,
    HostAnswer,
    HostCall,
    Id,
    Request,
    id_of,
    parse_from_daemon,
    parse_from_host,
)
from protocol.peer import Framing, LocalProtocolError, Peer, Refused

__all__ = [
    "DaemonSession",
    "Framing",
    "HostSession",
    "LocalProtocolError",
    "Received",
    "Refused",
]

_CUT_MESSAGE = 500
"""Characters that are left of the text of an error that does not fit into a frame."""


class Received(NamedTuple):
    """A message of the host, the codec for all that it causes, and its bytes on the wire."""

    message: FromHost
    codec: Codec
    size: int


class DaemonSession(Peer):
    """The daemon's side.

    Args:
        framing: ``"packet"`` (4-byte lengths) or ``"lines"`` (one JSON object a line).
        max_frame: payload bytes, in both directions.
        codec: for what no request caused, until ``hello`` is answered.
    """

    def __init__(
        self,
        framing: Framing = "packet",
        max_frame: int = DEFAULT_MAX_FRAME,
        codec: Codec = Codec.JSON,
    ) -> None:
        super().__init__(framing, max_frame, codec)
        self.version = VERSIONS[0]
        self._frames: deque[bytes | OversizedFrame] = deque()

    def upgrade(self, version: int, codec: Codec | None = None) -> int:
        """Speak ``version`` from here on (``hello``); what no request causes goes in ``codec``.

        A later ``hello`` may not take back what was agreed: a lower version changes nothing.

        Returns:
            The version in force.

        Raises:
            LocalProtocolError: no such version.
        """
        if version not in VERSIONS:
            raise LocalProtocolError(f"cannot upgrade to version {version}: known are {VERSIONS}")
        if codec is not None and not self._lines:
            self.codec = codec
        self.version = max(self.version, version)
        return self.version

    @property
    def pending(self) -> bool:
        """Whether whole messages wait to be taken."""
        return bool(self._frames)

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes from the host; `next_message` gives what they completed."""
        self._frames.extend(self._decoder.feed(data))

    def receive_eof(self) -> None:
        """The host has ended its stream; a last line needs no line feed."""
        self._frames.extend(self._decoder.finish())

    def next_message(self) -> Received | Refused | None:
        """The next message, read by the version in force now; None when no whole one is there.

        One at a time, because what was said to one may decide how the next is read: a host may
        send requests right behind its ``hello``, and how bytes are cut must not decide whether
        their ``deadline_ms`` counts.

        Raises:
            FramingError: the stream is broken, and all messages before that have been taken.
        """
        if self._frames:
            return self._message(self._frames.popleft())
        if self._decoder.broken is not None:
            raise self._decoder.broken
        return None

    def _message(self, frame: bytes | OversizedFrame) -> Received | Refused:
        read = self._read(frame)
        if isinstance(read, Refused):
            return read
        codec, top = read
        try:
            message = parse_from_host(self.version, top)
        except InvalidMessage as error:
            return self._refused(top, error, codec)
        return Received(message, codec, 0 if isinstance(frame, OversizedFrame) else len(frame))

    def _refused(self, top: dict[Any, Any] | None, error: BridgeError, codec: Codec) -> Refused:
        if self.version < 2 or top is None or "call" not in top or "command" in top:
            return super()._refused(top, error, codec)
        # A broken answer: an `id` in it is that of the request that asked, which has its own reply.
        return Refused(None, error, codec, id_of({"id": top["call"]}))

    def encode_reply(self, id: Id, result: Any, codec: Codec) -> bytes:  # noqa: A002 - the wire's
        """A frame that answers request ``id``, come what may: exactly one per request.

        What the codec had to replace is told under ``_meta.warnings`` of a map result (version 2).
        A result that is too large or has no form on the wire is answered with an error instead.
        """
        codec = self._choose(codec)
        try:
            payload, notes = encode(codec, {"id": id, "result": result})
            if notes and self.version >= 2 and isinstance(result, Mapping):
                told = {"id": id, "result": _with_warnings(result, notes)}
                payload = encode(codec, told).payload
        except ValueError as error:
            return self.encode_error(id, Internal(f"the result cannot be sent: {error}"), codec)
        frame = self._fit(payload)
        if frame is None:
            return self.encode_error(id, self._too_large("a result", len(payload)), codec)
        return frame

    def encode_error(
        self,
        id: Id | None,  # noqa: A002 - the wire's name
        error: BridgeError,
        codec: Codec,
    ) -> bytes:
        """A frame that answers request ``id`` with an error: a string in version 1, else a map.

        An error that is too large, or whose details have no form on the wire, keeps its code and
        loses its details and most of its text. It is sent even if ``max_frame`` is less than that:
        a peer that waits for nothing is worse off than one that refuses a frame.
        """
        codec = self._choose(codec)
        try:
            frame = self._fit(encode(codec, self._error_map(id, error)).payload)
        except ValueError:
            frame = None
        if frame is not None:
            return frame
        short: dict[str, Any] = {"id": id, "error": _cut(error.to_text())}
        if self.version >= 2:
            short["error"] = {
                "code": error.code,
                "message": _cut(error.message),
                "retriable": error.retriable,
                "details": {"truncated": True},
            }
        return self._wrap(encode(codec, short).payload)

    def _error_map(self, id: Id | None, error: BridgeError) -> dict[str, Any]:  # noqa: A002
        return {"id": id, "error": error.to_wire() if self.version >= 2 else error.to_text()}

    def encode_event(
        self,
        name: str,
        id: Id | None,  # noqa: A002 - the wire's name
        data: dict[str, Any],
        codec: Codec | None = None,
    ) -> bytes | None:
        """A frame with an event about request ``id``, or about the daemon itself (None).

        ``codec`` is that of the request which caused it, None for what no request caused.

        Returns:
            None if the event is over ``max_frame``: nobody waits for it, so it is left out.

        Raises:
            LocalProtocolError: version 1 has no events.
            ValueError: the data has no form on the wire.
        """
        self._need_version_2(f"event {name!r}")
        event = Event(name, id, data).to_map()
        return self._fit(encode(self._choose(codec), event).payload)

    def encode_host_call(  # noqa: PLR0917 - the order is that of the wire
        self,
        call: Id,
        target: str,
        name: str,
        args: dict[str, Any],
        id: Id | None,  # noqa: A002 - the wire's name
        codec: Codec | None = None,
    ) -> bytes:
        """A frame that asks the host; ``id`` is the request that caused it, ``codec`` its codec.

        Raises:
            LocalProtocolError: version 1 has no host calls, or there is no such target.
            FrameTooLarge: the arguments are over ``max_frame``.
            ValueError: they have no form on the wire.
        """
        self._need_version_2(f"host call {call!r}")
        if target not in HOST_CALL_TARGETS:
            raise LocalProtocolError(f"no host call target {target!r}: {HOST_CALL_TARGETS}")
        message = HostCall(call, target, name, args, id).to_map()
        return self._encode_or_raise(codec, message, "a host call")

    def encode_cancel_call(self, call: Id, codec: Codec | None = None) -> bytes:
        """A frame that tells the host not to answer ``call`` any more.

        Raises:
            LocalProtocolError: version 1 has no host calls.
        """
        self._need_version_2(f"cancel_call {call!r}")
        return self._encode_or_raise(codec, CancelCall(call).to_map(), "a cancel")

    def _need_version_2(self, what: str) -> None:
        if self.version < 2:
            raise LocalProtocolError(
                f"cannot send {what}: the connection is in version 1 until hello raises it"
            )


class HostSession(Peer):
    """The host's side, as the Elixir client speaks it; for clients and tests in Python.

    Args:
        framing: ``"packet"`` (4-byte lengths) or ``"lines"`` (one JSON object a line).
        max_frame: payload bytes, in both directions.
        codec: for all that is sent.
    """

    def receive_data(self, data: bytes) -> list[FromDaemon | Refused]:
        """Take the next bytes from the daemon; give the messages they completed, in order.

        A `Refused` stands for a frame of the daemon that is too large or no message.

        Raises:
            FramingError: what comes is not frames (something else writes into the stream).
        """
        return self._messages(self._decoder.feed(data))

    def receive_eof(self) -> list[FromDaemon | Refused]:
        """The daemon has ended its stream; give what was left (a last line without line feed).

        Raises:
            FramingError: it ended in the middle of a frame.
        """
        return self._messages(self._decoder.finish())

    def _messages(self, frames: list[bytes | OversizedFrame]) -> list[FromDaemon | Refused]:
        if self._decoder.broken is not None:
            raise self._decoder.broken
        return [self._message(frame) for frame in frames]

    def _message(self, frame: bytes | OversizedFrame) -> FromDaemon | Refused:
        read = self._read(frame)
        if isinstance(read, Refused):
            return read
        codec, top = read
        try:
            return parse_from_daemon(top)
        except InvalidMessage as error:
            return self._refused(top, error, codec)

    def encode_request(
        self,
        id: Id,  # noqa: A002 - the wire's name
        command: str,
        args: dict[str, Any] | None = None,
        **envelope: Any,
    ) -> bytes:
        """A frame with a request; ``envelope`` are the optional keys, such as ``deadline_ms``.

        Raises:
            TypeError: no such envelope key.
            FrameTooLarge: it is over ``max_frame``.
            ValueError: a value has no form on the wire.
        """
        request = Request(id, command, {} if args is None else args, **envelope)
        return self._encode_or_raise(self.codec, request.to_map(), "a request")

    def encode_answer(
        self, call: Id, *, result: Any = None, error: dict[str, Any] | str | None = None
    ) -> bytes:
        """A frame that answers host call ``call``: with ``error`` if given, else with ``result``.

        Raises:
            FrameTooLarge: it is over ``max_frame``.
            ValueError: a value has no form on the wire.
        """
        answer = HostAnswer(call, result, error)
        return self._encode_or_raise(self.codec, answer.to_map(), "an answer")


def _with_warnings(result: Mapping[str, Any], notes: tuple[str, ...]) -> dict[str, Any]:
    found = result.get("_meta")
    meta = dict(found) if isinstance(found, Mapping) else {}
    known = meta.get("warnings")
    meta["warnings"] = [*(known if isinstance(known, list | tuple) else ()), *notes]
    return {**result, "_meta": meta}


def _cut(text: str) -> str:
    return text if len(text) <= _CUT_MESSAGE else text[: _CUT_MESSAGE - 1] + "…"
