"""One thread computes for a request at a time, where there is one interpreter lock anyway.

A thousand calls whose replies come together would otherwise fight for the interpreter in turns of
a fraction of a millisecond, each turn a switch, and a ping would wait behind them all. Whoever
computes is `inside`; whoever waits for an LM, a pause or other threads steps `outside` meanwhile.

It is a courtesy, not a lock: after `PATIENCE` seconds a thread goes in all the same, so that a
wait that nobody thought of slows the others down but cannot stop them.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Turnstile", "turnstile"]

PATIENCE = 1.0
"""Far above a turn, which is about a millisecond, times the threads of an ordinary burst."""


class Turnstile:
    """Both methods are for `with`, and may be nested in each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mine = threading.local()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Compute here."""
        if getattr(self._mine, "inside", False):
            yield
            return
        self._enter()
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Wait here. A thread that was not inside passes through."""
        was_inside = self._leave()
        try:
            yield
        finally:
            if was_inside:
                self._enter()

    def _enter(self) -> None:
        self._mine.inside = True
        self._mine.holds = self._lock.acquire(timeout=PATIENCE)

    def _leave(self) -> bool:
        was_inside = getattr(self._mine, "inside", False)
        if was_inside:
            self._mine.inside = False
            if self._mine.holds:
                self._lock.release()
        return was_inside


turnstile = Turnstile()
"""The one of this process."""
