"""The response cache: off unless asked for, and never shared across what should be apart."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.daemon.lm_maps import ask, failure, lm_map, make_qa, seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.client import Port
    from tests.lm_server import LMServer


@pytest.fixture
def port(daemon: Port, lm_server: LMServer) -> Port:
    """The daemon with the module `qa` and an empty cache, switched on."""
    make_qa(daemon)
    _cache(daemon, enabled=False)
    _cache(daemon)
    return daemon


def _cache(port: Port, **settings: Any) -> None:
    port.call("configure", {"cache": settings})


def _used(result: dict[str, Any]) -> dict[str, Any]:
    (used,) = result["_meta"]["usage"].values()
    assert isinstance(used, dict)
    return used


def test_nothing_is_cached_unless_configured(
    spawn: Callable[..., Port], lm_server: LMServer
) -> None:
    port = spawn()
    port.hello()
    make_qa(port)
    lm = lm_map(lm_server, "openai", "uncached")
    for _ in range(2):
        assert _used(ask(port, lm=lm))["calls"] == 1
    assert len(seen(lm_server, "uncached")) == 2


def test_a_hit_costs_no_call(port: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "hit")
    first, second = ask(port, lm=lm), ask(port, lm=lm)
    assert second["answer"] == first["answer"]
    assert (_used(first)["calls"], _used(first)["cached_calls"]) == (1, 0)
    assert _used(second) == {
        "calls": 0, "input_tokens": 0, "output_tokens": 0, "cost": None, "cached_calls": 1,
    }  # fmt: skip
    assert len(seen(lm_server, "hit")) == 1


def test_a_hit_is_in_history_as_one(port: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "remembered")
    for _ in range(2):
        ask(port, lm=lm, tenant="remembering")
    rows = port.call("history", tenant="remembering")["rows"]
    assert [row["cached"] for row in rows] == [True, False]


def test_a_hit_needs_no_budget(port: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "free")
    ask(port, lm=lm)
    assert ask(port, lm=lm, budget={"lm_calls": 0})["answer"]


def test_an_answer_is_kept_for_its_time_only(port: Port, lm_server: LMServer) -> None:
    _cache(port, ttl_s=0.3)
    lm = lm_map(lm_server, "openai", "aging")
    begun = time.monotonic()
    ask(port, lm=lm)
    while len(seen(lm_server, "aging")) < 2:
        assert time.monotonic() - begun < 30
        ask(port, lm=lm)
    first, second = seen(lm_server, "aging")
    assert second.at - first.at >= 0.3


@pytest.mark.parametrize(
    "change",
    [
        {"base_url": "/other/v1"},
        {"api_key": "sk-somebody-else"},
        {"model": "apart-2"},
        {"temperature": 0.5},
        {"tenant": "b"},
        {"question": "why not?"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_differs_in_one_thing_is_not_the_same(
    port: Port, lm_server: LMServer, change: dict[str, Any]
) -> None:
    def request(tenant: str = "a", question: str = "why?", **more: Any) -> None:
        lm = lm_map(lm_server, "openai", f"apart-{next(iter(change))}", **more)
        assert _used(ask(port, question, lm=lm, tenant=tenant))["calls"] == 1

    changed = dict(change)
    if "base_url" in changed:
        changed["base_url"] = lm_server.base_url + changed["base_url"]
    if "model" in changed:
        lm = lm_map(lm_server, "openai", "apart-2")
        assert _used(ask(port, lm=lm, tenant="a"))["calls"] == 1
        changed = {"question": "why else?"}
    request()
    request(**changed)


def test_an_lm_may_stay_out_of_it(port: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "never-cached", cache=False)
    for _ in range(2):
        assert _used(ask(port, lm=lm))["calls"] == 1


def test_the_oldest_answer_makes_room(port: Port, lm_server: LMServer) -> None:
    _cache(port, max_entries=2)
    lm = lm_map(lm_server, "openai", "crowded")
    for question in ("a", "b", "c", "c", "b", "a"):
        ask(port, question, lm=lm)
    assert len(seen(lm_server, "crowded")) == 4


def test_switching_it_off_forgets_everything(port: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "forgotten")
    ask(port, lm=lm)
    _cache(port, enabled=False)
    _cache(port)
    assert _used(ask(port, lm=lm))["calls"] == 1


def test_a_failure_is_not_kept(port: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "moody+fail-500-then-ok", max_retries=0)
    assert failure(port, lm=lm)["code"] == "lm_transport"
    assert ask(port, lm=lm)["answer"]


def test_a_refusal_is_not_kept(port: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "shy+refuse-then-ok")
    assert failure(port, lm=lm)["code"] == "lm_refused"
    assert ask(port, lm=lm)["answer"]


def test_samples_of_one_prompt_stay_samples(port: Port, lm_server: LMServer) -> None:
    chains = {"id": "chains", "type": "multi_chain_comparison", "config": {"m": 3}}
    port.call("create_module", {**chains, "signature": "question -> answer"})
    args = {"module_id": "chains", "inputs": {"question": "why?"}}
    lm = lm_map(lm_server, "openai", "samples")
    assert _used(port.call("forward", args, lm=lm))["calls"] == 4
    assert _used(port.call("forward", args, lm=lm))["cached_calls"] == 4
