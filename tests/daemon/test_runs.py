"""A run's life: listed, stopped, cancelled, killed, resumed, and outliving its daemon."""

from __future__ import annotations

import itertools
import os
import signal
import time

import pytest

from bridge.client import DaemonExited, RequestFailed
from tests.daemon.asking import chat_reply
from tests.daemon.optimizing import (
    LEXICAL,
    PATIENCE,
    TRAIN,
    asked,
    local,
    not_optimized,
    open_daemon,
    optimize_faults,
    progress,
    request,
    row_of,
    two_hop,
    wait_for_row,
)
from tests.daemon.raw_daemon import is_alive, wait_until_dead
from tests.lm_server import answer_text

MODULE = {"id": "m", "type": "predict", "signature": "question -> answer"}
ASK = {"module_id": "m", "inputs": {"question": "Why?"}}

SEARCH = {"num_candidate_programs": 4, "max_bootstrapped_demos": 2, "max_labeled_demos": 2}
"""Of random search: seven candidates, each scored on every example."""

_ids = itertools.count(1)


def search(model, **more):
    """A random search at a model of the server, which is right about every other question."""
    rows = [
        {**row, "answer": answer_text(model, row["question"]) if even else row["answer"]}
        for even, row in zip(itertools.cycle([True, False]), TRAIN[:8], strict=False)
    ]
    given = {"trainset": rows, "config": SEARCH, "max_concurrency": 2, **more}
    return request("BootstrapFewShotWithRandomSearch", **given)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with open_daemon(tmp_path_factory.mktemp("state")) as port:
        port.call("create_module", MODULE)
        yield port


@pytest.fixture
def model(lm_server):
    """A model of the server that no other test uses; a call of it takes 10 ms."""
    return f"run-{next(_ids)}+slow-10"


def send(port, server, model, **more):
    """Begin a search at `model`, under a run id of its own; the future and the id."""
    run_id = more.pop("run_id", f"of {model}")
    lm = local(server, model)
    envelope = {
        name: more.pop(name) for name in ("deadline_ms", "budget", "tenant") if name in more
    }
    return port.send("optimize", search(model, run_id=run_id, **more), lm=lm, **envelope), run_id


def begun(server, model, calls=1):
    """Wait until a run has made that many calls."""
    server.wait_for(lambda: asked(server, model) >= calls, PATIENCE)


# What can be asked of a run


def test_a_run_is_listed_and_shown_while_it_runs_and_after(daemon, lm_server, model):
    future, run_id = send(daemon, lm_server, model)
    begun(lm_server, model, 30)
    row = row_of(daemon, run_id)
    assert row["status"] == "running"
    assert (row["optimizer"], row["program_id"]) == ("BootstrapFewShotWithRandomSearch", "two_hop")
    assert is_alive(row["pid"])
    assert row["ended_at"] is None
    assert row["result"] is None
    result = future.result(PATIENCE)
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
    future, run_id = send(daemon, lm_server, model)
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
    future, run_id = send(daemon, lm_server, model, detach=True, program=two_hop("detached:"))
    answer = future.result(PATIENCE)
    assert (answer["run_id"], answer["status"]) == (run_id, "running")
    assert asked(lm_server, model) == 0
    row = wait_for_row(daemon, run_id, lambda row: row["status"] != "running")
    assert row["status"] == "completed"
    assert progress(daemon, run_id)[-1]["phase"] == "done"
    version = row["result"]["optimized_program"]["version"]
    held = wait_for_version(daemon, "detached:two_hop", version)
    assert held["version"] == version


def wait_for_version(port, program_id, version):
    ends = time.monotonic() + PATIENCE
    while True:
        held = port.call("get", {"kind": "program", "id": program_id})
        if held["version"] == version or time.monotonic() > ends:
            return held


def test_a_run_that_nobody_knows_is_not_found(daemon):
    for command in ("run_get", "run_stop"):
        with pytest.raises(RequestFailed) as caught:
            daemon.call(command, {"run_id": "nobody"})
        assert caught.value.code == "not_found"


# Ends that a host asks for


