"""What outlives a run: its process killed, its daemon gone, and what is left on disk."""

from __future__ import annotations

import itertools
import os
import signal
import time

import pytest

from bridge.client import DaemonExited
from tests.daemon.asking import chat_reply
from tests.daemon.optimizing import (
    LEXICAL,
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
    search,
    two_hop,
    wait_for_row,
)
from tests.daemon.raw_daemon import wait_until_dead
from tests.lm_server import answer_text

MODULE = {"id": "m", "type": "predict", "signature": "question -> answer"}
ASK = {"module_id": "m", "inputs": {"question": "Why?"}}


_ids = itertools.count(1)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with open_daemon(tmp_path_factory.mktemp("state")) as port:
        port.call("create_module", MODULE)
        yield port


@pytest.fixture
def model(lm_server):
    """A model of the server that no other test uses; a call of it takes 10 ms."""
    return f"resumed-{next(_ids)}+slow-10"


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
        port.call("create_program", two_hop())
        future = port.send("optimize", search(model, run_id="orphan", program="two_hop"))
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
        # The program was named by its id, and this daemon has not seen it.
        error = not_optimized(port, {"resume": "orphan"})
        assert (error["code"], error["details"]["need"]) == ("not_found", "spec")
        port.call("create_program", two_hop())
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


def test_a_completed_run_that_is_resumed_gives_its_result_and_asks_no_lm(tmp_path, lm_server):
    with open_daemon(tmp_path / "runs") as port:
        result = port.call("optimize", request(run_id="done"), timeout=PATIENCE)
    # Prompts are in there: only the owner may look.
    (folder,) = (tmp_path / "runs").iterdir()
    assert not [path for path in [folder, *folder.iterdir()] if path.stat().st_mode & 0o077]
    model = "asked-for-nothing"
    with open_daemon(tmp_path / "runs", local(lm_server, model)) as port:
        port.call("create_program", two_hop())
        again = port.call("optimize", {"resume": "done"}, timeout=PATIENCE)
        held = port.call("get", {"kind": "program", "id": "two_hop"})
    result.pop("_meta")
    assert {name: again[name] for name in result} == result
    assert held["version"] == result["optimized_program"]["version"]
    assert asked(lm_server, model) == 0


def test_a_run_resumes_with_the_lm_that_its_request_had(daemon, lm_server, model):
    lms = {"without": local(lm_server, model), "keyed": local(lm_server, model, api_key="a key")}
    for name, lm in lms.items():
        future = daemon.send("optimize", search(model, run_id=name), lm=lm)
        wait_for_row(daemon, name, lambda row: row["trials"])
        os.kill(row_of(daemon, name)["pid"], signal.SIGKILL)
        assert future.exception(PATIENCE).code == "worker_died"
    result = daemon.call("optimize", {"resume": "without"}, timeout=PATIENCE)
    assert result["stats"]["usage"].keys() == {f"local/{model}"}
    assert optimize_faults(daemon, {"resume": "keyed"}).keys() == {"lm"}


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
    # An LM may repeat what it was sent.
    told = f"Use {keys[3]} and {keys[0]}."
    reply = chat_reply(proposed_instruction=told, proposed_prefix_for_output_field=told)
    lm_server.script(f"of-the-config-{model}", *[reply] * 4)
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
