"""A run's process gives way, as far as the system knows how to."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bridge.priority import NICENESS, give_way


def test_a_process_that_gives_way_is_behind_all_others_and_its_children_too():
    code = "import os, sys; sys.stdin.read(); print(os.nice(0), getattr(os, 'SCHED_BATCH', 0))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        give_way(process.pid)
        if hasattr(os, "sched_getscheduler"):
            assert os.sched_getscheduler(process.pid) in (os.SCHED_BATCH, os.SCHED_OTHER)
        said, _ = process.communicate("")
    # It cannot be less nice than whoever started it.
    assert int(said.split()[0]) == max(NICENESS, os.nice(0))


def test_a_process_that_is_gone_is_no_error():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    give_way(process.pid)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux")
def test_what_the_machine_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr("bridge.priority.SCHED_SETATTR", {})
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    give_way(process.pid)
    assert os.sched_getscheduler(process.pid) == os.SCHED_OTHER
    process.communicate(b"\n")