def test_run_stop_keeps_the_best_so_far_within_one_call_of_the_lm(daemon, lm_server):
    model = "stopped+slow-100"
    future, run_id = send(daemon, lm_server, model)
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
    future, run_id = send(daemon, lm_server, model)
    wait_for_row(daemon, run_id, lambda row: row["pid"])
    daemon.call("run_stop", {"run_id": run_id})
    result = future.result(PATIENCE)
    assert (result["status"], result["ended_by"]) == ("stopped", "run_stop")
    assert asked(lm_server, model) < 30


def test_cancel_ends_the_process_and_the_lms_calls(daemon, lm_server):
    model = "cancelled+slow-100"
    future, run_id = send(daemon, lm_server, model)
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
    future, run_id = send(daemon, lm_server, model)
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
    future, _ = send(daemon, lm_server, slow, budget=budget)
    result = future.result(PATIENCE)
    assert (result["status"], result["ended_by"]) == ("stopped", ended_by)
    assert result["score"] >= result["baseline_score"]
    if "lm_calls" in budget:
        # Whoever finds the budget used up ends the call in flight beside it.
        assert 59 <= asked(lm_server, slow) <= result["stats"]["lm_calls"] <= 60
    if "tokens" in budget:
        used = result["stats"]["usage"][f"local/{slow}"]
        assert 20_000 <= used["input_tokens"] + used["output_tokens"] < 25_000


def test_a_deadline_ends_a_run_with_the_best_so_far(daemon, lm_server, model):
    slow = model.replace("slow-10", "slow-50")
    begun_at = time.monotonic()
    # Starting the process counts: on an idle machine it takes one of the three seconds.
    future, run_id = send(daemon, lm_server, slow, deadline_ms=3_000)
    result = future.result(PATIENCE)
    assert (result["status"], result["ended_by"]) == ("stopped", "deadline")
    assert time.monotonic() - begun_at < 10 * 3
    assert row_of(daemon, run_id)["status"] == "stopped"


# Ends that nobody asked for


def unrepeated(server, model, total):
    """The part of the calls before a resume, with the key `first`, that was not made again."""
    first, again = asked(server, model, "first"), asked(server, model, "again")
    return 1 - (first + again - total) / first


def test_a_killed_run_is_worker_died_and_resumes_without_paying_again(daemon, lm_server, model):
    control = {"lm": local(lm_server, model, api_key="control")}
    whole = daemon.call("optimize", search(model, keep="new"), timeout=PATIENCE, **control)
    total = asked(lm_server, model)
    lm = local(lm_server, model, api_key="first")
    future = daemon.send("optimize", search(model, run_id="killed", keep="new"), lm=lm)
    lm_server.wait_for(lambda: asked(lm_server, model, "first") > 0.6 * total, PATIENCE)
    other = daemon.send("forward", ASK, lm=local(lm_server, "unharmed+slow-300"))
    os.kill(row_of(daemon, "killed")["pid"], signal.SIGKILL)
    killed_at = time.monotonic()
    failure = future.exception(PATIENCE)
    assert time.monotonic() - killed_at < 10 * 1.0
    assert failure.code == "worker_died"
    assert failure.error["retriable"] is True
    assert failure.error["details"]["run_id"] == "killed"
    assert failure.error["details"]["status"] == -signal.SIGKILL
    assert other.result(PATIENCE)["answer"] == answer_text("unharmed+slow-300", "Why?")
    row = row_of(daemon, "killed")
    assert (row["status"], row["error"]["code"]) == ("failed", "worker_died")

    # Whoever resumes may have a new key.
    lm = local(lm_server, model, api_key="again")
    result = daemon.call("optimize", {"resume": "killed"}, lm=lm, timeout=PATIENCE)
    assert result["run_id"] == "killed"
    for part in ("status", "score", "module_instructions", "module_demos", "trials"):
        assert result[part] == whole[part]
    assert unrepeated(lm_server, model, total) >= 0.9


