"""The end of everything that this process has started, and of what that has started in turn.

A run's process ends with its pipe, but a worker of the sandbox looks at its own only between two
turns, and source may be in the middle of a long one.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

__all__ = ["end_children"]

MOST = 10_000
"""Processes looked at: whoever starts others without end must not keep us from ours."""


def end_children() -> None:
    """Kill every process below this one. Linux tells which they are; elsewhere nothing happens."""
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting and len(found) < MOST:
        children = _children(waiting.pop())
        found += children
        waiting += children
    for pid in found:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    """The processes that a process's threads have started."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - pathlib costs the first answer
    except OSError:
        return []
    children: list[int] = []
    for thread in threads:
        with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as told:  # noqa: PTH123
            children += map(int, told.read().split())
    return children
