"""How a daemon ends: signals, shutdown, a host that is gone, a parent that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

from bridge.client import DaemonExited, RequestFailed
from tests.daemon.asking import chat_reply
from tests.daemon.raw_daemon import (
    PATIENCE,
    ROOT,
    RawDaemon,
    read_any,
    wait_until_dead,
    written,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridge.client import Port
    from tests.lm_server import LMServer

PARENT = (sys.executable, str(ROOT / "tests" / "daemon" / "parent_process.py"))
LATENCY_MS = 600
MODULE = {"id": "m", "type": "predict", "signature": "question -> answer"}
FORWARD = {"module_id": "m", "inputs": {"question": "why"}}


def prepare(port: Port, lm: dict[str, Any]) -> None:
    """Raise the port to version 2 with an LM and a module `m`."""
    port.hello()
    port.wait_ready()
    port.call("configure", {"lm": lm})
    port.call("create_module", MODULE)


def slow_lm(latency_ms: int = LATENCY_MS) -> dict[str, Any]:
    return {"provider": "embedded", "model": "echo", "config": {"latency_ms": latency_ms}}


def stalled_lm(lm_server: LMServer, name: str) -> dict[str, Any]:
    url = lm_server.url_for("openai")
    return {"provider": "openai", "model": f"{name}+stall", "api_key": "k", "base_url": url}


def begin_stalled(port: Port, lm_server: LMServer, name: str) -> Any:
    """A forward whose LM has its request and never answers it."""
    prepare(port, stalled_lm(lm_server, name))
    future = port.send("forward", FORWARD)
    lm_server.wait_for(lambda: lm_server.in_flight(f"{name}+stall") == 1)
    return future


# Signals


def test_sigterm_ends_an_idle_daemon_with_status_0(spawn: Callable[..., Port]) -> None:
    port = spawn()
    port.hello()
    port.process.send_signal(signal.SIGTERM)
    assert port.process.wait(3.0) == 0


def test_sigint_ends_an_idle_daemon_with_status_0(spawn: Callable[..., Port]) -> None:
    port = spawn()
    port.hello()
    port.process.send_signal(signal.SIGINT)
    assert port.process.wait(3.0) == 0


def test_sigterm_lets_requests_in_flight_finish(spawn: Callable[..., Port]) -> None:
    port = spawn()
    prepare(port, slow_lm())
    futures = [port.send("forward", FORWARD) for _ in range(10)]
    assert port.call("stats")["in_flight"] > 1
    port.process.send_signal(signal.SIGTERM)
    for future in futures:
        assert future.result(PATIENCE)["answer"] == "why"
    assert port.process.wait(3.0) == 0


def test_sigterm_sent_again_ends_a_draining_daemon_at_once(
    spawn: Callable[..., Port], lm_server: LMServer
) -> None:
    port = spawn()
    future = begin_stalled(port, lm_server, "sigterm-twice")
    ends = time.monotonic() + 5.0
    # Two signals in a row may become one, so it is sent until somebody was there to take two.
    while port.process.poll() is None and time.monotonic() < ends:
        port.process.send_signal(signal.SIGTERM)
        try:
            port.process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    assert port.process.returncode == 128 + signal.SIGTERM
    with pytest.raises(DaemonExited):
        future.result(PATIENCE)


# Shutdown


def test_shutdown_is_answered_and_ends_the_daemon_with_status_0(spawn: Callable[..., Port]) -> None:
    port = spawn()
    port.hello()
    assert port.call("shutdown", {"grace_ms": 5000}) == {
        "status": "shutting_down",
        "grace_ms": 5000,
    }
    assert port.process.wait(3.0) == 0


def test_shutdown_lets_requests_finish_within_its_grace(spawn: Callable[..., Port]) -> None:
    port = spawn()
    prepare(port, slow_lm())
    future = port.send("forward", FORWARD)
    port.call("shutdown", {"grace_ms": 20_000})
    assert future.result(PATIENCE)["answer"] == "why"
    assert port.process.wait(3.0) == 0


def test_shutdown_cancels_what_exceeds_its_grace(
    spawn: Callable[..., Port], lm_server: LMServer
) -> None:
    port = spawn()
    future = begin_stalled(port, lm_server, "grace")
    port.call("shutdown", {"grace_ms": 200})
    with pytest.raises(RequestFailed) as failed:
        future.result(PATIENCE)
    assert failed.value.code == "cancelled"
    assert port.process.wait(3.0) == 0
    lm_server.wait_for(lambda: lm_server.in_flight("grace+stall") == 0)


def test_shutdown_without_grace_cancels_at_once(
    spawn: Callable[..., Port], lm_server: LMServer
) -> None:
    port = spawn()
    future = begin_stalled(port, lm_server, "no-grace")
    port.call("shutdown", {"grace_ms": 0})
    with pytest.raises(RequestFailed) as failed:
        future.result(3.0)
    assert failed.value.code == "cancelled"
    assert port.process.wait(3.0) == 0


# While it drains


def asked(port: Port, *args: Any) -> tuple[Any, Any]:
    """A forward whose LM is the host, and the call that the host was asked."""
    calls: SimpleQueue[Any] = SimpleQueue()
    port.on_call = calls.put
    prepare(port, {"provider": "host", "model": "beam"})
    future = port.send("forward", FORWARD)
    return future, calls.get(timeout=PATIENCE)


@pytest.mark.parametrize("way", ["shutdown", "sigterm"])
def test_a_draining_daemon_hears_what_its_requests_wait_for(
    spawn: Callable[..., Port], way: str
) -> None:
    port = spawn()
    future, call = asked(port)
    if way == "shutdown":
        port.call("shutdown")
    else:
        port.process.send_signal(signal.SIGTERM)
        wait_until_it_drains(port)
    port.answer(call.call, result=chat_reply(answer="in time"))
    assert future.result(PATIENCE)["answer"] == "in time"
    assert port.process.wait(3.0) == 0


def test_a_draining_daemon_takes_no_new_work(spawn: Callable[..., Port]) -> None:
    port = spawn()
    future, call = asked(port)
    port.call("shutdown")
    with pytest.raises(RequestFailed) as failed:
        port.call("forward", FORWARD)
    assert failed.value.code == "busy"
    assert port.call("ping", {"n": 1}) == {"n": 1}
    port.answer(call.call, result=chat_reply(answer="in time"))
    assert future.result(PATIENCE)["answer"] == "in time"


def test_a_request_can_be_cancelled_while_the_daemon_drains(spawn: Callable[..., Port]) -> None:
    port = spawn()
    future, _ = asked(port)
    port.call("shutdown")
    assert port.call("cancel", {"request": future.request_id}) == {"cancelled": True}
    assert port.process.wait(3.0) == 0


def test_a_second_shutdown_may_be_in_more_of_a_hurry(spawn: Callable[..., Port]) -> None:
    port = spawn()
    future, _ = asked(port)
    port.call("shutdown", {"grace_ms": 60_000})
    port.call("shutdown", {"grace_ms": 0})
    with pytest.raises(RequestFailed) as failed:
        future.result(PATIENCE)
    assert failed.value.code == "cancelled"
    assert port.process.wait(3.0) == 0


def test_a_host_that_ends_its_input_is_not_waited_for_by_its_calls(
    spawn: Callable[..., Port],
) -> None:
    port = spawn()
    future, _ = asked(port)
    assert port.close(timeout=5.0) == 0
    with pytest.raises(RequestFailed) as failed:
        future.result(PATIENCE)
    assert failed.value.code == "host_error"


def wait_until_it_drains(port: Port) -> None:
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        refusal: Any = port.send("list").exception(PATIENCE)
        if refusal is not None:
            assert refusal.code == "busy"
            return
    pytest.fail("it does not drain")


# Hosts that are gone


def test_the_end_of_input_with_a_stalled_lm_is_bounded_by_drain_ms(
    spawn: Callable[..., Port], lm_server: LMServer
) -> None:
    port = spawn("--drain-ms", "200")
    future = begin_stalled(port, lm_server, "drain")
    assert port.close(timeout=5.0) == 0
    with pytest.raises(RequestFailed) as failed:
        future.result(PATIENCE)
    assert failed.value.code == "cancelled"


def test_a_host_that_closed_both_ends_is_not_waited_for(lm_server: LMServer) -> None:
    lm = stalled_lm(lm_server, "both-ends")
    with RawDaemon() as daemon:
        daemon.ask({"id": 1, "command": "configure", "args": {"lm": lm}})
        daemon.ask({"id": 2, "command": "create_module", "args": MODULE})
        daemon.write(written({"id": 3, "command": "forward", "args": FORWARD}))
        lm_server.wait_for(lambda: lm_server.in_flight("both-ends+stall") == 1)
        daemon.end_input()
        daemon.output.close()
        assert daemon.status(timeout=3.0) == 0
        assert "Traceback" not in daemon.log()


def test_a_host_that_closed_only_our_output_is_noticed_at_the_next_answer() -> None:
    with RawDaemon() as daemon:
        daemon.ask({"id": 1, "command": "ping", "args": {}})
        daemon.output.close()
        daemon.write(written({"id": 2, "command": "ping", "args": {}}))
        assert daemon.status(timeout=3.0) == 0
        assert "Traceback" not in daemon.log()


class DoomedParent:
    """A process that spawned a daemon and waits to be killed."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*PARENT, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        assert self.process.stderr is not None
        self.daemon_pid = int(self.process.stderr.readline())

    def kill(self) -> None:
        """As the out-of-memory killer would: nothing is closed or flushed by the process itself."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.kill()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        with suppress(ProcessLookupError):
            os.kill(self.daemon_pid, signal.SIGKILL)


@pytest.fixture
def doomed() -> Iterator[Callable[..., DoomedParent]]:
    parents: list[DoomedParent] = []

    def start(*arguments: str) -> DoomedParent:
        parents.append(DoomedParent(*arguments))
        return parents[-1]

    yield start
    for parent in parents:
        parent.end()


def test_an_idle_daemon_ends_with_its_killed_parent(
    doomed: Callable[..., DoomedParent],
) -> None:
    parent = doomed("own", "[]")
    parent.kill()
    assert wait_until_dead(parent.daemon_pid, 3.0)


def test_a_busy_daemon_ends_with_its_killed_parent(
    doomed: Callable[..., DoomedParent], lm_server: LMServer
) -> None:
    requests = [
        ("configure", {"lm": stalled_lm(lm_server, "busy-own")}),
        ("create_module", MODULE),
        ("forward", FORWARD),
    ]
    parent = doomed("own", json.dumps(requests))
    lm_server.wait_for(lambda: lm_server.in_flight("busy-own+stall") == 1)
    parent.kill()
    assert wait_until_dead(parent.daemon_pid, 3.0)
    lm_server.wait_for(lambda: lm_server.in_flight("busy-own+stall") == 0)


def test_an_idle_daemon_whose_pipes_live_on_ends_with_its_killed_parent(
    doomed: Callable[..., DoomedParent],
) -> None:
    parent = doomed("inherited")
    _ask(parent, {"id": 1, "command": "ping", "args": {}})
    parent.kill()
    assert wait_until_dead(parent.daemon_pid, 3.0)


def test_a_busy_daemon_whose_pipes_live_on_ends_with_its_killed_parent(
    doomed: Callable[..., DoomedParent], lm_server: LMServer
) -> None:
    parent = doomed("inherited")
    lm = stalled_lm(lm_server, "busy-inherited")
    _ask(parent, {"id": 1, "command": "configure", "args": {"lm": lm}})
    _ask(parent, {"id": 2, "command": "create_module", "args": MODULE})
    assert parent.process.stdin is not None
    parent.process.stdin.write(written({"id": 3, "command": "forward", "args": FORWARD}))
    lm_server.wait_for(lambda: lm_server.in_flight("busy-inherited+stall") == 1, timeout=PATIENCE)
    parent.kill()
    assert wait_until_dead(parent.daemon_pid, 3.0)


def _ask(parent: DoomedParent, message: dict[str, Any]) -> Any:
    stdin, stdout = parent.process.stdin, parent.process.stdout
    assert stdin is not None
    assert stdout is not None
    stdin.write(written(message))
    size = int.from_bytes(stdout.read(4), "big")
    return read_any(stdout.read(size))


def test_a_large_answer_that_is_on_its_way_goes_out_whole(spawn: Callable[..., Port]) -> None:
    port = spawn()
    calls: SimpleQueue[Any] = SimpleQueue()
    port.on_call = calls.put
    prepare(port, {"provider": "host", "model": "beam"})
    future = port.send("generate", {"prompt": "much"})
    port.answer(calls.get(timeout=PATIENCE).call, result="é" * 6_000_000)
    # By then the answer has been read, and is being written down.
    port.call("ping")
    port.send("shutdown", {"grace_ms": 0})
    failure: Any = future.exception(PATIENCE)
    assert failure is None or failure.code == "cancelled"