def test_a_run_whose_daemon_was_killed_leaves_no_process_and_resumes_in_another(
    tmp_path, lm_server, model
):
    port = open_daemon(tmp_path, local(lm_server, model, api_key="first"))
    try:
        future = port.send("optimize", search(model, run_id="orphan"))
        begun(lm_server, model, 120)
        pid = row_of(port, "orphan")["pid"]
    finally:
        port.kill()
    assert wait_until_dead(pid, 3.0)
    assert isinstance(future.exception(PATIENCE), DaemonExited)
    port.release()
    with open_daemon(tmp_path, local(lm_server, model, api_key="again")) as port:
        row = row_of(port, "orphan")
        assert (row["status"], row["error"]["code"], row["pid"]) == ("failed", "worker_died", None)
        assert [row["run_id"] for row in port.call("run_list")["runs"]] == ["orphan"]
        result = port.call("optimize", {"resume": "orphan"}, timeout=PATIENCE)
        assert result["status"] == "completed"
        total = asked(lm_server, model, "first") + asked(lm_server, model, "again")
        assert result["stats"]["lm_calls"] == asked(lm_server, model, "again")
        assert result["stats"]["cached_calls"] >= 0.9 * asked(lm_server, model, "first")
        assert total > 120


def test_a_daemon_that_shuts_down_takes_its_detached_runs_with_it(tmp_path, lm_server, model):
    port = open_daemon(tmp_path, local(lm_server, model))
    port.call("optimize", search(model, run_id="left", detach=True))
    begun(lm_server, model)
    pid = row_of(port, "left")["pid"]
    assert port.close() == 0
    assert wait_until_dead(pid, 3.0)
    with open_daemon(tmp_path, local(lm_server, model)) as port:
        assert row_of(port, "left")["status"] == "failed"


def test_a_completed_run_that_is_resumed_gives_its_result_and_asks_no_lm(tmp_path, lm_server):
    with open_daemon(tmp_path) as port:
        result = port.call("optimize", request(run_id="done"), timeout=PATIENCE)
    model = "asked-for-nothing"
    with open_daemon(tmp_path, local(lm_server, model)) as port:
        port.call("create_program", two_hop())
        again = port.call("optimize", {"resume": "done"}, timeout=PATIENCE)
        held = port.call("get", {"kind": "program", "id": "two_hop"})
    again.pop("_meta")
    result.pop("_meta")
    assert again == result
    assert held["version"] == result["optimized_program"]["version"]
    assert asked(lm_server, model) == 0


def test_a_run_with_a_programs_id_asks_for_the_spec_when_it_is_resumed_elsewhere(
    tmp_path, lm_server, model
):
    lm = local(lm_server, model)
    with open_daemon(tmp_path, lm) as port:
        port.call("create_program", two_hop())
        future = port.send("optimize", search(model, program="two_hop", run_id="by id"))
        begun(lm_server, model, 30)
        os.kill(row_of(port, "by id")["pid"], signal.SIGKILL)
        future.exception(PATIENCE)
    with open_daemon(tmp_path, lm) as port:
        error = not_optimized(port, {"resume": "by id"})
        assert (error["code"], error["details"]["need"]) == ("not_found", "spec")
        port.call("create_program", two_hop())
        result = port.call("optimize", {"resume": "by id"}, timeout=PATIENCE)
    assert result["stats"]["cached_calls"] > 20


def test_two_daemons_share_a_directory_and_know_who_runs_what(tmp_path, lm_server, model):
    lm = local(lm_server, model)
    with open_daemon(tmp_path, lm) as one, open_daemon(tmp_path, lm) as other:
        future = one.send("optimize", search(model, run_id="mine"))
        begun(lm_server, model, 10)
        assert row_of(other, "mine")["status"] == "running"
        assert optimize_faults(other, search(model, run_id="mine")).keys() == {"run_id"}
        assert optimize_faults(other, {"resume": "mine"}).keys() == {"run_id"}
        result = future.result(PATIENCE)
        assert result["status"] == "completed"
        assert row_of(other, "mine")["result"]["score"] == result["score"]


