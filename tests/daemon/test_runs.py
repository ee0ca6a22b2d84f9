"""What can be asked of a run: to tell of itself, to stop, to be cancelled, to keep a bound."""

from __future__ import annotations

import itertools
import os
import signal
import time

import pytest

from bridge.client import RequestFailed
from tests.daemon.optimizing import (
    PATIENCE,
    asked,
    begun,
    local,
    not_optimized,
    open_daemon,
    optimize_faults,
    progress,
    request,
    row_of,
    send_search,
    two_hop,
    wait_for_row,
)
from tests.daemon.raw_daemon import is_alive, wait_until_dead

_ids = itertools.count(1)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with open_daemon(tmp_path_factory.mktemp("state")) as port:
        yield port


@pytest.fixture
def model(lm_server):
    """A model of the server that no other test uses; a call of it takes 10 ms."""
    return f"run-{next(_ids)}+slow-10"


# What can be asked of a run


def test_a_run_is_listed_and_shown_while_it_runs_and_after(daemon, lm_server, model):
    future, run_id = send_search(daemon, lm_server, model)
    begun(lm_server, model, 30)
    row = row_of(daemon, run_id)
    assert row["status"] == "running"
    assert (row["optimizer"], row["program_id"]) == ("BootstrapFewShotWithRandomSearch", "two_hop")
    assert is_alive(row["pid"])
    assert row["ended_at"] is None
    assert row["result"] is None
    result = future.result(PATIENCE)
    events = progress(daemon, run_id)
    last = events.pop()
    assert (last["phase"], last["status"], last["error"]) == ("done", "completed", None)
    assert (last["score"], last["lm_calls"]) == (result["score"], result["stats"]["lm_calls"])
    assert "done" not in {event["phase"] for event in events}
    events = [event for event in events if event["score"] is not None]
    assert [event["trial"] for event in events] == list(range(1, 8))
    assert {event["trials"] for event in events} == {7}
    best = [event["best_score"] for event in events]
    assert best == sorted(best)
    row = row_of(daemon, run_id)
    assert row["status"] == "completed"
    assert row["score"] == row["best_score"] == result["score"]
    assert row["trials"] == result["stats"]["trials"] == 7
    assert row["pid"] is None
    assert row["error"] is None
    assert row["started_at"] < row["ended_at"]
    assert row["result"]["module_demos"] == result["module_demos"]
    assert "_meta" not in row["result"]
    listed = daemon.call("run_list")["runs"]
    assert listed[0] == {key: value for key, value in row.items() if key != "result"}


def test_tenants_see_their_own_runs_only(daemon):
    given = request("LabeledFewShot", run_id="shared name")
    for tenant in ("a", "b"):
        daemon.call("optimize", given, tenant=tenant, timeout=PATIENCE)
    assert [row["run_id"] for row in daemon.call("run_list", tenant="a")["runs"]] == ["shared name"]
    one, other = (row_of(daemon, "shared name", tenant=tenant) for tenant in ("a", "b"))
    assert one["started_at"] != other["started_at"]
    with pytest.raises(RequestFailed) as caught:
        row_of(daemon, "shared name")
    assert caught.value.code == "not_found"


def test_a_run_id_is_free_again_when_its_run_has_ended(daemon, lm_server, model):
    future, run_id = send_search(daemon, lm_server, model)
    begun(lm_server, model)
    fault = optimize_faults(daemon, request("LabeledFewShot", run_id=run_id))
    assert fault.keys() == {"run_id"}
    future.result(PATIENCE)
    first = row_of(daemon, run_id)
    daemon.call("optimize", request("LabeledFewShot", run_id=run_id), timeout=PATIENCE)
    again = row_of(daemon, run_id)
    assert again["optimizer"] == "LabeledFewShot"
    assert again["started_at"] > first["started_at"]
    ids = [row["run_id"] for row in daemon.call("run_list")["runs"]]
    assert ids.count(run_id) == 1


