"""A spawned daemon as bytes on pipes: for what the fake port is too well-behaved to send.

Every read and every wait has an end: a daemon that hangs fails a test, never stops the suite.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgpack  # type: ignore[import-untyped]
import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
DAEMON = (sys.executable, "-m", "bridge")

PATIENCE = 30.0
"""Seconds for anything that should take well under one, on a machine that does other work."""

CHUNK = 1024 * 1024


def framed(payload: bytes) -> bytes:
    """The payload as a port with ``{packet, 4}`` sends it."""
    return len(payload).to_bytes(4, "big") + payload


def packed(message: Any) -> bytes:
    """A MessagePack frame."""
    return framed(msgpack.packb(message))


def written(message: Any) -> bytes:
    """A JSON frame."""
    return framed(orjson.dumps(message))


def read_any(payload: bytes) -> Any:
    """A payload of either codec as a value."""
    return orjson.loads(payload) if payload[:1] == b"{" else msgpack.unpackb(payload)


class RawDaemon:
    """One daemon. Use as a context manager: what is left of it is killed.

    Args:
        options: of the daemon's command line.
        argv: the whole command line instead.
        stdin: as for subprocess.Popen.
    """

    def __init__(
        self, *options: str, argv: Sequence[str] | None = None, stdin: Any = subprocess.PIPE
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the daemon
        self.process = subprocess.Popen(
            [*(argv or DAEMON), *options],
            cwd=ROOT,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout
        self._rest = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    # In

    def write(self, data: bytes) -> None:
        """Raw bytes; waits while the daemon does not read."""
        assert self.process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) :]

    def write_behind(self, data: bytes) -> threading.Thread:
        """Raw bytes from a thread, so that the caller can read meanwhile."""
        thread = threading.Thread(target=self._write_what_is_taken, args=(data,), daemon=True)
        thread.start()
        return thread

    def _write_what_is_taken(self, data: bytes) -> None:
        with suppress(OSError):
            self.write(data)

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    # Out

    def read(self, timeout: float = PATIENCE) -> bytes:
        """The next bytes, whatever they are; empty at the end of the stream."""
        ready, _, _ = select.select([self.output], [], [], timeout)
        if not ready:
            raise TimeoutError(f"the daemon said nothing for {timeout} s; its log: {self.log()!r}")
        return os.read(self.output.fileno(), CHUNK)

    def payload(self, timeout: float = PATIENCE) -> bytes | None:
        """The next frame's payload; None at the end of the stream."""
        ends = time.monotonic() + timeout
        pieces, have = [self._rest], len(self._rest)
        need = 4
        while True:
            if have >= 4:
                if need == 4:
                    self._rest = b"".join(pieces)
                    pieces = [self._rest]
                    need = 4 + int.from_bytes(self._rest[:4], "big")
                if have >= need:
                    whole = b"".join(pieces)
                    self._rest = whole[need:]
                    return whole[4:need]
            data = self.read(max(0.0, ends - time.monotonic()))
            if not data:
                assert have == 0, f"the stream ended in mid-frame: {b''.join(pieces)[:200]!r}"
                return None
            pieces.append(data)
            have += len(data)

    def message(self, timeout: float = PATIENCE) -> Any:
        """The next message as a value; fails at the end of the stream."""
        payload = self.payload(timeout)
        assert payload is not None, f"the daemon ended; its log: {self.log()!r}"
        return read_any(payload)

    def remaining(self, timeout: float = PATIENCE) -> list[Any]:
        """All messages up to the end of the stream."""
        ends = time.monotonic() + timeout
        messages = []
        while (payload := self.payload(max(0.0, ends - time.monotonic()))) is not None:
            messages.append(read_any(payload))
        return messages

    def everything(self, timeout: float = PATIENCE) -> bytes:
        """All bytes up to the end of the stream."""
        ends = time.monotonic() + timeout
        pieces = [self._rest]
        while data := self.read(max(0.0, ends - time.monotonic())):
            pieces.append(data)
        return b"".join(pieces)

    def ask(self, message: Any, timeout: float = PATIENCE) -> Any:
        """One JSON request, and the next message."""
        self.write(written(message))
        return self.message(timeout)

    # Life

    def status(self, timeout: float = PATIENCE) -> int:
        """Wait for the exit status."""
        return self.process.wait(timeout)

    def log(self) -> str:
        """What it wrote to standard error."""
        # The offset is the daemon's, too: it must not be moved.
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def resident(self) -> int:
        """Resident memory in bytes."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
        self.output.close()
        self._log.close()


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def wait_until_dead(pid: int, timeout: float) -> bool:
    """Whether the process ended within `timeout` seconds."""
    ends = time.monotonic() + timeout
    while is_alive(pid):
        if time.monotonic() > ends:
            return False
        time.sleep(0.02)
    return True
