"""What a streamed request tells its host before the reply: pieces of output fields, and statuses.

The law of this file: the events of a request go out in order, through its one `Stream`; it is
closed before the reply is sent, and what comes later is dropped. A host that reads slowly costs
the text of the LM calls in progress and no more: while the way out is crowded, pieces of a field
become one, and whoever has ended an LM call, or has something else to tell, waits for room.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any, Protocol

from bridge.scope import current_scope
from bridge.turnstile import turnstile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Outlet", "Stream", "Utterance"]

LONGEST_PIECE = 64 * 1024
"""Characters of one `chunk`: what was merged for a slow host goes out in pieces that fit a pipe."""

SHORTEST_PIECE = 1024
"""Characters that a piece may always have: a secret must fit into it."""

LONGEST_WAIT = 3600.0
"""Seconds before a wait for room looks again; the request's deadline is nearly always sooner."""


class Outlet(Protocol):
    """The way out, as a stream sees it."""

    @property
    def crowded(self) -> bool:
        """Whether the host has much to read already."""

    def when_roomy(self, wake: threading.Event) -> None:
        """Set `wake` once it is not crowded."""

    def forget(self, wake: threading.Event) -> None:
        """Nobody waits for `wake` any more."""


class Stream:
    """One request's events. Any thread.

    Args:
        send: puts an event of this name and data on its way.
        outlet: where it goes.
        safe: how many characters of a text can be sent before more of it is known: what follows
            may begin a secret.
        max_frame: bytes; no piece may come near it, for an event above it is lost.
    """

    def __init__(
        self,
        send: Callable[[str, dict[str, Any]], None],
        outlet: Outlet,
        safe: Callable[[str], int],
        max_frame: int,
    ) -> None:
        self._send = send
        self._outlet = outlet
        self.safe = safe
        # A character takes at most 6 bytes in either codec, and the rest of an event a few hundred.
        self.longest_piece = max(SHORTEST_PIECE, min(LONGEST_PIECE, max_frame // 16))
        self._lock = threading.Lock()
        self._open = True
        self._calls = itertools.count(1)

    @property
    def crowded(self) -> bool:
        """Whether a piece had better wait for the next."""
        return self._outlet.crowded

    def begin_call(self) -> int:
        """The number of an LM call that begins: 1 is the request's first."""
        return next(self._calls)

    def status(self, data: Mapping[str, Any]) -> None:
        """Tell ``{"status": what, …}`` once there is room. The request's threads; raise Stopped."""
        self.wait_for_room()
        self._tell("status", data)

    def chunk(self, data: Mapping[str, Any]) -> None:
        """Tell a piece of a field, now."""
        self._tell("chunk", data)

    def close(self) -> None:
        """Send nothing more: when this returns, nothing of this request is on its way."""
        with self._lock:
            self._open = False

    def wait_for_room(self) -> None:
        """Wait until the host has read; raise Stopped if the request ends first."""
        while self._outlet.crowded:
            scope = current_scope.get()
            wake = threading.Event()
            self._outlet.when_roomy(wake)
            try:
                with scope.abortable(wake.set), turnstile.outside():
                    wake.wait(scope.remaining(LONGEST_WAIT))
            finally:
                self._outlet.forget(wake)
            scope.check()

    def _tell(self, name: str, data: Mapping[str, Any]) -> None:
        with self._lock:
            if self._open:
                self._send(name, dict(data))


class Utterance:
    """What one attempt at an LM call says, field by field. For one thread at a time.

    Args:
        stream: where it goes.
        about: what every chunk of it says beside its field, text and index.
    """

    def __init__(self, stream: Stream, about: Mapping[str, Any]) -> None:
        self._stream = stream
        self._about = about
        self._indexes: dict[str, int] = {}
        self._held: dict[str, list[str]] = {}

    def say(self, field: str, text: str) -> None:
        """The next piece of `field`: sent, or kept to go with a later one."""
        self._held.setdefault(field, []).append(text)
        if not self._stream.crowded:
            self._send(ended=False)

    def begin_anew(self, field: str) -> None:
        """What was said of `field` is void: its next piece has the index 0 again."""
        self._held.pop(field, None)
        self._indexes.pop(field, None)

    def flush(self) -> None:
        """Send what was kept; wait for room. Raises Stopped."""
        self._send(ended=True)

    def _send(self, *, ended: bool) -> None:
        most = self._stream.longest_piece
        for field in list(self._held):
            text = "".join(self._held.pop(field))
            # Another field has begun, or all is said: nothing comes that could complete a secret.
            over = ended or bool(self._held)
            end, sent = len(text) if over else self._stream.safe(text), 0
            while sent < end:
                if ended:
                    self._stream.wait_for_room()
                elif self._stream.crowded:
                    break
                piece = text[sent : min(sent + most, end)]
                if sent + len(piece) < end:
                    piece = piece[: self._stream.safe(piece) or most]
                self._chunk(field, piece)
                sent += len(piece)
            if sent < len(text):
                self._held = {field: [text[sent:]], **self._held}
                return

    def _chunk(self, field: str, text: str) -> None:
        index = self._indexes.get(field, 0)
        self._indexes[field] = index + 1
        self._stream.chunk({"field": field, "text": text, **self._about, "index": index})
