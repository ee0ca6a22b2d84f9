"""Who owns which descriptor. This runs before DSPy is imported and nothing else touches a number.

The protocol's two ends move to private descriptors that no child inherits. What is left behind is
harmless: descriptor 0 reads nothing, descriptor 1 is standard error. Whatever DSPy, a progress bar
or a subprocess prints then lands in the log, never in a frame.
"""

from __future__ import annotations

import fcntl
import io
import os
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.secrets import Secrets

__all__ = ["Ends", "claim"]

PIPE_SIZE = 1024 * 1024
"""Linux's default of 64 KiB makes a 10 MB frame two to three times slower."""

FIRST_PRIVATE = 16
"""Private descriptors start here, clear of the small numbers that children and hosts use."""


class Ends:
    """The protocol's private ends, and the flags they had before."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader = reader
        self.writer = writer
        self._flags: dict[int, int] = {}

    def unblock(self) -> None:
        """Make pipes and sockets non-blocking; terminals and files are shared with others."""
        for fd in (self.reader, self.writer):
            if _is_stream(fd):
                flags = fcntl.fcntl(fd, fcntl.F_GETFL)
                self._flags[fd] = flags
                fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)

    def restore(self) -> None:
        """Put the flags back: the other holder of a pipe sees them too."""
        for fd, flags in self._flags.items():
            fcntl.fcntl(fd, fcntl.F_SETFL, flags)


def claim(fds: tuple[int, int], secrets: Secrets) -> Ends:
    """Take the protocol's descriptors and leave harmless ones behind.

    Args:
        fds: (0, 1), or (3, 4) as Erlang's `nouse_stdio` has them.
        secrets: masked in whatever is written to standard error.

    Raises:
        OSError: one of the descriptors is not open.
    """
    _open_standard_error()
    ends = Ends(_private(fds[0]), _private(fds[1]))
    for fd in fds:
        if fd > 2:
            os.close(fd)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, "r", closefd=False))
    sys.stdout = sys.stderr = StandardError(secrets)
    for fd in (ends.reader, ends.writer):
        _widen(fd)
    ends.unblock()
    return ends


def _private(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_PRIVATE)


def _open_standard_error() -> None:
    try:
        os.fstat(2)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        if null != 2:
            os.close(null)


def _is_stream(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _widen(fd: int) -> None:
    set_size = getattr(fcntl, "F_SETPIPE_SZ", None)
    if set_size is not None and stat.S_ISFIFO(os.fstat(fd).st_mode):
        # When the user's pipe quota is used up, the default size only costs speed.
        with suppress(OSError):
            fcntl.fcntl(fd, set_size, PIPE_SIZE)


class StandardError(io.TextIOBase):
    """Standard error with every secret masked; Python's own `stdout` too, once `claim` has run."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._secrets = secrets

    def write(self, text: str) -> int:
        """Write `text` at once; a reader that is gone is no reason to fail."""
        try:
            payload = memoryview(self._secrets.mask_text(text).encode("utf-8", self.errors))
            while payload:
                payload = payload[os.write(2, payload) :]
        except OSError:
            pass
        return len(text)

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """2, for libraries that hand it to children."""
        return 2

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return os.isatty(2)
