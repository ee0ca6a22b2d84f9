"""What the server received and how each request ended: written by its loop, read by tests.

Every change happens under one condition and wakes those who wait on it, so a test never polls.
`model` is the name exactly as it was sent; attempts are counted per (model, API key).
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from .behaviours import Behaviour, read_behaviour

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class Received:
    """One request. `at` and `ended_at` are seconds of the monotonic clock.

    `status` is None until a reply's head is sent. `closed_early` says that the client closed the
    connection while its reply, or the rest of it, was still to come.
    """

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    model: str
    key: str
    attempt: int = 1
    at: float = field(default_factory=time.monotonic)
    ended_at: float | None = None
    status: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    closed_early: bool = False


class Ledger:
    """The requests, counts and orders of one server. Safe from any thread."""

    def __init__(self, keep: int | None = None) -> None:
        self._changed = threading.Condition()
        self._requests: deque[Received] = deque(maxlen=keep)
        self._in_flight: Counter[str] = Counter()
        self._behaviours: dict[str, str] = {}
        self._scripts: dict[str, deque[str]] = {}
        self._serial = 0
        self.open_connections = 0
        self._clear_counts()

    def _clear_counts(self) -> None:
        self._attempts: Counter[tuple[str, str]] = Counter()
        self.received = 0
        self.closed_early = 0
        self.by_status: Counter[int] = Counter()
        self.peak_connections = self.open_connections
        self.peak_in_flight = self._in_flight.total()

    def reset(self) -> None:
        """Forget requests, counts, attempts and orders.

        Open connections and requests in flight stay, and are counted when they end.
        """
        with self._changed:
            self._requests.clear()
            self._behaviours.clear()
            self._scripts.clear()
            self._clear_counts()
            self._changed.notify_all()

    def opened(self) -> None:
        with self._changed:
            self.open_connections += 1
            self.peak_connections = max(self.peak_connections, self.open_connections)
            self._changed.notify_all()

    def closed(self) -> None:
        with self._changed:
            self.open_connections -= 1
            self._changed.notify_all()

    def began(self, received: Received) -> int:
        """Enter a request: sets its attempt, and gives the serial number of its reply."""
        with self._changed:
            attempt_of = (received.model, received.key)
            self._attempts[attempt_of] += 1
            received.attempt = self._attempts[attempt_of]
            self._requests.append(received)
            self._in_flight[received.model] += 1
            self.received += 1
            self.peak_in_flight = max(self.peak_in_flight, self._in_flight.total())
            self._serial += 1
            self._changed.notify_all()
            return self._serial

    def ended(self, received: Received, *, closed_early: bool) -> None:
        """A request got all that it will ever get."""
        with self._changed:
            received.ended_at = time.monotonic()
            received.closed_early = closed_early
            self.closed_early += closed_early
            if received.status is not None:
                self.by_status[received.status] += 1
            self._in_flight[received.model] -= 1
            if not self._in_flight[received.model]:
                del self._in_flight[received.model]
            self._changed.notify_all()

    def order_behaviour(self, model: str, behaviour: str) -> None:
        """From now on `model` does what `behaviour` says. Raises UnknownBehaviourError."""
        read_behaviour(f"+{behaviour}")
        with self._changed:
            self._behaviours[model] = behaviour

    def order_script(self, model: str, texts: list[str]) -> None:
        """The next well-formed replies of `model` have these texts, one each, then its own."""
        with self._changed:
            self._scripts.setdefault(model, deque()).extend(texts)

    def behaviour_of(self, model: str) -> Behaviour:
        """What a model does: as ordered, else as its name says. Raises UnknownBehaviourError."""
        with self._changed:
            ordered = self._behaviours.get(model)
        return read_behaviour(f"+{ordered}" if ordered is not None else model)

    def next_line(self, model: str) -> str | None:
        """The next scripted text of a model, if one is left."""
        with self._changed:
            script = self._scripts.get(model)
            return script.popleft() if script else None

    def requests(self) -> list[Received]:
        with self._changed:
            return list(self._requests)

    def in_flight(self, model: str | None = None) -> int:
        with self._changed:
            return self._in_flight.total() if model is None else self._in_flight[model]

    def wait_for(self, predicate: Callable[[], _T], timeout: float) -> _T:
        """Wait until `predicate()` is truthy; it is asked again after every change.

        Raises TimeoutError, whose text holds the stats, after `timeout` seconds.
        """
        with self._changed:
            value = self._changed.wait_for(predicate, timeout)
            if not value:
                raise TimeoutError(f"not so after {timeout} s; the server has {self.stats()}")
            return value

    def stats(self) -> dict[str, Any]:
        """All counts as plain values."""
        with self._changed:
            return {
                "received": self.received,
                "closed_early": self.closed_early,
                "open_connections": self.open_connections,
                "peak_connections": self.peak_connections,
                "in_flight": dict(self._in_flight),
                "peak_in_flight": self.peak_in_flight,
                "by_status": {str(status): count for status, count in self.by_status.items()},
            }
