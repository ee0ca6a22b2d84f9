"""Silence for what DSPy's optimizers print: progress bars, prompts, advice to people at a shell.

The daemon's own log does not pass here: it holds the descriptor that it was given at its start.
"""

from __future__ import annotations

import io
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["hush"]


class _Sink(io.TextIOBase):
    """Takes any text and keeps none."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)


class _Hush:
    """Standard output and error away while anybody wants it; runs may overlap."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = 0
        self._kept: tuple[Any, Any] = (None, None)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._wanted += 1
            if self._wanted == 1:
                self._kept = (sys.stdout, sys.stderr)
                sys.stdout = sys.stderr = _Sink()
        try:
            yield
        finally:
            with self._lock:
                self._wanted -= 1
                if self._wanted == 0:
                    sys.stdout, sys.stderr = self._kept


hush = _Hush()
"""``with hush():`` nothing is printed."""
