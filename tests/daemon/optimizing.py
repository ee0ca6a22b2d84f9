"""The two-hop program, its questions and its optimizers, as tests send them to a daemon."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from bridge.client import Port, RequestFailed
from bridge.demo.twohop import MODULES, PROGRAM, load
from tests.lm_server import answer_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lm_server import LMServer

PATIENCE = 120.0
"""Seconds for a run that takes two on an idle machine."""

LEXICAL = {"provider": "embedded", "model": "lexical"}

QUESTIONS = load("questions")
TRAIN = [row for row in QUESTIONS if row["split"] == "train"]
HELDOUT = [row for row in QUESTIONS if row["split"] == "heldout"]
PASSAGES = [row["text"] for row in load("corpus")]

SEED_FEWSHOT = {
    "max_bootstrapped_demos": 4,
    "max_labeled_demos": 16,
    "max_rounds": 1,
    "max_errors": 5,
    "teacher_settings": {},
}
"""What the seed's `BootstrapFewShot.init` makes of no config at all."""

SEED_MIPRO = {
    "num_candidates": 10,
    "init_temperature": 1.0,
    "verbose": False,
    "track_stats": True,
    "view_data_batch_size": 10,
    "minibatch_size": 25,
    "minibatch_full_eval_steps": 10,
}
"""What the seed's `MIPRO.init` makes of no config at all."""

CONFIGS: dict[str, dict[str, Any]] = {
    "LabeledFewShot": {"k": 4},
    "BootstrapFewShot": SEED_FEWSHOT,
    "BootstrapFewShotWithRandomSearch": {
        "num_candidate_programs": 1,
        "max_bootstrapped_demos": 2,
        "max_labeled_demos": 2,
    },
    "BootstrapFewShotWithOptuna": {"num_candidate_programs": 2, "max_bootstrapped_demos": 2},
    "COPRO": {"breadth": 2, "depth": 1},
    "MIPRO": {**SEED_MIPRO, "num_candidates": 3},
    "SIMBA": {"bsize": 4, "num_candidates": 2, "max_steps": 1, "max_demos": 2},
    "GEPA": {"max_metric_calls": 20, "reflection_minibatch_size": 2},
    "KNNFewShot": {"k": 3},
    "InferRules": {"num_candidates": 1, "num_rules": 2, "max_bootstrapped_demos": 2},
    "BetterTogether": {
        "optimizers": {
            "demos": {"optimizer": "BootstrapFewShot", "config": {"max_bootstrapped_demos": 2}},
            "labels": {"optimizer": "LabeledFewShot", "config": {"k": 2}},
        },
    },
}
"""Every optimizer that runs here, small enough for a test."""


