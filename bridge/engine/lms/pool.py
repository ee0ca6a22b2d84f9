"""Connections that are kept open between calls: as many as the last calls needed at once.

A burst opens connections that the next one wants again, and over TLS opening one takes longer than
much else. So those are kept for a while, and then closed but for a few. DSPy's pool, which this is
in the eyes of its transport, keeps every connection for ever, and looks at each under its lock.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from dspy._vendor.lm15.transports._sync import _ConnectionPool, _SyncConnection

__all__ = ["Connection", "Pool"]

MOST_IDLE = 1_024
"""Connections to one server that are kept: as many as requests run at once by default."""

KEPT = 64
"""Of those, kept for as long as the server keeps them."""

LOOK_SECONDS = 10.0
"""What nobody has needed for so long is closed."""


class Connection(_SyncConnection):  # type: ignore[misc]
    """DSPy's connection, which asks `select`, and that takes no descriptor above 1,023."""

    __slots__ = ()

    def is_stale(self) -> bool:
        """Whether the server has closed it, or said what nobody asked for."""
        try:
            return bool(self.closed or self.sock.has_something())
        except (OSError, ValueError):
            return True


class Pool(_ConnectionPool):  # type: ignore[misc]
    """The connections of one LM. Any thread."""

    def __init__(self, max_connections: int) -> None:
        super().__init__(max_connections)
        self._fewest: dict[Any, int] = {}
        """By server, the fewest that were idle since somebody looked: nobody has needed those."""
        self._looked_after = False

    def checkout(self, origin: Any) -> Any:
        """An open connection to this server, the one used last; None when there is none."""
        while True:
            with self._lock:
                idle = self._idle.get(origin)
                if not idle:
                    return None
                conn = idle.pop()
                self._fewest[origin] = min(self._fewest[origin], len(idle))
                self._in_use.add(conn)
            if not conn.is_stale():
                conn.in_use = True
                return conn
            self.discard(conn)

    def checkin(self, conn: Any) -> None:
        """Keep `conn` for another call, unless enough are kept."""
        with self._lock:
            idle = self._idle.setdefault(conn.origin, [])
            keep = len(idle) < MOST_IDLE and not self._closed and not conn.closed
            if keep:
                self._in_use.discard(conn)
                conn.in_use = False
                idle.append(conn)
                self._fewest.setdefault(conn.origin, 0)
            begin = keep and len(idle) > KEPT and not self._looked_after
            self._looked_after = self._looked_after or begin
        if not keep:
            self.discard(conn)
        elif begin:
            try:
                threading.Thread(target=self._look_after, name="idle", daemon=True).start()
            except RuntimeError:
                # No thread to be had: the reply that this was for is good, and the next one tries.
                with self._lock:
                    self._looked_after = False

    def _look_after(self) -> None:
        """Close what is not needed, until there is no more of it than is kept anyway."""
        while True:
            time.sleep(LOOK_SECONDS)
            for conn in self.unneeded():
                conn.close()
            with self._lock:
                if all(len(idle) <= KEPT for idle in self._idle.values()):
                    self._looked_after = False
                    return

    def unneeded(self) -> list[Any]:
        """Take out those above `KEPT` that have been idle ever since this was asked last."""
        with self._lock:
            taken: list[Any] = []
            for origin, idle in self._idle.items():
                spare = min(self._fewest[origin], len(idle)) - KEPT
                if spare > 0:
                    # The last one in is the first one out, so the first ones are the spare ones.
                    taken += idle[:spare]
                    del idle[:spare]
                self._fewest[origin] = len(idle)
            return taken