def test_a_directory_that_cannot_be_written_is_told_before_anything_is_spent(tmp_path, spawn):
    blocked = tmp_path / "a file"
    blocked.write_text("not a directory")
    port = spawn("--state-dir", str(blocked))
    port.hello()
    port.call("configure", {"lm": LEXICAL})
    error = not_optimized(port, request())
    assert error["code"] == "unsupported"
    assert str(blocked) in error["message"]


# What is never on disk


def files_of(directory):
    return [path for path in directory.rglob("*") if path.is_file()]


def keyed(server, model):
    """A request with keys in every place that has one, and the keys; two LMs are for its daemon."""
    keys = [f"sk-marked-{name}-0123456789" for name in ("default", "named", "module", "config")]
    program = two_hop()
    program["modules"][0]["lm"] = local(server, model, api_key=keys[2])
    config = {"breadth": 2, "depth": 1}
    config["prompt_model"] = local(server, f"of-the-config-{model}", api_key=keys[3])
    lms = {"lm": local(server, model, api_key=keys[0])}
    lms["lms"] = {"other": local(server, model, api_key=keys[1])}
    return request("COPRO", program=program, config=config, run_id="keyed"), keys, lms


def assert_nowhere(keys, directory, *told):
    files = files_of(directory)
    assert {path.name for path in files} >= {"request.json", "run.json", "calls.jsonl"}
    for key in keys:
        assert not [path for path in files if key.encode() in path.read_bytes()]
        assert key not in str(told)


def test_no_key_is_ever_in_the_state_directory_or_in_an_event(tmp_path, lm_server, model):
    given, keys, lms = keyed(lm_server, model)
    with open_daemon(tmp_path) as port:
        port.call("configure", lms)
        result = port.call("optimize", given, timeout=PATIENCE)
        row, events = row_of(port, "keyed"), progress(port, "keyed")
        # What came with a key is asked for again.
        faults = optimize_faults(port, {"resume": "keyed", "seed": 1})
        assert faults.keys() == {"program", "config"}
    assert asked(lm_server, model, keys[2]) > 0
    assert asked(lm_server, f"of-the-config-{model}", keys[3]) > 0
    assert_nowhere(keys, tmp_path, result, row, events)


def test_a_key_that_a_failing_lm_repeats_is_not_kept(tmp_path, lm_server, model):
    given, keys, lms = keyed(lm_server, model)
    lm_server.set_behaviour(model, "echo-key-401")
    with open_daemon(tmp_path) as port:
        port.call("configure", lms)
        error = not_optimized(port, given)
        row, events = row_of(port, "keyed"), progress(port, "keyed")
    assert error["code"] == "lm_auth"
    assert_nowhere(keys, tmp_path, error, row, events)


def test_a_key_that_an_lm_repeats_in_its_answer_is_not_kept(tmp_path, lm_server, model):
    given, keys, lms = keyed(lm_server, model)
    told = f"Use {keys[3]} and {keys[0]}."
    reply = chat_reply(proposed_instruction=told, proposed_prefix_for_output_field=told)
    lm_server.script(f"of-the-config-{model}", *[reply] * 4)
    with open_daemon(tmp_path) as port:
        port.call("configure", lms)
        result = port.call("optimize", given, timeout=PATIENCE)
        row, events = row_of(port, "keyed"), progress(port, "keyed")
    assert_nowhere(keys, tmp_path, result, row, events)


def test_only_the_owner_may_look_into_the_state_directory(tmp_path):
    with open_daemon(tmp_path / "runs") as port:
        port.call("optimize", request("LabeledFewShot"), timeout=PATIENCE)
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in files_of(folder))


def test_a_run_reports_best_scores_that_never_fall(daemon, lm_server, model):
    future, run_id = send(daemon, lm_server, model)
    future.result(PATIENCE)
    events = progress(daemon, run_id)
    whole = [event for event in events if event["score"] is not None]
    assert [event["trial"] for event in whole] == list(range(1, 8))
    assert {event["trials"] for event in whole} == {7}
    best = [event["best_score"] for event in whole]
    assert best == sorted(best)
    assert [event["phase"] for event in events if event["phase"] == "done"] == ["done"]
