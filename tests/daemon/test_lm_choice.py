"""Whose LM a request uses: its own, its module's, the default; and nobody else's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.daemon.lm_maps import ask, failure, lm_map, make_qa, refused
from tests.lm_server import answer_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.client import Port
    from tests.lm_server import LMServer

ROUNDS = 200
"""Of eight concurrent requests with eight LMs."""


@pytest.fixture(scope="module")
def port(daemon: Port, lm_server: LMServer) -> Port:
    """The daemon with the module `qa`."""
    make_qa(daemon)
    return daemon


def _model(result: dict[str, Any]) -> str:
    """The model that answered: the server begins every answer with it."""
    return str(result["answer"]).partition(":")[0]


def _with_lm(port: Port, module_id: str, lm: Any) -> None:
    port.call(
        "create_module",
        {"id": module_id, "type": "predict", "signature": "question -> answer", "lm": lm},
    )


def _forward(port: Port, module_id: str, **envelope: Any) -> dict[str, Any]:
    args = {"module_id": module_id, "inputs": {"question": "why?"}}
    result: dict[str, Any] = port.call("forward", args, **envelope)
    return result


def test_the_default_is_used_where_nothing_is_named(port: Port, lm_server: LMServer) -> None:
    port.call("configure", {"lm": lm_map(lm_server, "openai", "default-1")}, tenant="t1")
    assert _model(ask(port, tenant="t1")) == "default-1"


def test_a_later_default_replaces_the_earlier(port: Port, lm_server: LMServer) -> None:
    for model in ("old", "new"):
        port.call("configure", {"lm": lm_map(lm_server, "openai", model)}, tenant="t2")
    assert _model(ask(port, tenant="t2")) == "new"


def test_configured_lms_stay_when_others_are_added(port: Port, lm_server: LMServer) -> None:
    for name in ("one", "two"):
        lms = {name: lm_map(lm_server, "openai", f"kept-{name}")}
        result = port.call("configure", {"lms": lms}, tenant="t3")
    assert result["lms"] == ["one", "two"]
    assert _model(ask(port, tenant="t3", lm="one")) == "kept-one"


def test_a_request_names_an_lm(port: Port, lm_server: LMServer) -> None:
    lms = {"fast": lm_map(lm_server, "openai", "fast-4")}
    port.call("configure", {"lms": lms}, tenant="t4")
    assert _model(ask(port, tenant="t4", lm="fast")) == "fast-4"


def test_a_request_brings_an_lm(port: Port, lm_server: LMServer) -> None:
    assert _model(ask(port, lm=lm_map(lm_server, "openai", "brought"))) == "brought"


def test_a_model_may_carry_its_provider(port: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "openai/org/m1")
    del lm["provider"]
    result = ask(port, lm=lm)
    assert _model(result) == "org/m1"
    assert list(result["_meta"]["usage"]) == ["openai/org/m1"]


def test_a_module_brings_an_lm(port: Port, lm_server: LMServer) -> None:
    _with_lm(port, "own-map", lm_map(lm_server, "openai", "modules-own"))
    assert _model(_forward(port, "own-map")) == "modules-own"


def test_a_modules_lm_name_is_looked_up_for_the_tenant_that_calls(
    port: Port, lm_server: LMServer
) -> None:
    _with_lm(port, "own-name", "house")
    for tenant in ("t5", "t6"):
        lms = {"house": lm_map(lm_server, "openai", f"house-of-{tenant}")}
        port.call("configure", {"lms": lms}, tenant=tenant)
    assert _model(_forward(port, "own-name", tenant="t5")) == "house-of-t5"
    assert _model(_forward(port, "own-name", tenant="t6")) == "house-of-t6"


def test_the_requests_lm_goes_before_the_modules_and_that_before_the_default(
    port: Port, lm_server: LMServer
) -> None:
    _with_lm(port, "ranked", lm_map(lm_server, "openai", "second"))
    port.call("configure", {"lm": lm_map(lm_server, "openai", "third")}, tenant="t7")
    first = lm_map(lm_server, "openai", "first")
    assert _model(_forward(port, "ranked", tenant="t7", lm=first)) == "first"
    assert _model(_forward(port, "ranked", tenant="t7")) == "second"
    assert _model(ask(port, tenant="t7")) == "third"


def test_each_module_of_a_program_has_its_own_lm(port: Port, lm_server: LMServer) -> None:
    for module_id, signature in (("hop1", "question -> query"), ("hop2", "query -> answer")):
        spec = {"id": module_id, "type": "predict", "signature": signature}
        port.call("create_module", {**spec, "lm": lm_map(lm_server, "openai", module_id)})
    refs = [{"id": name, "name": name} for name in ("hop1", "hop2")]
    port.call("create_program", {"id": "two-hops", "modules": refs})
    result = port.call("execute", {"program_id": "two-hops", "inputs": {"question": "why?"}})
    calls = {name: used["calls"] for name, used in result["_meta"]["usage"].items()}
    assert calls == {"openai/hop1": 1, "openai/hop2": 1}


def test_an_unknown_name_is_not_found_and_the_nearest_is_said(
    port: Port, lm_server: LMServer
) -> None:
    lms = {"smart": lm_map(lm_server, "openai", "smart")}
    port.call("configure", {"lms": lms}, tenant="t8")
    error = failure(port, tenant="t8", lm="smrat")
    assert error["code"] == "not_found"
    assert error["details"] == {
        "kind": "lm", "id": "smrat", "need": "configure", "nearest": "smart",
    }  # fmt: skip


def test_a_provider_and_model_in_one_string_is_no_configured_name(port: Port) -> None:
    assert failure(port, lm="openai/gpt-4o-mini")["code"] == "not_found"


def test_without_any_lm_a_call_is_not_configured(spawn: Callable[..., Port]) -> None:
    port = spawn()
    port.hello()
    make_qa(port)
    assert failure(port)["code"] == "not_configured"
    assert refused(port, "generate", {"prompt": "hi"})["code"] == "not_configured"


@pytest.mark.parametrize("place", ["lm", "lms.main"])
def test_an_unknown_provider_is_refused_when_it_is_configured(port: Port, place: str) -> None:
    lm = {"provider": "opnai", "model": "m"}
    error = refused(port, "configure", {"lm": lm} if place == "lm" else {"lms": {"main": lm}})
    assert error["code"] == "invalid_args"
    (fault,) = error["details"]["faults"]
    assert fault["path"].startswith(place)
    assert "'openai'" in fault["message"]


def test_a_misspelt_key_of_an_lm_is_refused_with_the_right_one(port: Port) -> None:
    lm = {"provider": "openai", "model": "m", "api_ky": "x"}
    (fault,) = refused(port, "configure", {"lm": lm})["details"]["faults"]
    assert fault["path"] == "lm.api_ky"
    assert fault["nearest"] == "api_key"


@pytest.mark.parametrize(
    "config",
    [
        {"temperature": "hot"},
        {"max_tokens": 0},
        {"stop": {"a": 1}},
        {"latency_ms": "long"},
        {"latency_ms": -1},
    ],
)
def test_an_ill_typed_option_of_an_lm_is_refused_when_it_is_configured(
    port: Port, config: dict[str, Any]
) -> None:
    lm = {"provider": "embedded", "model": "echo", "config": config}
    (fault,) = refused(port, "configure", {"lms": {"odd": lm}})["details"]["faults"]
    assert fault["path"] == "lms.odd.config"
    assert next(iter(config)) in fault["message"]


def test_a_wrong_configure_changes_nothing(port: Port, lm_server: LMServer) -> None:
    good = lm_map(lm_server, "openai", "good")
    port.call("configure", {"lm": good}, tenant="t9")
    bad = {"lm": lm_map(lm_server, "openai", "worse"), "lms": {"x": {"provider": "nobody"}}}
    refused(port, "configure", bad, tenant="t9")
    assert _model(ask(port, tenant="t9")) == "good"


def test_a_tenants_lms_are_its_own(port: Port, lm_server: LMServer) -> None:
    lms = {"private": lm_map(lm_server, "openai", "private")}
    port.call("configure", {"lms": lms}, tenant="owner")
    assert failure(port, tenant="stranger", lm="private")["code"] == "not_found"
    assert failure(port, lm="private")["code"] == "not_found"
    assert "private" not in port.call("configure", {}, tenant="stranger")["lms"]


def test_shared_lms_are_everybodys_until_a_tenant_has_its_own(
    port: Port, lm_server: LMServer
) -> None:
    port.call("configure", {"lms": {"common": lm_map(lm_server, "openai", "common")}})
    assert _model(ask(port, tenant="anybody", lm="common")) == "common"
    lms = {"common": lm_map(lm_server, "openai", "uncommon")}
    port.call("configure", {"lms": lms}, tenant="somebody")
    assert _model(ask(port, tenant="somebody", lm="common")) == "uncommon"
    assert _model(ask(port, tenant="anybody", lm="common")) == "common"


def test_concurrent_requests_with_different_lms_never_meet(port: Port, lm_server: LMServer) -> None:
    models = [f"crowd-{number}+words-{number}" for number in range(8)]
    lms = {model: lm_map(lm_server, "openai", model) for model in models}
    port.call("configure", {"lms": lms}, tenant="crowd")
    results: dict[tuple[str, int], dict[str, Any]] = {}
    for round_ in range(ROUNDS):
        sent = {
            model: port.send(
                "forward",
                {"module_id": "qa", "inputs": {"question": _question(model, round_)}},
                lm=model,
                tenant="crowd",
            )
            for model in models
        }
        results |= {(model, round_): future.result(60) for model, future in sent.items()}
    said = {_asked(received.body): received for received in lm_server.requests}
    for (model, round_), result in results.items():
        question = _question(model, round_)
        words = int(model.rpartition("-")[2])
        received = said[question]
        assert received.model == model
        assert result["answer"] == answer_text(model, question, extra_words=words)
        assert result["_meta"]["usage"] == {
            f"openai/{model}": {
                "calls": 1,
                "input_tokens": received.input_tokens,
                "output_tokens": received.output_tokens,
                "cost": None,
                "cached_calls": 0,
            }
        }


def _question(model: str, round_: int) -> str:
    return f"<{model}|{round_}|{'long ' * (round_ % 7)}>"


def _asked(body: dict[str, Any]) -> str | None:
    found = re.search(r"<crowd-[^>]*>", str(body["messages"][-1]["content"]))
    return found[0] if found else None
