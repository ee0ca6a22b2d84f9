"""The table of runs and what it keeps on disk, without any process."""

from __future__ import annotations

import json
import os

import pytest

from bridge.runs import store as store_file
from bridge.runs.store import RunStore
from bridge.runs.table import MOST_ENDED, MOST_RUNNING, Run, Runs
from bridge.scope import Scope
from protocol.errors import Busy, InvalidArgs, NotFound, Unsupported, WorkerDied


def unmasked(payload):
    return payload


def a_run(run_id, tenant=None, mask=unmasked):
    return Run(run_id, tenant, "BootstrapFewShot", "p", {"seed": 1}, mask)


@pytest.fixture
def runs(tmp_path):
    return Runs(RunStore(tmp_path), "error")


def end(runs, run, result=None):
    """Carry a run out without a child: it gives `result`, or raises it."""

    def in_child(*_):
        if isinstance(result, BaseException):
            raise result
        return {"stats": {"usage": {}}, **(result or {"status": "completed", "score": 1.0})}

    runs._in_child = in_child
    return runs.carry_out(run, None, Scope(), lambda _: None, lambda found: found)


def test_no_more_than_so_many_run_at_once(runs):
    held = [a_run(f"run {number}") for number in range(MOST_RUNNING)]
    for run in held:
        runs.begin(run, fresh=True)
    with pytest.raises(Busy):
        runs.begin(a_run("one more"), fresh=True)
    end(runs, held[0])
    runs.begin(a_run("one more"), fresh=True)


def test_a_run_is_begun_once_whoever_runs_it(runs, tmp_path):
    run = a_run("r")
    runs.begin(run, fresh=True)
    others = Runs(RunStore(tmp_path), "error")
    for table in (runs, others):
        with pytest.raises(InvalidArgs):
            table.begin(a_run("r"), fresh=True)
    assert others.get(None, "r")["status"] == "running"
    end(runs, run)
    others.begin(a_run("r"), fresh=True)


def test_what_is_refused_leaves_the_earlier_run_as_it_was(runs, tmp_path):
    first = a_run("r")
    runs.begin(first, fresh=True)
    end(runs, first)
    others = Runs(RunStore(tmp_path), "error")
    others.begin(a_run("r"), fresh=False)
    with pytest.raises(InvalidArgs):
        runs.begin(a_run("r"), fresh=True)
    assert runs.get(None, "r")["status"] == "completed"


def test_a_run_begun_anew_forgets_the_calls_of_the_old_one_and_a_resumed_one_does_not(runs):
    for fresh in (False, True):
        run = a_run("r")
        runs.begin(run, fresh=True)
        runs.record(None, "r").write_text("a call\n")
        end(runs, run)
        runs.begin(run := a_run("r"), fresh=fresh)
        assert runs.record(None, "r").exists() is not fresh
        end(runs, run)


def test_a_run_whose_daemon_is_gone_has_failed(runs, tmp_path):
    run = a_run("r")
    runs.begin(run, fresh=True)
    run.hold.release()
    row = Runs(RunStore(tmp_path), "error").get(None, "r")
    assert (row["status"], row["error"]["code"]) == ("failed", "worker_died")


def test_ended_runs_leave_memory_and_stay_on_disk(runs):
    for number in range(MOST_ENDED + 3):
        run = a_run(f"run {number}")
        runs.begin(run, fresh=True)
        end(runs, run, {"status": "completed", "score": number / 100})
    assert len(runs._runs) <= MOST_ENDED + 1
    assert len(runs.list(None)) == MOST_ENDED + 3
    assert runs.get(None, "run 1")["result"]["score"] == 0.01


def test_the_oldest_runs_go_from_disk_but_never_one_that_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(store_file, "MOST_KEPT", 3)
    runs = Runs(RunStore(tmp_path), "error")
    running = a_run("running")
    runs.begin(running, fresh=True)
    for number in range(5):
        run = a_run(f"run {number}")
        runs.begin(run, fresh=True)
        os.utime(runs.record(None, run.run_id).parent / "run.json", (number, number))
        end(runs, run)
        os.utime(runs.record(None, run.run_id).parent / "run.json", (number, number))
    runs.begin(a_run("last"), fresh=True)
    kept = {row["run_id"] for row in RunStore(tmp_path).all(None)}
    assert kept >= {"running", "last"}
    assert len(kept) <= 4