def test_a_detached_run_is_answered_at_once_and_goes_on(daemon, lm_server, model):
    future, run_id = send_search(
        daemon, lm_server, model, detach=True, program=two_hop("detached:")
    )
    answer = future.result(PATIENCE)
    assert (answer["run_id"], answer["status"]) == (run_id, "running")
    assert asked(lm_server, model) == 0
    events = events_until_done(daemon, run_id)
    assert {event.id for event in events} == {None}
    assert {event.data["phase"] for event in events} == {
        *("baseline", "optimizing", "scoring", "done")
    }
    last = events[-1].data
    # Whoever is told that it is done finds everything done.
    row = row_of(daemon, run_id)
    assert row["status"] == last["status"] == "completed"
    assert row["result"]["score"] == last["score"]
    assert last["lm_calls"] == row["result"]["stats"]["lm_calls"]
    held = daemon.call("get", {"kind": "program", "id": "detached:two_hop"})
    assert held["version"] == row["result"]["optimized_program"]["version"]


def events_until_done(port, run_id):
    """The progress events of a run up to the one that says it has ended."""
    found = []
    while not found or found[-1].data["phase"] != "done":
        event = port.events.get(timeout=PATIENCE)
        if event.event == "progress" and event.data["run_id"] == run_id:
            found.append(event)
    return found


def test_a_detached_run_that_fails_says_so_in_its_last_event(daemon, lm_server):
    daemon.call("optimize", request(run_id="lost", detach=True), lm=local(lm_server, "x+auth"))
    last = events_until_done(daemon, "lost")[-1].data
    assert (last["status"], last["error"]["code"]) == ("failed", "lm_auth")
    row = row_of(daemon, "lost")
    assert row["error"] == last["error"]
    assert row["error"]["details"]["run_id"] == "lost"


# What it cost


def usage_of(port, tenant):
    return port.call("usage", tenant=tenant)["total"]["calls"]


def test_usage_counts_while_a_run_runs_and_each_call_once(daemon, lm_server, model):
    future, run_id = send_search(daemon, lm_server, model, tenant="counted")
    row = wait_for_row(daemon, run_id, lambda row: row["usage"], tenant="counted")
    assert 0 < row["usage"][f"local/{model}"]["calls"] <= usage_of(daemon, "counted")
    result = future.result(PATIENCE)
    calls = result["stats"]["lm_calls"]
    assert calls == usage_of(daemon, "counted") == asked(lm_server, model)
    row = row_of(daemon, run_id, tenant="counted")
    assert row["usage"] == result["stats"]["usage"] == result["_meta"]["usage"]
    programs = daemon.call("usage", tenant="counted")["programs"]
    assert programs["two_hop"]["calls"] == calls


def test_usage_of_a_run_that_failed_counts(daemon, lm_server):
    model = "broke+fail-500-1000-then-ok"
    given = request(run_id="broke", max_concurrency=1)
    error = not_optimized(daemon, given, lm=local(lm_server, model), tenant="broke")
    assert error["details"]["run_id"] == "broke"
    assert usage_of(daemon, "broke") == asked(lm_server, model) > 0
    row = row_of(daemon, "broke", tenant="broke")
    assert row["usage"][f"local/{model}"]["calls"] == asked(lm_server, model)


def test_usage_of_a_killed_or_cancelled_run_counts_up_to_its_last_report(daemon, lm_server):
    """What it reports is old by a quarter of a second at the most."""
    for end in ("kill", "cancel"):
        model = f"{end}ed-counted+slow-300"
        future, run_id = send_search(daemon, lm_server, model, tenant=end)
        lm_server.wait_for(lambda model=model: asked(lm_server, model) >= 7, PATIENCE)
        # Two calls are in flight at once; those before them have ended a whole call ago.
        wait_for_row(daemon, run_id, lambda row: calls_in(row) >= 4, tenant=end)
        if end == "kill":
            os.kill(row_of(daemon, run_id, tenant=end)["pid"], signal.SIGKILL)
        else:
            daemon.call("cancel", {"request": future.request_id})
        assert future.exception(PATIENCE).code in ("worker_died", "cancelled")
        row = wait_for_row(daemon, run_id, lambda row: row["status"] != "running", tenant=end)
        assert calls_in(row) >= 4
        assert usage_of(daemon, end) == calls_in(row)


def calls_in(row):
    return sum(used["calls"] for used in row["usage"].values())


def test_a_run_that_nobody_knows_is_not_found(daemon):
    for command in ("run_get", "run_stop"):
        with pytest.raises(RequestFailed) as caught:
            daemon.call(command, {"run_id": "nobody"})
        assert caught.value.code == "not_found"


# Ends that a host asks for


