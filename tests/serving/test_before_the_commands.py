"""The daemon before its commands are imported: what it answers, holds, and has not imported."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from bridge.log import Log
from bridge.secrets import Secrets
from bridge.serving.daemon import Daemon
from bridge.serving.loop import Loop
from bridge.settings import Limits, Settings
from protocol import Codec, ErrorReply, HostSession, Reply
from protocol.errors import Cancelled
from tests.protocol.link import frame as framed

if TYPE_CHECKING:
    from collections.abc import Iterator

COSTLY = {
    *("dspy", "pydantic", "structlog", "orjson"),
    *("asyncio", "dataclasses", "datetime", "difflib", "inspect", "logging", "pathlib", "uuid"),
}
"""What takes milliseconds to import that the first answer would come later by."""

PROGRAM = """
import os, sys
from bridge.log import Log
from bridge.secrets import Secrets
from bridge.serving import serve
from bridge.serving.daemon import Daemon
from bridge.serving.loop import Loop
from bridge.settings import Settings

reader, writer = os.pipe()
daemon = Daemon(Settings(), writer, Loop(print), Secrets(), Log("warning"))
assert daemon.receive(bytes.fromhex(sys.argv[1])) == []
assert b"protocol" in os.read(reader, 65536)
print(*{name.partition(".")[0] for name in sys.modules})
"""


class Front:
    """A daemon whose commands never come, and the host's end of it."""

    def __init__(self, **limits: int) -> None:
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        settings = Settings(limits=Limits(**limits))
        self.daemon = Daemon(settings, writer, Loop(pytest.fail), Secrets(), Log("warning"))
        self.daemon.loading.begin = lambda: None  # type: ignore[method-assign]
        self.session = HostSession()

    def ask(self, request_id: int, command: str, args: dict[str, Any] | None = None) -> list[Any]:
        """Send a request; what the daemon says to it at once."""
        assert self.daemon.receive(self.session.encode_request(request_id, command, args)) == []
        return self.heard()

    def heard(self) -> list[Any]:
        """What the daemon has said."""
        try:
            return list(self.session.receive_data(os.read(self._reader, 1024 * 1024)))
        except BlockingIOError:
            return []


@pytest.fixture
def front() -> Iterator[Front]:
    return Front()


@pytest.mark.parametrize("codec", Codec)
def test_the_first_answer_waits_for_no_costly_import(codec: Codec) -> None:
    hello = HostSession(codec=codec).encode_request(1, "hello", {"protocol": [2]})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, hello.hex()],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    imported = set(done.stdout.split())
    if codec is Codec.MSGPACK:
        # Its extension for timestamps has it imported.
        imported.discard("datetime")
    else:
        assert "msgpack" not in imported
    assert imported & COSTLY == set()


LATE = {"id": 2, "command": "ping", "args": {}, "nonsense": 1}
"""Refused by version 2, which knows every key of its envelope; version 1 overlooks it."""


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("hello", "version"),
    [
        ({"protocol": [1, 2]}, 2),
        ({"protocol": [2]}, 2),
        ({}, 2),
        ({"protocol": None}, 2),
        ({"protocol": []}, 2),
        ({"protocol": [1]}, 1),
        ({"protocol": [3]}, 1),
        ({"protocol": [2], "nonsense": 1}, 1),
    ],
)
def test_what_follows_a_hello_is_read_as_agreed_however_it_is_cut(
    front: Front, hello: dict[str, Any], version: int, together: bool
) -> None:
    frames = [framed({"id": 1, "command": "hello", "args": hello}), framed(LATE)]
    for chunk in [b"".join(frames)] if together else frames:
        front.daemon.receive(chunk)
    _, second = front.heard()
    assert isinstance(second, Reply if version == 1 else ErrorReply)


def test_a_hello_under_an_id_that_is_taken_agrees_on_nothing(front: Front) -> None:
    front.ask(1, "forward")
    front.ask(1, "hello", {"protocol": [2]})
    front.daemon.receive(framed(LATE))
    assert front.heard() == [Reply(2, {})]


def test_a_request_is_held_and_a_ping_behind_it_is_answered(front: Front) -> None:
    assert front.ask(1, "forward") == []
    assert front.ask(2, "ping") == [Reply(2, {})]
    assert front.daemon.unanswered == 1


@pytest.mark.parametrize("command", ["forward", "ping"])
def test_the_id_of_a_held_request_is_taken(front: Front, command: str) -> None:
    front.ask(1, "forward")
    [error] = front.ask(1, command)
    assert isinstance(error, ErrorReply)
    assert (error.id, error.code) == (1, "duplicate_id")
    assert front.daemon.unanswered == 1


@pytest.mark.parametrize("bound", ["max_queued", "max_queued_bytes"])
def test_what_is_held_is_bounded(bound: str) -> None:
    front = Front(**{bound: 1})
    assert front.ask(1, "forward") == []
    [error] = front.ask(2, "forward")
    assert isinstance(error, ErrorReply)
    assert (error.id, error.code) == (2, "busy")


def test_what_is_held_is_answered_when_the_daemon_ends(front: Front) -> None:
    front.ask(1, "forward")
    front.daemon.stop_all(Cancelled("the daemon is shutting down"))
    assert [(error.id, error.code) for error in front.heard()] == [(1, "cancelled")]
    assert front.daemon.unanswered == 0
