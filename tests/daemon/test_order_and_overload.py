"""Many requests at once: what keeps its order, who waits for whom, and what is refused."""

from __future__ import annotations

import time
from concurrent.futures import as_completed, wait
from typing import TYPE_CHECKING, Any

import pytest

from bridge.client import RequestFailed
from protocol import Codec
from tests.daemon.raw_daemon import PATIENCE, RawDaemon, packed, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridge.client import Port
    from tests.lm_server import LMServer

MIB = 1024 * 1024
QUESTION = {"question": "why"}


def module(module_id: str, output: str = "answer") -> dict[str, Any]:
    return {"id": module_id, "type": "predict", "signature": f"question -> {output}"}


def call_of(module_id: str) -> dict[str, Any]:
    return {"module_id": module_id, "inputs": QUESTION}


def slow(latency_ms: int) -> dict[str, Any]:
    """An LM that answers after so many milliseconds."""
    return {"provider": "embedded", "model": "echo", "config": {"latency_ms": latency_ms}}


def fields(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what version 2 adds."""
    return {key: value for key, value in result.items() if key != "_meta"}


@pytest.fixture
def narrow(spawn: Callable[..., Port]) -> Port:
    """A daemon that runs one request at a time, with a module `m`."""
    port = spawn("--max-concurrent", "1")
    port.hello()
    port.wait_ready()
    port.call("create_module", module("m"))
    return port


# Order


def test_each_forward_sees_the_spec_sent_before_it(daemon: Port) -> None:
    futures = []
    for number in range(200):
        for output in (f"first_{number}", f"second_{number}"):
            daemon.send("create_module", module("replaced", output))
            futures.append((output, daemon.send("forward", call_of("replaced"))))
    for output, future in futures:
        assert fields(future.result(PATIENCE)) == {output: "why"}


def test_each_execute_sees_the_program_sent_before_it(daemon: Port) -> None:
    for name in ("one", "two"):
        daemon.call("create_module", module(f"part_{name}", f"from_{name}"))
    futures = []
    for number in range(100):
        name = ("one", "two")[number % 2]
        program = {"id": "rewired", "modules": [{"id": f"part_{name}", "name": name}]}
        daemon.send("create_program", program)
        run = daemon.send("execute", {"program_id": "rewired", "inputs": QUESTION})
        futures.append((name, run))
    for name, future in futures:
        assert fields(future.result(PATIENCE)) == {f"from_{name}": "why"}


def test_a_forward_behind_a_delete_does_not_find_its_module(daemon: Port) -> None:
    daemon.send("create_module", module("short-lived"))
    before = daemon.send("forward", call_of("short-lived"))
    daemon.send("delete", {"kind": "module", "id": "short-lived"})
    after = daemon.send("forward", call_of("short-lived"))
    assert fields(before.result(PATIENCE)) == {"answer": "why"}
    with pytest.raises(RequestFailed) as failed:
        after.result(PATIENCE)
    assert failed.value.code == "not_found"
    assert failed.value.error["details"]["need"] == "spec"


def test_each_forward_uses_the_lm_configured_before_it(daemon: Port, lm_server: LMServer) -> None:
    url = lm_server.url_for("openai")
    daemon.call("create_module", module("which"))
    futures = []
    for number in range(20):
        lm = {"provider": "openai", "model": f"lm-{number}", "api_key": "k", "base_url": url}
        daemon.send("configure", {"lm": lm}, tenant="changes-its-mind")
        sent = daemon.send("forward", call_of("which"), tenant="changes-its-mind")
        futures.append((number, sent))
    for number, future in futures:
        assert fields(future.result(PATIENCE)) == {"answer": f"lm-{number}: why"}


def test_a_request_in_flight_finishes_on_the_spec_it_began_with(daemon: Port) -> None:
    daemon.call("create_module", module("swapped", "old"))
    old = daemon.send("forward", call_of("swapped"), lm=slow(400))
    daemon.call("create_module", module("swapped", "new"))
    new = daemon.call("forward", call_of("swapped"))
    assert not old.done()
    assert fields(new) == {"new": "why"}
    assert fields(old.result(PATIENCE)) == {"old": "why"}


def test_a_queued_request_runs_on_the_spec_of_when_it_arrived(narrow: Port) -> None:
    narrow.call("configure", {"lm": slow(200)})
    running = narrow.send("forward", call_of("m"))
    queued = narrow.send("forward", call_of("m"))
    narrow.send("create_module", module("m", "new"))
    latest = narrow.send("forward", call_of("m"))
    assert fields(running.result(PATIENCE)) == {"answer": "why"}
    assert fields(queued.result(PATIENCE)) == {"answer": "why"}
    assert fields(latest.result(PATIENCE)) == {"new": "why"}


# Ids


def test_an_id_in_flight_is_refused_and_the_first_is_still_answered() -> None:
    with RawDaemon() as daemon:
        daemon.ask({"id": 1, "command": "configure", "args": {"lm": slow(300)}})
        daemon.ask({"id": 2, "command": "create_module", "args": module("m")})
        forward = {"id": "same", "command": "forward", "args": call_of("m")}
        daemon.write(written(forward) + written(forward))
        refused, answered = daemon.message(), daemon.message()
        assert refused["id"] == answered["id"] == "same"
        assert refused["error"].startswith("duplicate_id: ")
        assert answered["result"] == {"answer": "why"}
        assert daemon.ask(forward) == answered


def test_ids_of_different_kinds_are_different(daemon: Port) -> None:
    daemon.call("create_module", module("ids"))
    first = daemon.send("forward", call_of("ids"), id=70_000, lm=slow(100))
    second = daemon.send("forward", call_of("ids"), id="70000", lm=slow(100))
    assert fields(first.result(PATIENCE)) == fields(second.result(PATIENCE)) == {"answer": "why"}


# Overload


def test_a_full_queue_is_answered_busy_and_what_was_taken_is_done(narrow: Port) -> None:
    narrow.call("configure", {"lm": slow(300), "limits": {"max_queued": 2}})
    futures = [narrow.send("forward", call_of("m")) for _ in range(6)]
    wait(futures, PATIENCE)
    errors = [f.exception() for f in futures if f.exception() is not None]
    assert len(errors) == 3
    for error in errors:
        assert isinstance(error, RequestFailed)
        assert error.code == "busy"
        assert error.error["retriable"] is True
        assert error.error["retry_after_ms"] > 0
    assert all(future.exception() is None for future in futures[:3])
    assert fields(narrow.call("forward", call_of("m"))) == {"answer": "why"}


def test_commands_that_need_no_dspy_are_answered_while_the_queue_is_full(narrow: Port) -> None:
    narrow.call("configure", {"lm": slow(500), "limits": {"max_queued": 1}})
    futures = [narrow.send("forward", call_of("m")) for _ in range(3)]
    for command in ("ping", "list", "stats", "usage", "history", "export"):
        narrow.call(command)
    narrow.call("create_module", module("another"))
    assert not futures[0].done()
    wait(futures, PATIENCE)


def test_tenants_take_turns(narrow: Port) -> None:
    narrow.call("configure", {"lm": slow(50)})
    flood = [narrow.send("forward", call_of("m"), tenant="a") for _ in range(20)]
    single = narrow.send("forward", call_of("m"), tenant="b")
    order = list(as_completed([*flood, single], PATIENCE))
    # One of a's runs when b's arrives, and one more may have its turn before b's.
    assert order.index(single) <= 3


def test_three_tenants_are_served_in_even_shares(narrow: Port) -> None:
    narrow.call("configure", {"lm": slow(20)})
    blocker = narrow.send("forward", call_of("m"), lm=slow(300))
    futures = {
        narrow.send("forward", call_of("m"), tenant=tenant): tenant
        for tenant in ("a", "b", "c")
        for _ in range(10)
    }
    order = [futures[future] for future in as_completed(futures, PATIENCE)]
    blocker.result(PATIENCE)
    for served in range(3, 30, 3):
        shares = [order[:served].count(tenant) for tenant in ("a", "b", "c")]
        assert max(shares) - min(shares) <= 2, order


def test_a_cancelled_request_frees_its_place_in_the_queue(narrow: Port) -> None:
    narrow.call("configure", {"lm": slow(500), "limits": {"max_queued": 1}})
    running = narrow.send("forward", call_of("m"))
    queued = narrow.send("forward", call_of("m"), id="queued")
    assert narrow.call("cancel", {"request": "queued"}) == {"cancelled": True}
    with pytest.raises(RequestFailed):
        queued.result(PATIENCE)
    taken = narrow.send("forward", call_of("m"))
    assert fields(taken.result(PATIENCE)) == {"answer": "why"}
    assert fields(running.result(PATIENCE)) == {"answer": "why"}


def test_a_cancelled_request_leaves_the_queue_with_all_that_it_came_with(narrow: Port) -> None:
    narrow.call("configure", {"lm": slow(1_000)})
    running = narrow.send("forward", call_of("m"))
    long = {"module_id": "m", "inputs": {"question": "why " * 100_000}}
    queued = [narrow.send("forward", long) for _ in range(3)]
    full = narrow.call("stats")
    assert (full["queued"], full["queued_bytes"] > 3 * 400_000) == (3, True)
    for future in queued:
        narrow.call("cancel", {"request": future.request_id})
    left = narrow.call("stats")
    assert (left["queued"], left["queued_bytes"]) == (0, 0)
    assert fields(running.result(PATIENCE)) == {"answer": "why"}


def test_ping_is_answered_while_a_hundred_calls_run(daemon: Port) -> None:
    daemon.call("create_module", module("crowd"))
    calls = [daemon.send("forward", call_of("crowd"), lm=slow(2_000)) for _ in range(100)]
    began = time.monotonic()
    for number in range(20):
        assert daemon.call("ping", {"n": number}) == {"n": number}
    took = time.monotonic() - began
    assert not any(call.done() for call in calls)
    assert took < 2.0
    wait(calls, PATIENCE)
    assert all(call.exception() is None for call in calls)


# Bounds


def test_a_request_without_a_deadline_has_the_default_one(narrow: Port) -> None:
    narrow.call("configure", {"lm": slow(20_000), "limits": {"default_deadline_ms": 200}})
    with pytest.raises(RequestFailed) as failed:
        narrow.call("forward", call_of("m"))
    assert failed.value.code == "deadline_exceeded"


def test_a_deadline_beyond_any_clock_is_no_deadline(spawn: Callable[..., Port]) -> None:
    port = spawn(codec=Codec.JSON)
    port.hello()
    assert port.call("list", deadline_ms=10**400)["modules"] == []


def test_a_bound_that_no_clock_can_count_is_refused_and_changes_nothing(
    spawn: Callable[..., Port],
) -> None:
    port = spawn(codec=Codec.JSON)
    for name in ("default_deadline_ms", "drain_ms", "max_queued"):
        with pytest.raises(RequestFailed) as failed:
            port.call("configure", {"limits": {name: 10**400}})
        assert failed.value.code == "invalid_args"
    assert port.call("list")["modules"] == []
    assert port.close() == 0


def test_a_request_in_the_queue_has_its_deadline_too(narrow: Port) -> None:
    narrow.call("configure", {"lm": slow(1_000)})
    running = narrow.send("forward", call_of("m"))
    queued = narrow.send("forward", call_of("m"), deadline_ms=100)
    with pytest.raises(RequestFailed) as failed:
        queued.result(PATIENCE)
    assert failed.value.code == "deadline_exceeded"
    assert not running.done()
    running.result(PATIENCE)


@pytest.fixture
def raw() -> Iterator[RawDaemon]:
    """A daemon in version 1 with a module of a hundred kilobytes, DSPy imported."""
    with RawDaemon() as daemon:
        daemon.ask({"id": 1, "command": "configure", "args": {"lm": slow(0)}})
        large = {**module("large"), "state": {"instructions": "x" * 100_000}}
        daemon.ask({"id": 2, "command": "create_module", "args": large})
        daemon.ask({"id": 3, "command": "create_module", "args": module("m")})
        daemon.ask({"id": 4, "command": "forward", "args": call_of("m")})
        yield daemon


def wait_until_full(daemon: RawDaemon) -> int:
    """The memory that the daemon has come to, once it grows no more."""
    ends = time.monotonic() + PATIENCE
    sizes = [0, daemon.resident()]
    while sizes[-1] > sizes[-2] + MIB or len(sizes) < 5:
        assert time.monotonic() < ends
        time.sleep(0.2)
        sizes.append(daemon.resident())
    return max(sizes)


@pytest.mark.load
@pytest.mark.parametrize("kind", ["large requests", "small requests"])
def test_answers_nobody_reads_are_held_in_bounded_memory_and_none_is_lost(
    raw: RawDaemon, kind: str
) -> None:
    before = raw.resident()
    if kind == "large requests":
        args: dict[str, Any] = {"text": "x" * 100_000}
        requests = [{"id": n, "command": "ping", "args": args} for n in range(2_000)]
    else:
        args = {"kind": "module", "id": "large"}
        requests = [{"id": n, "command": "get", "args": args} for n in range(2_000)]
    writing = raw.write_behind(b"".join(map(packed, requests)))
    # 200 MB of answers; the bound is 64 MiB, and the copies that are made on the way.
    assert wait_until_full(raw) - before < 140 * MIB
    found = [raw.message()["id"] for _ in range(2_000)]
    assert found == list(range(2_000))
    writing.join()


@pytest.mark.parametrize("kind", ["predict", "chain_of_thought", "program", "generate"])
def test_calls_that_wait_for_their_lm_hold_no_thread(daemon: Port, lm_server: LMServer, kind: str):
    name = f"thin-{kind}"
    lm = {
        "provider": "openai",
        "model": f"{name}+slow-3000",
        "api_key": "k",
        "base_url": lm_server.url_for("openai"),
    }
    command, args = "forward", call_of(name)
    daemon.call(
        "create_module",
        {**module(name), "type": "predict" if kind in {"program", "generate"} else kind},
    )
    if kind == "program":
        daemon.call("create_program", {"id": name, "modules": [{"id": name, "name": "only"}]})
        command, args = "execute", {"program_id": name, "inputs": QUESTION}
    elif kind == "generate":
        command, args = "generate", {"prompt": "why"}
    futures = [daemon.send(command, args, lm=lm) for _ in range(150)]
    lm_server.wait_for(lambda: lm_server.in_flight(lm["model"]) == len(futures), PATIENCE)
    stats = daemon.call("stats")
    assert stats["running"] == len(futures)
    assert stats["workers"] < 20
    for future in futures:
        assert {"answer", "text"} & future.result(PATIENCE).keys()
