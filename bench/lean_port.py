"""A port without threads: one blocking request at a time, as cheap as Python can ask.

The fake port of `bridge.client` adds two thread switches a call, which is more than the daemon
itself costs; a BEAM adds none. Measuring the daemon needs a client that is not the larger part.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from protocol import Codec, Event, HostSession, load_quick_codecs

if TYPE_CHECKING:
    from typing import Self


class LeanPort:
    """A spawned daemon, version 2, asked one thing at a time."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bridge"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        load_quick_codecs()
        self._session = HostSession(codec=Codec.MSGPACK)
        self._messages: list[Any] = []

    def call(self, command: str, args: dict[str, Any] | None = None, **envelope: Any) -> Any:
        """The result of one request; events that come first are dropped."""
        frame = self._session.encode_request(1, command, args or {}, **envelope)
        while frame:
            frame = frame[os.write(self._in, frame) :]
        while True:
            message = self.next_message()
            if not isinstance(message, Event):
                return message.result

    def next_message(self) -> Any:
        """The next message of the daemon, whatever it is."""
        while not self._messages:
            data = os.read(self._out, 1024 * 1024)
            if not data:
                raise EOFError("the daemon is gone")
            self._messages = self._session.receive_data(data)
        return self._messages.pop(0)

    def wait_ready(self) -> None:
        """Wait for the `ready` event, after `hello`."""
        while True:
            message = self.next_message()
            if isinstance(message, Event) and message.event == "ready":
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
