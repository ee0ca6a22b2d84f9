"""Calls come first: a run's process takes what they leave of the processors, and gives way at once.

Niceness says how little a run gets while there is work for others; it does not say how soon. Since
its version 6.6 Linux lets whoever computes end its slice (about 3 ms) before somebody who wakes up
goes on, and a call wakes up several times. Since 6.12 whoever wakes up goes before a process that
has asked for longer slices, so a run asks for the longest. An idle priority would give way at once,
too, but on a busy machine no run would ever come to its end.
"""

from __future__ import annotations

import os
import platform
import struct
from contextlib import suppress

__all__ = ["give_way"]

NICENESS = 10

SLICE_NS = 100_000_000
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
    number = SCHED_SETATTR.get(platform.machine())
    if os.uname().sysname == "Linux" and number is not None:
        import ctypes  # noqa: PLC0415 - for the first run, not for the first answer

        # size, policy, flags, nice, priority, and for this policy: slice, and two that are unused.
        attributes = struct.pack("=IIQiIQQQ", 48, os.SCHED_BATCH, 0, niceness, 0, SLICE_NS, 0, 0)
        # An older kernel takes the policy and leaves the slice; what it refuses changes nothing.
        ctypes.CDLL(None).syscall(number, pid, attributes, 0)
