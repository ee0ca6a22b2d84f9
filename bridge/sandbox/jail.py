"""Whether and how the workers' processes are locked in: the second wall around given source.

The first is the worker itself, which has no files, no network and no processes to give. This one
holds if that one fails. It is the kernel's, and only Linux has it; `hello` says where it is not.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Jail", "why_not"]

MACHINES = ("x86_64", "aarch64")
LONGEST_SHEBANG = 200
"""Characters of the first line of a script that every kernel in use reads."""


def why_not() -> str | None:
    """What this machine lacks for locking workers in; None if nothing."""
    if sys.platform != "linux":
        return f"workers are not locked in on {sys.platform}"
    machine = os.uname().machine
    if machine not in MACHINES:
        return f"workers are not locked in on {machine}"
    python = sys.executable
    if not python or len(python) > LONGEST_SHEBANG or any(sign.isspace() for sign in python):
        return "workers are not locked in: the interpreter's path is too long or has spaces"
    import ctypes  # noqa: PLC0415 - costs 4 ms, and only Linux needs it

    version = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1)
    return None if version >= 1 else "workers are not locked in: the kernel has no landlock"


class Jail:
    """A program for worker processes to start as, kept in memory for as long as this process lives.

    Args:
        worker: what is locked in.
        address_space: bytes that one may map.
    """

    def __init__(self, worker: Path, address_space: int) -> None:
        from pathlib import Path as File  # noqa: PLC0415 - `hello` needs none of it

        source = File(__file__).with_name("launcher.py").read_text(encoding="utf-8")
        text = f"#!{sys.executable} -ISB\n{source}\n\n"
        text += f"lock_in_and_run({str(worker)!r}, {address_space})\n"
        self._fd = os.memfd_create("sandbox-launcher")
        os.write(self._fd, text.encode())
        os.fchmod(self._fd, 0o500)

    @property
    def path(self) -> str:
        """Where the program is; children of ours can read it, too."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    def close(self) -> None:
        """Forget the program; workers that run go on."""
        os.close(self._fd)
