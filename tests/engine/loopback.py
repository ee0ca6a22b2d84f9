"""Servers on loopback, a thread a connection, for tests of what speaks to LMs."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["server"]


@contextmanager
def server(answer: Callable[[socket.socket], None], backlog: int = 64) -> Iterator[int]:
    """Calls `answer` with each connection, on a thread of its own; gives the port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(client,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()
