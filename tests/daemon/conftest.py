"""Daemons whose host answers calls."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from bridge.client import Port
from tests.daemon.asking import chat_reply
from tests.daemon.hosting import Host
from tests.daemon.optimizing import open_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """One host for a file's tests; its default LM answers every field with `ok`."""
    with Port(stderr=subprocess.DEVNULL) as port:
        port.hello()
        port.wait_ready()
        found = Host(port)
        found.functions.add("lm", "ok", lambda _: chat_reply(answer="ok"))
        port.call("configure", {"lm": {"provider": "host", "model": "ok"}})
        yield found


@pytest.fixture(scope="module")
def host_with_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One host for a file's tests of runs; its LM is the embedded one."""
    state: Path = tmp_path_factory.mktemp("state")
    with open_daemon(state) as port:
        yield Host(port)
