"""Metrics that an LM judges: DSPy's own, over real HTTP, in `evaluate` and in `optimize`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from bridge.client import Port, RequestFailed
from tests.daemon.asking import refused
from tests.daemon.lm_maps import lm_map

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lm_server import LMServer

ROWS = [
    {"question": "What is the capital of France?", "answer": "Paris"},
    {"question": "What is the capital of Japan?", "answer": "Tokyo"},
]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    state: Path = tmp_path_factory.mktemp("runs")
    with Port([sys.executable, "-m", "bridge", "--state-dir", str(state)]) as port:
        port.hello()
        yield port


def said(**fields: Any) -> str:
    parts = [f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


def prepare(port: Port, server: LMServer, name: str, *replies: str) -> None:
    """A module `qa` whose LM echoes, and an LM `judge` that says `replies` one after the other."""
    server.script(f"judge-{name}", *replies)
    judge = lm_map(server, "local", f"judge-{name}")
    port.call("configure", {"lm": {"model": "embedded/echo"}, "lms": {"judge": judge}})
    port.call("create_module", {"id": "qa", "type": "predict", "signature": "question -> answer"})


def judged(**more: Any) -> dict[str, Any]:
    return {"lm": "semantic_f1", "judge": "judge", **more}


def test_a_judge_scores_by_what_it_recalls_and_how_precise_that_is(port, lm_server) -> None:
    replies = [said(reasoning="so", recall=1.0, precision=p) for p in (0.5, 1.0)]
    prepare(port, lm_server, "f1", *replies)
    result = port.call(
        "evaluate",
        {"module_id": "qa", "devset": ROWS, "metric": judged(), "max_concurrency": 1},
    )
    assert [row["score"] for row in result["rows"]] == pytest.approx([2 / 3, 1.0])
    asked = next(r for r in lm_server.requests if r.model == "judge-f1").body["messages"][-1]
    assert "Paris" in asked["content"]
    assert "What is the capital of France?" in asked["content"]


def test_with_a_threshold_a_score_is_one_or_zero(port, lm_server) -> None:
    replies = [said(reasoning="so", recall=1.0, precision=p) for p in (0.2, 1.0)]
    prepare(port, lm_server, "threshold", *replies)
    metric = judged(threshold=0.5)
    args = {"module_id": "qa", "devset": ROWS, "metric": metric, "max_concurrency": 1}
    assert [row["score"] for row in port.call("evaluate", args)["rows"]] == [0.0, 1.0]


def test_a_judge_whose_reply_has_no_score_fails_as_a_metric_with_the_index(port, lm_server) -> None:
    prepare(port, lm_server, "mute", *["no idea"] * 8)
    args = {"module_id": "qa", "devset": ROWS, "metric": judged(), "max_concurrency": 1}
    with pytest.raises(RequestFailed) as caught:
        port.call("evaluate", args)
    assert caught.value.code == "metric_error"
    assert caught.value.error["details"]["index"] == 0


def test_a_judge_that_is_out_is_an_error_of_its_lm(port, lm_server) -> None:
    prepare(port, lm_server, "out")
    judge = {**lm_map(lm_server, "local", "judge-out+auth"), "max_retries": 0}
    port.call("configure", {"lms": {"judge": judge}})
    args = {"module_id": "qa", "devset": ROWS, "metric": judged(), "max_concurrency": 1}
    error = refused(port, "evaluate", args)
    assert error["code"] == "lm_auth"
    assert error["details"]["failed"] == 2


def test_an_optimizer_bootstraps_what_the_judge_accepts(port, lm_server) -> None:
    prepare(port, lm_server, "boot", *[said(reasoning="so", recall=1.0, precision=1.0)] * 12)
    result = port.call(
        "optimize",
        {
            "optimizer": "BootstrapFewShot",
            "module_id": "qa",
            "trainset": ROWS,
            "metric": judged(threshold=0.5),
            "config": {"max_bootstrapped_demos": 1, "max_labeled_demos": 0},
        },
        timeout=120,
    )
    assert result["score"] == 1.0
    demos = result["module_demos"]["qa"]
    assert len(demos) == 1
    assert set(demos[0]) - {"augmented"} == {"question", "answer"}


@pytest.mark.parametrize(
    ("metric", "path"),
    [
        ({"lm": "semantic_f2"}, "metric.lm"),
        ({"lm": "semantic_f1", "treshold": 0.5}, "metric.treshold"),
        ({"lm": "semantic_f1", "field": "nothing"}, "metric.field"),
    ],
)
def test_a_judge_that_cannot_be_is_refused_with_its_path(port, lm_server, metric, path) -> None:
    prepare(port, lm_server, "refused")
    with pytest.raises(RequestFailed) as caught:
        port.call("evaluate", {"module_id": "qa", "devset": ROWS, "metric": metric})
    assert caught.value.code == "invalid_args"
    assert caught.value.error["details"]["faults"][0]["path"] == path
