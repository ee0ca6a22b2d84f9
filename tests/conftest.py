"""What tests share: a spawned daemon behind the fake port, and the LM server on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from bridge.client import Port
from protocol import Codec
from tests.lm_server import LMServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# What lands is decided by the same examples every time; new ones are for whoever is at work.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture
def spawn() -> Iterator[Callable[..., Port]]:
    """Spawn daemons: ``spawn("--log-level", "debug", codec=…)``. What is left is killed."""
    ports: list[Port] = []

    def start(*options: str, codec: Codec = Codec.MSGPACK, **more: Any) -> Port:
        argv = [sys.executable, "-m", "bridge", *options]
        port = Port(argv, codec=codec, stderr=more.pop("stderr", subprocess.DEVNULL), **more)
        ports.append(port)
        return port

    yield start
    for port in ports:
        if port.process.poll() is None:
            port.kill()
        port.release()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Port]:
    """One daemon for a file's tests: version 2, the embedded LM `echo` as its default."""
    with Port(stderr=subprocess.DEVNULL) as port:
        port.hello()
        port.wait_ready()
        port.call("configure", {"lm": {"provider": "embedded", "model": "echo"}})
        yield port


@pytest.fixture(scope="module")
def lm_server() -> Iterator[LMServer]:
    """The LM server, for a file's tests."""
    with LMServer() as server:
        yield server
