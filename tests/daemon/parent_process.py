"""A parent for a daemon, to be killed: ``python parent_process.py own|inherited [requests]``.

`own`: it holds the daemon's pipes itself, as the BEAM does, and sends it `requests`, a JSON list
of ``[command, args]``; the last one's answer is not waited for. `inherited`: the daemon has this
process's own stdin and stdout, so that somebody else holds the pipes when this process is dead.
Writes the daemon's process id, as a line, to standard error.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bridge.client import Port  # noqa: E402 - the path to it comes first


def own(requests: list[tuple[str, object]]) -> int:
    port = Port(stderr=subprocess.DEVNULL)
    port.hello()
    port.wait_ready()
    for command, args in requests[:-1]:
        port.call(command, args)
    for command, args in requests[-1:]:
        port.send(command, args)
    return port.process.pid


def inherited() -> int:
    argv = [sys.executable, "-m", "bridge"]
    return subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.DEVNULL).pid


if __name__ == "__main__":
    pid = own(json.loads(sys.argv[2])) if sys.argv[1] == "own" else inherited()
    print(pid, file=sys.stderr, flush=True)
    signal.pause()