def test_run_stop_keeps_the_best_so_far_within_one_call_of_the_lm(daemon, lm_server):
    model = "stopped+slow-100"
    future, run_id = send_search(daemon, lm_server, model)
    # The program as it is takes 24 calls, each candidate as many; one is done by now.
    wait_for_row(daemon, run_id, lambda row: row["trials"] >= 2)
    asked_at = time.monotonic()
    assert daemon.call("run_stop", {"run_id": run_id})["status"] == "stopping"
    result = future.result(PATIENCE)
    took = time.monotonic() - asked_at
    assert (result["status"], result["ended_by"]) == ("stopped", "run_stop")
    assert result["score"] >= result["baseline_score"]
    assert result["score"] == max(
        row["best_score"] for row in progress(daemon, run_id) if row["best_score"] is not None
    )
    assert took < 10 * 0.3
    row = row_of(daemon, run_id)
    assert (row["status"], row["pid"]) == ("stopped", None)
    assert row["result"]["optimized_program"]["modules"]
    assert lm_server.in_flight(model) == 0


def test_run_stop_before_the_run_has_begun_is_not_lost(daemon, lm_server, model):
    future, run_id = send_search(daemon, lm_server, model)
    wait_for_row(daemon, run_id, lambda row: row["pid"])
    daemon.call("run_stop", {"run_id": run_id})
    result = future.result(PATIENCE)
    assert (result["status"], result["ended_by"]) == ("stopped", "run_stop")
    assert asked(lm_server, model) < 30


def test_cancel_ends_the_process_and_the_lms_calls(daemon, lm_server):
    model = "cancelled+slow-100"
    future, run_id = send_search(daemon, lm_server, model)
    begun(lm_server, model, 4)
    pid = row_of(daemon, run_id)["pid"]
    asked_at = time.monotonic()
    assert daemon.call("cancel", {"request": future.request_id}) == {"cancelled": True}
    failure = future.exception(PATIENCE)
    assert failure.code == "cancelled"
    assert wait_until_dead(pid, 10 * 0.3)
    assert time.monotonic() - asked_at < 10 * 0.3
    lm_server.wait_for(lambda: lm_server.in_flight(model) == 0, PATIENCE)
    row = wait_for_row(daemon, run_id, lambda row: row["status"] != "running")
    assert row["status"] == "cancelled"
    assert row["error"]["code"] == "cancelled"


def test_a_cancelled_run_resumes(daemon, lm_server, model):
    future, run_id = send_search(daemon, lm_server, model)
    begun(lm_server, model, 60)
    daemon.call("cancel", {"request": future.request_id})
    wait_for_row(daemon, run_id, lambda row: row["status"] == "cancelled")
    before = asked(lm_server, model)
    lm = local(lm_server, model)
    result = daemon.call("optimize", {"resume": run_id}, lm=lm, timeout=PATIENCE)
    assert result["status"] == "completed"
    assert result["stats"]["cached_calls"] >= 0.9 * before


@pytest.mark.parametrize(
    ("budget", "ended_by"),
    [({"lm_calls": 60}, "budget"), ({"tokens": 20_000}, "budget"), ({"seconds": 3}, "budget")],
)
def test_a_budget_ends_a_run_with_the_best_so_far(daemon, lm_server, model, budget, ended_by):
    slow = model.replace("slow-10", "slow-50" if "seconds" in budget else "slow-0")
    future, _ = send_search(daemon, lm_server, slow, budget=budget)
    result = future.result(PATIENCE)
    assert (result["status"], result["ended_by"]) == ("stopped", ended_by)
    assert result["score"] >= result["baseline_score"]
    if "lm_calls" in budget:
        # Whoever finds the budget used up ends the call in flight beside it, counted or not yet.
        assert 59 <= asked(lm_server, slow) <= 60
        assert 59 <= result["stats"]["lm_calls"] <= 60
    if "tokens" in budget:
        used = result["stats"]["usage"][f"local/{slow}"]
        assert 20_000 <= used["input_tokens"] + used["output_tokens"] < 25_000


def test_a_deadline_ends_a_run_with_the_best_so_far(daemon, lm_server, model):
    slow = model.replace("slow-10", "slow-50")
    begun_at = time.monotonic()
    # Starting the process counts: on an idle machine it takes one of the three seconds.
    future, run_id = send_search(daemon, lm_server, slow, deadline_ms=3_000)
    result = future.result(PATIENCE)
    assert (result["status"], result["ended_by"]) == ("stopped", "deadline")
    assert time.monotonic() - begun_at < 10 * 3
    assert row_of(daemon, run_id)["status"] == "stopped"
