"""The way out: whole frames, from any thread, in the order they were handed over.

The thread that has a frame tries to write it itself, which saves the loop a wake-up. What the
pipe does not take waits in memory, and the loop writes it when the host reads. How much may wait
is the reader's bound: above it no further request is read.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.serving.loop import Loop

__all__ = ["Outbox"]

MOST_CORKED = 256 * 1024
"""Bytes worth collecting for one write; it is what a pipe takes at once, about."""

ROOMY = 256 * 1024
"""Bytes that wait while pieces of streamed replies still join them: a host that reads is rarely
behind by a pipe's content, and far below where we would stop reading its requests."""

MOST_PIECES = 512
"""Buffers of one writev; Linux takes 1,024."""


class Outbox:
    """Frames on their way out. `send` may be called from any thread, the rest on the loop's."""

    def __init__(self, fd: int, loop: Loop, mask: Callable[[bytes], bytes]) -> None:
        self._fd = fd
        self._loop = loop
        self._mask = mask
        self._lock = threading.Lock()
        self._waiting: deque[memoryview] = deque()
        self._size = 0
        self._corked = False
        self._armed = False
        self._broken = False
        self._sleepers: set[threading.Event] = set()
        self.on_drained: Callable[[], None] = lambda: None
        self.on_broken: Callable[[], None] = lambda: None

    @property
    def pending(self) -> int:
        """Bytes that the host has not taken, and that the loop will write when it does."""
        with self._lock:
            return self._size

    @property
    def crowded(self) -> bool:
        """Whether so much waits already that what can wait elsewhere should."""
        return self._size > ROOMY

    def when_roomy(self, wake: threading.Event) -> None:
        """Set `wake` once this is not crowded; at once if it is not. Any thread."""
        with self._lock:
            self._sleepers.add(wake)
            self._wake_sleepers()

    def forget(self, wake: threading.Event) -> None:
        """Nobody waits for `wake` any more. Any thread."""
        with self._lock:
            self._sleepers.discard(wake)

    def send(self, frame: bytes) -> None:
        """Write `frame`, or keep it until the pipe takes it. Any thread."""
        frame = self._mask(frame)
        with self._lock:
            if self._broken:
                return
            self._waiting.append(memoryview(frame))
            self._size += len(frame)
            if self._armed or (self._corked and self._size < MOST_CORKED):
                return
            self._write()
            self._after_write()

    def cork(self) -> None:
        """Collect frames until `uncork`, which writes them together."""
        self._corked = True

    def uncork(self) -> None:
        """Write what was collected."""
        with self._lock:
            self._corked = False
            if self._waiting and not self._armed and not self._broken:
                self._write()
                self._after_write()

    def _write(self) -> None:
        try:
            while self._waiting:
                pieces = [self._waiting[i] for i in range(min(len(self._waiting), MOST_PIECES))]
                self._took(os.writev(self._fd, pieces))
        except BlockingIOError:
            return
        except OSError:
            # The host has closed its end: nothing can be said any more.
            self._broken = True
            self._waiting.clear()
            self._size = 0

    def _wake_sleepers(self) -> None:
        if self._sleepers and self._size <= ROOMY:
            for wake in self._sleepers:
                wake.set()
            self._sleepers.clear()

    def _took(self, count: int) -> None:
        self._size -= count
        while count:
            piece = self._waiting[0]
            if count < len(piece):
                self._waiting[0] = piece[count:]
                return
            count -= len(piece)
            self._waiting.popleft()

    def _after_write(self) -> None:
        self._wake_sleepers()
        if self._broken:
            self._loop.call_soon_threadsafe(self.on_broken)
        elif self._waiting and not self._armed:
            self._armed = True
            self._loop.call_soon_threadsafe(self._loop.add_writer, self._fd, self._writable)

    def _writable(self) -> None:
        with self._lock:
            self._write()
            self._wake_sleepers()
            done = not self._waiting
            if done:
                self._armed = False
                self._loop.remove_writer(self._fd)
            broken = self._broken
        if broken:
            self.on_broken()
        elif done:
            self.on_drained()