def test_tenants_and_ids_of_any_text_are_told_apart(runs):
    names = [
        (None, "r"),
        ("None", "r"),
        ("a", "r"),
        (None, "../../r"),
        (None, "a\0b"),
        ("a\0", "b"),
    ]
    for tenant, run_id in names[:MOST_RUNNING]:
        runs.begin(a_run(run_id, tenant), fresh=True)
    assert len({runs.record(tenant, run_id) for tenant, run_id in names}) == len(names)
    assert [row["run_id"] for row in runs.list("a")] == ["r"]
    with pytest.raises(NotFound):
        runs.get("a", "../../r")


def test_a_disk_that_is_full_costs_the_checkpoint_and_not_the_run(tmp_path):
    class Full(RunStore):
        full = False

        def save(self, *args):
            if self.full:
                raise OSError(28, "No space left on device")
            super().save(*args)

    store = Full(tmp_path)
    runs = Runs(store, "error")
    run = a_run("r")
    runs.begin(run, fresh=True)
    store.full = True
    runs._progress(run, {"best_score": 0.5}, lambda _: None)
    assert end(runs, run)["score"] == 1.0
    assert runs.get(None, "r")["result"]["score"] == 1.0
    with pytest.raises(Unsupported):
        runs.begin(a_run("another"), fresh=True)
    store.full = False
    runs.begin(a_run("another"), fresh=True)


def test_secrets_are_masked_in_all_that_is_written(runs):
    def mask(payload):
        return payload.replace(b"sk-secret", b"*********")

    run = Run("r", None, "COPRO", "p", {"config": {"note": "sk-secret"}}, mask)
    runs.begin(run, fresh=True)
    runs._progress(run, {"best_score": None, "note": "sk-secret"}, lambda _: None)
    end(runs, run, {"status": "completed", "score": 0.5, "traces": ["sk-secret"]})
    folder = runs.record(None, "r").parent
    for path in folder.iterdir():
        assert b"sk-secret" not in path.read_bytes()
    assert json.loads((folder / "result.json").read_bytes())["traces"] == ["*********"]


def test_a_damaged_file_is_no_run(runs, tmp_path):
    run = a_run("r")
    runs.begin(run, fresh=True)
    end(runs, run)
    (runs.record(None, "r").parent / "run.json").write_bytes(b'{"run_id": "r"')
    fresh = Runs(RunStore(tmp_path), "error")
    assert fresh.list(None) == []
    with pytest.raises(NotFound):
        fresh.get(None, "r")


def test_a_run_that_failed_keeps_what_it_had_spent_by_its_last_report(runs):
    run = a_run("r")
    runs.begin(run, fresh=True)
    heard = []
    used = {"openai/gpt": {"calls": 3, "input_tokens": 30, "output_tokens": 9, "cost": None}}
    runs._progress(run, {"run_id": "r", "lm_calls": 3, "usage": used}, heard.append)
    assert heard == [{"run_id": "r", "lm_calls": 3}]
    with pytest.raises(WorkerDied):
        end(runs, run, WorkerDied("gone", status=-9))
    assert runs.get(None, "r")["usage"] == used
    word = run.last_word()
    assert (word["phase"], word["status"], word["lm_calls"]) == ("done", "failed", 3)
    assert word["error"]["code"] == "worker_died"


def test_a_result_replaces_what_was_reported(runs):
    run = a_run("r")
    runs.begin(run, fresh=True)
    runs._progress(run, {"usage": {"a/b": {"calls": 3}}}, lambda _: None)
    stats = {"usage": {"a/b": {"calls": 5}}}
    end(runs, run, {"status": "completed", "score": 1.0, "stats": stats})
    assert runs.get(None, "r")["usage"] == {"a/b": {"calls": 5}}


def test_an_evaluation_is_stopped_under_its_id_which_is_its_own(runs):
    stopped = []

    def stop():
        stopped.append("evaluation")
        return True

    with runs.evaluation("a", "e", stop):
        runs.stop("a", "e")
        assert stopped == ["evaluation"]
        for tenant in (None, "b"):
            with pytest.raises(NotFound):
                runs.stop(tenant, "e")
        with pytest.raises(InvalidArgs):
            runs.begin(a_run("e", "a"), fresh=True)
        with pytest.raises(InvalidArgs), runs.evaluation("a", "e", stop):
            pass
    with pytest.raises(NotFound):
        runs.stop("a", "e")


def test_a_dead_child_is_named_in_its_runs_error(runs):
    run = a_run("r")
    runs.begin(run, fresh=True)
    with pytest.raises(WorkerDied) as caught:
        end(runs, run, WorkerDied("gone", status=-9))
    assert caught.value.details == {"status": -9, "run_id": "r"}
    row = runs.get(None, "r")
    assert (row["status"], row["error"]["details"]["run_id"]) == ("failed", "r")
