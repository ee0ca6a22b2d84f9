"""The second wall: what a locked-in process can still do, tried by a process that is locked in."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from bridge.sandbox import jail, launcher

pytestmark = pytest.mark.skipif(jail.why_not() is not None, reason=str(jail.why_not()))

PROBE = """
import ctypes, os, runpy, signal, socket, sys, threading
own = runpy.run_path({launcher!r})
libc = ctypes.CDLL(None, use_errno=True)
audit, column = own["MACHINES"][os.uname().machine]
parent = os.getppid()
libc.prctl(38, 1, 0, 0, 0)
own["_restrict_files"](libc, "/bin/true")
own["_filter_calls"](libc, audit, column)
try:
    {attempt}
except OSError as error:
    print(error.errno)
else:
    print("done")
sys.stdout.flush()
os._exit(0)
"""


def tried(attempt):
    """What a locked-in process answers: an error's number, or `done`."""
    code = PROBE.format(launcher=launcher.__file__, attempt=attempt)
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ran.stdout.strip() or ran.stderr[-500:]


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/passwd')",
        "open('/tmp/written-by-the-jail', 'w')",
        "os.listdir('/')",
        "os.mkdir('/tmp/made-by-the-jail')",
        "socket.socket()",
        "socket.socketpair()",
        "os.fork()",
        "os.kill(parent, 0)",
        "os.execv('/bin/sh', ['sh', '-c', 'true'])",
        "os.memfd_create('x')",
        "os.pidfd_open(parent)",
    ],
)
def test_it_is_refused(attempt):
    # EPERM or EACCES.
    assert tried(attempt) in {"1", "13"}


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/lib64/ld-linux-x86-64.so.2').close() if os.uname().machine == 'x86_64' else None",
        "os.write(1, b'')",
        "thread = threading.Thread(target=int); thread.start(); thread.join()",
    ],
)
def test_what_a_worker_needs_goes_on(attempt):
    assert tried(attempt) == "done"


def test_a_worker_that_cannot_be_locked_in_does_not_start(tmp_path):
    code = (
        f"import runpy\nown = runpy.run_path({launcher.__file__!r})\n"
        "own['MACHINES'].clear()\nown['lock_in_and_run']('/bin/true', 2**32)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert ran.returncode != 0