def two_hop(prefix: str = "", *, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """The demo's program with its modules whole, as `serialize_program` sends a program.

    `state` is learned state by module id.
    """
    ids = {"search": f"{prefix}search", **{m["id"]: f"{prefix}{m['id']}" for m in MODULES}}
    search = {"id": "search", "type": "retrieve", "config": {"passages": PASSAGES, "k": 3}}
    modules = []
    for module in [MODULES[0], search, MODULES[1]]:
        key = ids[module["id"]]
        learned = {"state": state[key]} if state and key in state else {"state": {}}
        modules.append({**module, **learned, "id": key, "name": module["id"]})
    return {
        "id": f"{prefix}two_hop",
        "modules": modules,
        "steps": PROGRAM["steps"],
        "forward_fn": None,
    }


def request(optimizer: str = "BootstrapFewShot", prefix: str = "", **more: Any) -> dict[str, Any]:
    """The arguments of an `optimize` as the seed's Elixir sends them; `more` replaces some."""
    return {
        "optimizer": optimizer,
        "program": two_hop(prefix),
        "trainset": TRAIN[:8],
        "metric": "exact_match",
        "config": CONFIGS.get(optimizer, {}),
        **more,
    }


def local(server: LMServer, model: str, **more: Any) -> dict[str, Any]:
    """An LM on the test server, that answers at once if its name says nothing else."""
    return {
        "provider": "local",
        "model": model,
        "base_url": server.url_for("local"),
        "max_retries": 0,
        **more,
    }


def open_daemon(state_dir: Path, lm: dict[str, Any] | None = None) -> Port:
    """A daemon that keeps its runs in `state_dir`: version 2, ready, `lm` configured."""
    port = Port(
        [sys.executable, "-m", "bridge", "--state-dir", str(state_dir)],
        stderr=subprocess.DEVNULL,
    )
    port.hello()
    port.wait_ready()
    port.call("configure", {"lm": lm or LEXICAL})
    return port


def progress(port: Port, run_id: str) -> list[dict[str, Any]]:
    """The progress events of a run that have come; takes all events out of the port's queue."""
    found = []
    while not port.events.empty():
        event = port.events.get()
        if event.event == "progress" and event.data["run_id"] == run_id:
            found.append(event.data)
    return found


def not_optimized(port: Port, args: dict[str, Any], **envelope: Any) -> dict[str, Any]:
    """The error that an `optimize` is answered with."""
    with pytest.raises(RequestFailed) as caught:
        port.call("optimize", args, timeout=PATIENCE, **envelope)
    error: dict[str, Any] = caught.value.error
    return error


def optimize_faults(port: Port, args: dict[str, Any], **envelope: Any) -> dict[str, Any]:
    """The faults of an `optimize` that is answered with `invalid_args`, by path."""
    error = not_optimized(port, args, **envelope)
    assert error["code"] == "invalid_args", error
    return {fault["path"]: fault for fault in error["details"]["faults"]}


def row_of(port: Port, run_id: str, **envelope: Any) -> dict[str, Any]:
    """A run as `run_get` shows it."""
    row: dict[str, Any] = port.call("run_get", {"run_id": run_id}, **envelope)
    return row


def wait_for_row(
    port: Port, run_id: str, is_so: Callable[[dict[str, Any]], Any], **envelope: Any
) -> dict[str, Any]:
    """A run's row once `is_so`; fails if that is never."""
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            row = row_of(port, run_id, **envelope)
        except RequestFailed as error:
            if error.code != "not_found":
                raise
        else:
            if is_so(row):
                return row
        assert time.monotonic() < ends, f"not so: {row}"
        time.sleep(0.02)


def asked(server: LMServer, model: str, key: str | None = None) -> int:
    """How many requests a model of the server has received, with one API key or any."""
    return sum(r.model == model and key in (None, r.key) for r in server.requests)


SEARCH = {"num_candidate_programs": 4, "max_bootstrapped_demos": 2, "max_labeled_demos": 2}
"""Of random search: seven candidates, each scored on every example."""


def search(model: str, **more: Any) -> dict[str, Any]:
    """A random search at a model of the server, which is right about every other question."""
    rows = [
        {**row, "answer": answer_text(model, row["question"]) if even else row["answer"]}
        for even, row in zip(itertools.cycle([True, False]), TRAIN[:8], strict=False)
    ]
    given = {"trainset": rows, "config": SEARCH, "max_concurrency": 2, **more}
    return request("BootstrapFewShotWithRandomSearch", **given)


def send_search(port: Port, server: LMServer, model: str, **more: Any) -> tuple[Any, str]:
    """Begin a search at `model`, under a run id of its own; the future and the id."""
    run_id = more.pop("run_id", f"of {model}")
    named = {"deadline_ms", "budget", "tenant"} & more.keys()
    envelope = {name: more.pop(name) for name in named}
    given = search(model, run_id=run_id, **more)
    return port.send("optimize", given, lm=local(server, model), **envelope), run_id


def begun(server: LMServer, model: str, calls: int = 1) -> None:
    """Wait until a run has made that many calls."""
    server.wait_for(lambda: asked(server, model) >= calls, PATIENCE)
