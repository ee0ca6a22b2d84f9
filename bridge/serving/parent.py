"""When the host dies, so do we: busy or idle, whether or not the pipe tells us.

End of input is the usual sign. This file is for the others: a busy daemon whose pipe some other
process still holds, and a host that was killed. The kernel's parent-death signal wakes us at once;
a look at the parent's number every half second is for systems that have no such signal.
"""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.serving.loop import Loop

__all__ = ["watch_parent"]

PR_SET_PDEATHSIG = 1

LOOK_SECONDS = 0.5
"""Well within the three seconds after which no process of ours may be left."""


def watch_parent(loop: Loop, parent: int, on_gone: Callable[[], None]) -> None:
    """Call `on_gone` on the loop when `parent`, the pid we were started by, is gone.

    The signal is SIGHUP and only makes us look: it is sent when the parent's *thread* ends, too.
    """

    def look() -> None:
        if os.getppid() != parent:
            on_gone()

    def look_again() -> None:
        look()
        loop.call_later(LOOK_SECONDS, look_again)

    loop.add_signal_handler(signal.SIGHUP, look)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGHUP), 0, 0, 0)
    look_again()
