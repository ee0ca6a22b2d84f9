"""One host's connection: what it said in `hello`, and every kind of frame that goes to it.

Law: a frame is encoded in the codec of the request that caused it, or of `hello` where none did.
Whatever is sent goes out from any thread, whole, in the order it was handed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocol import Codec, DaemonSession

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.serving.outbox import Outbox
    from bridge.settings import Settings
    from protocol import Id
    from protocol.errors import BridgeError

__all__ = ["Connection"]


class Connection:
    """The session, the way out, and what the host has agreed to.

    Args:
        settings: the framing, and the bound of a frame and of unread output.
        outbox: takes the frames.
    """

    def __init__(self, settings: Settings, outbox: Outbox) -> None:
        self.session = DaemonSession(framing=settings.framing, max_frame=settings.limits.max_frame)
        self.outbox = outbox
        self.codec = Codec.JSON
        self._most_pending = settings.limits.max_pending_output
        self._accepts_events = True
        self._accepts_calls = True

    @property
    def speaks_2(self) -> bool:
        """Whether the host said hello with version 2."""
        return self.session.version > 1

    @property
    def hears_events(self) -> bool:
        """Whether the host speaks version 2 and wants to hear events."""
        return self.speaks_2 and self._accepts_events

    @property
    def takes_calls(self) -> bool:
        """Whether the host can be called."""
        return self.speaks_2 and self._accepts_calls

    @property
    def overfull(self) -> bool:
        """Whether so much waits for the host to read that no more of its requests are taken."""
        return self.outbox.pending > self._most_pending

    def agree(self, protocol: int, args: Mapping[str, Any], codec: Codec) -> int:
        """Go on as a `hello` in `codec` has it; the version in force."""
        self.codec = codec
        accepts = args.get("accepts")
        self._accepts_events = accepts is None or "events" in accepts
        self._accepts_calls = accepts is None or "calls" in accepts
        return self.session.upgrade(protocol, codec)

    def send_reply(self, request_id: Id, result: Any, codec: Codec) -> None:
        """Answer a request."""
        self.outbox.send(self.session.encode_reply(request_id, result, codec))

    def send_error(self, request_id: Id | None, error: BridgeError, codec: Codec) -> None:
        """Refuse a request, or a frame whose id could not be read."""
        self.outbox.send(self.session.encode_error(request_id, error, codec))

    def send_event(
        self, name: str, request_id: Id | None, data: dict[str, Any], codec: Codec | None = None
    ) -> None:
        """Tell the host something, if it hears events."""
        if self.hears_events:
            frame = self.session.encode_event(name, request_id, data, codec or self.codec)
            if frame is not None:
                self.outbox.send(frame)

    def tell_line(self, line: dict[str, Any]) -> bool:
        """Tell the host a line of the log; False leaves it for standard error."""
        if self.overfull or not self.hears_events:
            return False
        self.send_event("log", None, line)
        return True
