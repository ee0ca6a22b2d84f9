"""What a process has started, and what that has started, ends with it."""

from __future__ import annotations

import subprocess
import sys

from tests.daemon.raw_daemon import wait_until_dead

FAMILY = """
import subprocess, sys
from bridge.serving.children import end_children
child = subprocess.Popen(
    ["/bin/sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True
)
grandchild = child.stdout.readline().strip()
print(child.pid, grandchild, flush=True)
sys.stdin.readline()
end_children()
"""


def test_children_and_their_children_are_ended():
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert len(pids) == 2
        assert all(wait_until_dead(pid, 30) for pid in pids)
