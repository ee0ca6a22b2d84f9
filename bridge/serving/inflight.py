"""The requests that have no answer yet: each gets exactly one.

Whoever claims an entry answers it and then says so with `sent`: the thread that did the work, the
deadline, or a cancel. The others find it claimed and say nothing. An entry counts as in flight
until its answer is on its way out, so a shutdown does not overtake it.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.errors import BridgeError, Cancelled, DuplicateId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridge.scope import Scope
    from bridge.serving.loop import Loop, Timer
    from protocol import Codec, Request

__all__ = ["Entry", "InFlight"]


@dataclass(slots=True, eq=False)
class Entry:
    """One request on its way; `scope` is what it may use."""

    request: Request
    codec: Codec
    scope: Scope
    arrived: float
    """In `time.monotonic` seconds."""
    size: int
    """Of its frame, in bytes."""
    order: int = 0
    """Which one it is of all that were taken in."""


class InFlight:
    """Entries by request id, and the deadline of each. Any thread, where nothing else is said."""

    def __init__(self, loop: Loop, refuse: Callable[[Entry, BridgeError], None]) -> None:
        self._loop = loop
        self._refuse = refuse
        self._lock = threading.Lock()
        self._entries: dict[int | str, Entry] = {}
        # Ids, not entries: what is answered must not keep its arguments alive until its deadline.
        self._deadlines: list[tuple[float, int, int | str]] = []
        self._order = 0
        self._answering = 0
        self._armed_for = math.inf
        self._timer: Timer | None = None
        self.on_empty: Callable[[], None] = lambda: None
        """Called when the last answer is on its way. Any thread."""

    def __len__(self) -> int:
        return len(self._entries) + self._answering

    def __iter__(self) -> Iterator[Entry]:
        with self._lock:
            return iter(list(self._entries.values()))

    def add(self, entry: Entry) -> None:
        """Take an entry in; raise DuplicateId if its id has no answer yet."""
        with self._lock:
            if entry.request.id in self._entries:
                raise DuplicateId(f"request {entry.request.id!r} is still in flight")
            self._order += 1
            entry.order = self._order
            self._entries[entry.request.id] = entry

    def watch(self, entry: Entry, scope: Scope) -> None:
        """Give `entry` its scope, and end it at the scope's deadline."""
        entry.scope = scope
        if scope.deadline is None:
            return
        with self._lock:
            heapq.heappush(self._deadlines, (scope.deadline, entry.order, entry.request.id))
            self._forget_answered()
            sooner = scope.deadline < self._armed_for
            if sooner:
                self._armed_for = scope.deadline
        if sooner:
            self._loop.call_soon_threadsafe(self._arm)

    def has(self, request_id: int | str) -> bool:
        """Whether a request of this id waits for its answer."""
        return request_id in self._entries

    def holds(self, request_id: int | str, order: int) -> bool:
        """Whether the entry of this id that came as number `order` still wants its answer."""
        entry = self._entries.get(request_id)
        return entry is not None and entry.order == order

    def claim(self, entry: Entry) -> bool:
        """Whether the caller is the one to answer `entry`; only the first is."""
        with self._lock:
            if self._entries.get(entry.request.id) is not entry:
                return False
            del self._entries[entry.request.id]
            self._answering += 1
        return True

    def sent(self) -> None:
        """A claimed entry's answer has been handed to the outbox."""
        with self._lock:
            self._answering -= 1
            empty = not self._entries and not self._answering
        if empty:
            self.on_empty()

    def cancel(self, request_id: int | str) -> bool:
        """Stop and answer the request of this id; False if it has its answer, or never was."""
        with self._lock:
            entry = self._entries.get(request_id)
        return entry is not None and self.stop(entry, Cancelled("the host cancelled the request"))

    def stop(self, entry: Entry, error: BridgeError) -> bool:
        """Answer `entry` with `error` now, and break what it is doing."""
        if not self.claim(entry):
            return False
        self._refuse(entry, error)
        self.sent()
        entry.scope.stop(error)
        return True

    def _arm(self) -> None:
        """Set the timer to the next deadline. The loop's thread."""
        with self._lock:
            self._armed_for = self._deadlines[0][0] if self._deadlines else math.inf
            due = self._armed_for
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due != math.inf:
            self._timer = self._loop.call_later(max(0.0, due - time.monotonic()), self._expire)

    def _expire(self) -> None:
        late: list[Entry] = []
        now = time.monotonic()
        with self._lock:
            while self._deadlines and self._deadlines[0][0] <= now:
                _, order, request_id = heapq.heappop(self._deadlines)
                entry = self._entries.get(request_id)
                if entry is not None and entry.order == order:
                    late.append(entry)
        try:
            for entry in late:
                self.stop(entry, entry.scope.out_of_time())
        finally:
            self._arm()

    def _forget_answered(self) -> None:
        """Answered requests leave their deadlines behind; rebuild when those are the most."""
        if len(self._deadlines) > 2 * len(self._entries) + 1_024:
            alive = {entry.order for entry in self._entries.values()}
            self._deadlines = [item for item in self._deadlines if item[1] in alive]
            heapq.heapify(self._deadlines)
