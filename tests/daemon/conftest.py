"""Daemons whose host answers calls, and what holds for all that any daemon says."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from bridge.client import Port
from bridge.commands.unasked import EVENTS, HOST_CALLS
from protocol import Event, HostCall, HostSession
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


@pytest.fixture(autouse=True)
def what_is_said_unasked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test is about: events and host calls are what `dspy-bridge schema` says."""
    faults: list[str] = []
    receive = HostSession.receive_data

    def checked(session: HostSession, data: bytes) -> list[Any]:
        messages = receive(session, data)
        for message in messages:
            if isinstance(message, Event | HostCall):
                faults.extend(_faults(message))
        return messages

    monkeypatch.setattr(HostSession, "receive_data", checked)
    yield
    assert faults == []


def _faults(message: Event | HostCall) -> Iterator[str]:
    schemas, name, value = (
        (EVENT_DATA, message.event, message.data)
        if isinstance(message, Event)
        else (CALL_ARGS, message.target, message.args)
    )
    for fault in schemas[name].iter_errors(value):
        yield f"{name} {fault.json_path}: {fault.message}"


EVENT_DATA = {name: Draft202012Validator(schema) for name, (_, schema) in EVENTS.items()}
CALL_ARGS = {target: Draft202012Validator(row["args"]) for target, row in HOST_CALLS.items()}
