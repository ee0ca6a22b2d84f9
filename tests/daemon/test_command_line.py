"""The command line: other descriptors, lines instead of packets, terminals, options."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.daemon.raw_daemon import DAEMON, PATIENCE, ROOT, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HIGH = 40
"""Descriptors from here on are clear of those that pytest and Python use."""

MODULE = {"id": "m", "type": "predict", "signature": "question -> answer"}
FORWARD = {"module_id": "m", "inputs": {"question": "why"}}

# Descriptors 3 and 4


def test_on_descriptors_3_and_4_stdin_and_stdout_are_not_touched() -> None:
    to_daemon, from_daemon = os.pipe(), os.pipe()
    theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, HIGH) for fd in (to_daemon[0], from_daemon[1])]
    move = (
        f"import os; os.dup2({theirs[0]}, 3); os.dup2({theirs[1]}, 4); os.closerange(5, 256); "
        f"os.execv({DAEMON[0]!r}, {[*DAEMON, '--fds', '3,4']!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", move],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=theirs,
    )
    for fd in (to_daemon[0], from_daemon[1], *theirs):
        os.close(fd)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        # Neither the end of standard input nor what stands in it is any of the daemon's business.
        process.stdin.write(b"not a frame")
        process.stdin.close()
        os.write(to_daemon[1], written({"id": 1, "command": "ping", "args": {"n": 1}}))
        reply = os.read(from_daemon[0], 1000)
        assert reply == written({"id": 1, "result": {"n": 1}})
        os.close(to_daemon[1])
        assert process.wait(PATIENCE) == 0
        assert os.read(from_daemon[0], 1000) == b""
        assert process.stdout.read() == b""
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(from_daemon[0])


def test_descriptors_that_are_not_open_are_named_in_one_line() -> None:
    done = run(["--fds", "230,231"])
    assert done.returncode not in {0, None}
    assert "230" in done.stderr
    assert "Traceback" not in done.stderr


# Lines


def run(options: list[str], stdin: bytes | Any = b"") -> subprocess.CompletedProcess[str]:
    """Run the daemon to its end; stdin is bytes for a pipe, or an open file."""
    more: dict[str, Any] = {"stdin": stdin}
    if isinstance(stdin, bytes):
        more = {"input": stdin.decode()}
    return subprocess.run(
        [*DAEMON, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **more,
    )


TWO_PINGS = b'{"id":1,"command":"ping"}\n{"id":2,"command":"ping","args":{"a":1}}'
TWO_PONGS = '{"id":1,"result":{}}\n{"id":2,"result":{"a":1}}\n'


@pytest.mark.parametrize(
    "lines",
    [
        TWO_PINGS + b"\n",
        TWO_PINGS,
        TWO_PINGS.replace(b"\n", b"\r\n") + b"\r\n",
        b"\n  \n" + TWO_PINGS.replace(b"\n", b"\n\n\r\n") + b"\n\n",
        TWO_PINGS.replace(b"{", b"  {", 1) + b"  \n",
    ],
    ids=["plain", "no last newline", "crlf", "blank lines", "spaces"],
)
def test_each_line_is_answered_with_a_line(lines: bytes) -> None:
    done = run(["--framing", "lines"], lines)
    assert done.stdout == TWO_PONGS
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_line_that_is_no_request_is_answered_and_the_next_one_too() -> None:
    lines = b'garbage\n[1]\n{"id":1}\n' + TWO_PINGS
    done = run(["--framing", "lines"], lines)
    first, second, third, *rest = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["error"].partition(":")[0] for line in (first, second, third)] == [
        "invalid_frame",
        "invalid_frame",
        "invalid_message",
    ]
    assert third["id"] == 1
    assert len(rest) == 2
    assert done.returncode == 0


def test_a_file_of_lines_is_worked_through(tmp_path: Path) -> None:
    requests = [
        {
            "id": 1,
            "command": "configure",
            "args": {"lm": {"provider": "embedded", "model": "echo"}},
        },
        {"id": 2, "command": "create_module", "args": MODULE},
        {"id": 3, "command": "forward", "args": FORWARD},
    ]
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(map(json.dumps, requests)))
    with path.open("rb") as file:
        done = run(["--framing", "lines"], file)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers[-1] == {"id": 3, "result": {"answer": "why"}}
    assert done.returncode == 0


def test_answers_may_go_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with path.open("wb") as file:
        subprocess.run(
            [*DAEMON, "--framing", "lines"],
            cwd=ROOT,
            input=TWO_PINGS,
            stdout=file,
            timeout=PATIENCE,
            check=True,
        )
    assert path.read_text() == TWO_PONGS


def test_nothing_to_read_is_no_fault() -> None:
    done = run([], subprocess.DEVNULL)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Terminals and options


class Terminal:
    """A process whose standard input and error are a terminal."""

    def __init__(self, *options: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*DAEMON, *options], cwd=ROOT, stdin=slave, stdout=subprocess.PIPE, stderr=slave
        )
        os.close(slave)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def shown(self) -> str:
        """What stands on the terminal once the process has ended."""
        shown = b""
        try:
            while data := os.read(self.master, 4096):
                shown += data
        except OSError:
            # Linux's way to say that the other side is closed.
            pass
        return shown.decode()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        os.close(self.master)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    terminals: list[Terminal] = []

    def start(*options: str) -> Terminal:
        terminals.append(Terminal(*options))
        return terminals[-1]

    yield start
    for item in terminals:
        item.end()


def test_on_a_terminal_it_says_how_to_use_it_and_exits(
    terminal: Callable[..., Terminal],
) -> None:
    person = terminal()
    assert person.process.wait(PATIENCE) == os.EX_USAGE
    shown = person.shown()
    assert "dspy-bridge demo" in shown
    assert "--framing lines" in shown


def test_a_ping_typed_on_a_terminal_is_answered(terminal: Callable[..., Terminal]) -> None:
    person = terminal("--framing", "lines")
    person.type('{"id":1,"command":"ping","args":{"hello":"there"}}\n')
    assert person.process.stdout is not None
    assert person.process.stdout.readline() == b'{"id":1,"result":{"hello":"there"}}\n'
    person.type("\x04")
    assert person.process.wait(PATIENCE) == 0


def test_help_names_every_option() -> None:
    done = run(["--help"])
    assert done.returncode == 0
    for option in (
        "--framing",
        "--fds",
        "--log-level",
        "--max-frame",
        "--max-concurrent",
        "--drain-ms",
    ):
        assert option in done.stdout


@pytest.mark.parametrize(
    "options",
    [
        ["--framing", "words"],
        ["--fds", "3"],
        ["--fds", "3,3"],
        ["--fds", "a,b"],
        ["--max-frame", "0"],
        ["--max-concurrent", "-1"],
        ["--drain-ms", "soon"],
        ["--log-level", "loud"],
        ["--no-such-option"],
        ["nonsense"],
    ],
)
def test_a_bad_option_is_named_and_nothing_starts(options: list[str]) -> None:
    done = run(options)
    assert done.returncode == 2
    assert options[0] in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_no_file_is_left_behind_by_a_daemon() -> None:
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [*DAEMON, "--framing", "lines"],
            cwd=ROOT,
            env={**os.environ, "HOME": empty, "TMPDIR": empty},
            input=b'{"id":1,"command":"shutdown"}\n',
            stdout=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0
        assert list(Path(empty).iterdir()) == []
