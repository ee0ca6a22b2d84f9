"""Whose turn it is at the processors: an optimizer run gives way to calls, and at once.

Niceness says how much a process gets while there is work for others; it does not say how soon.
Since its version 6.6 Linux lets whoever computes end its slice (about 3 ms) before somebody who
wakes up goes on, and a call wakes up several times for a fraction of a millisecond each. Since 6.12
a process may say how long its slices are, and whoever wakes up goes before those with longer ones:
a run asks for the longest. An idle priority would give way at once, too, but on a busy machine no
run would ever come to its end.
"""

from __future__ import annotations

import os
import platform
import struct
from contextlib import suppress

__all__ = ["give_way"]

NICENESS = 10
"""Of a run."""

LONG_NS = 100_000_000
"""The longest that Linux takes."""

SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""The system call's number, which the C library has no function for, by machine."""


def give_way(pid: int) -> None:
    """Put a process behind all others, as far as the system knows how to.

    Args:
        pid: a process that has just begun: threads inherit this, but only from now on.
    """
    niceness = NICENESS
    with suppress(OSError):
        # Whoever started us may have put us farther back.
        niceness = max(NICENESS, os.getpriority(os.PRIO_PROCESS, pid))
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
    with suppress(AttributeError):
        _set(pid, os.SCHED_BATCH, niceness, LONG_NS)


def _set(thread: int, policy: int, niceness: int, slice_ns: int) -> None:
    """Change nothing where that is not known or not allowed; older kernels leave the slice out."""
    number = SCHED_SETATTR.get(platform.machine())
    if number is None or os.uname().sysname != "Linux":
        return
    import ctypes  # noqa: PLC0415 - it would cost the first answer 10 ms

    # Size, policy, flags, niceness, priority, slice, and two that these policies do not use.
    attributes = struct.pack("=IIQiIQQQ", 48, policy, 0, niceness, 0, slice_ns, 0, 0)
    ctypes.CDLL(None).syscall(number, thread, attributes, 0)
