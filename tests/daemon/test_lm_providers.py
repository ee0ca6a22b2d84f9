"""Every way an LM's server can answer, at once or streamed, for every road to one, over HTTP."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.daemon.lm_maps import (
    ENDPOINTS,
    FIRST_LITELLM_CALL,
    ask,
    failure,
    lm_map,
    make_qa,
    refused,
    seen,
)
from tests.lm_server import answer_text

if TYPE_CHECKING:
    from bridge.client import Port
    from tests.lm_server import LMServer

PROVIDERS = tuple(ENDPOINTS)

FAILURES = {
    "auth": ("lm_auth", False, 1),
    "not-found": ("lm_refused", False, 1),
    "rate-limit": ("lm_rate_limited", True, 3),
    "fail-500": ("lm_transport", True, 3),
    "cut": ("lm_transport", True, 3),
    "cut-body": ("lm_transport", True, 3),
    "context-length": ("lm_context_window", False, 1),
    "refuse": ("lm_refused", False, 1),
    "garbage": ("lm_error", False, 1),
    "empty": ("lm_error", False, 1),
    # DSPy asks again in JSON before it gives an unreadable reply up.
    "empty-text": ("adapter_parse", False, 2),
}
"""Behaviour to code, retriable, and the requests that the server sees with two retries."""

STREAMED_FAILURES = {
    **FAILURES,
    # A stream of nothing is one that was broken off.
    "empty": ("lm_transport", True, 3),
}

STREAMED_BY_LITELLM = {
    **FAILURES,
    # litellm takes a stream that it cannot read for one that has ended.
    "empty": FAILURES["empty-text"],
    "garbage": FAILURES["empty-text"],
}

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])

MOST_GROWTH = 80_000_000
"""Bytes: a reply's bound is 32 MiB, and it is held about twice; the server sends 100 MB."""


@pytest.fixture(scope="module")
def port(daemon: Port, lm_server: LMServer) -> Port:
    """The daemon with the module `qa`, litellm imported."""
    make_qa(daemon)
    ask(daemon, lm=lm_map(lm_server, "together_ai", "warm"), timeout=FIRST_LITELLM_CALL)
    return daemon


@STREAMED
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_call_answers_and_counts_what_the_server_counted(
    port: Port, lm_server: LMServer, provider: str, stream: bool
) -> None:
    model = f"{provider}-plain-{stream}"
    lm = lm_map(lm_server, provider, model)
    result = ask(port, "Who wrote Faust?", lm=lm, stream=stream)
    assert result["answer"] == answer_text(model, "Who wrote Faust?")
    (received,) = seen(lm_server, model)
    assert received.key == "sk-for-tests"
    assert received.body.get("stream", False) is stream
    used = result["_meta"]["usage"][f"{provider}/{model}"]
    assert (used["calls"], used["input_tokens"], used["output_tokens"]) == (
        1,
        received.input_tokens,
        received.output_tokens,
    )


def test_a_local_server_needs_no_key(port: Port, lm_server: LMServer) -> None:
    result = ask(port, lm=lm_map(lm_server, "local", "keyless", api_key=None))
    assert result["answer"]


@STREAMED
@pytest.mark.parametrize("behaviour", FAILURES)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_failure_has_its_code_and_is_retried_if_that_may_help(
    port: Port, lm_server: LMServer, provider: str, behaviour: str, stream: bool
) -> None:
    streamed = STREAMED_BY_LITELLM if provider == "together_ai" else STREAMED_FAILURES
    code, retriable, requests = (streamed if stream else FAILURES)[behaviour]
    model = f"{provider}-bad-{stream}+{behaviour}"
    error = failure(port, lm=lm_map(lm_server, provider, model), stream=stream)
    assert (error["code"], error["retriable"]) == (code, retriable)
    assert len(seen(lm_server, model)) == requests
    if code == "lm_rate_limited":
        assert error["retry_after_ms"] == 50


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_error_repeats_the_providers_words_and_not_dspys_advice(
    port: Port, lm_server: LMServer, provider: str
) -> None:
    error = failure(port, lm=lm_map(lm_server, provider, f"{provider}-words+auth"))
    assert "api" in error["message"].lower()
    assert "RouterConfig" not in error["message"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_rate_limit_is_waited_for_as_long_as_it_says(
    port: Port, lm_server: LMServer, provider: str
) -> None:
    model = f"{provider}-later+rate-limit-2-then-ok+retry-after-200"
    assert ask(port, lm=lm_map(lm_server, provider, model))["answer"]
    first, second, third = (received.at for received in seen(lm_server, model))
    assert second - first >= 0.19
    assert third - second >= 0.19


@STREAMED
@pytest.mark.parametrize("behaviour", ["fail-500-then-ok", "cut-then-ok", "cut-body-then-ok"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_passing_failure_is_never_seen(
    port: Port, lm_server: LMServer, provider: str, behaviour: str, stream: bool
) -> None:
    model = f"{provider}-again-{stream}+{behaviour}"
    result = ask(port, lm=lm_map(lm_server, provider, model), stream=stream)
    assert result["answer"] == answer_text(model, "why?")
    assert result["_meta"]["usage"][f"{provider}/{model}"]["calls"] == 2


@STREAMED
@pytest.mark.parametrize("behaviour", ["stall", "stall-body", "trickle-20"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_reply_that_does_not_come_is_a_timeout_and_the_connection_closes(
    port: Port, lm_server: LMServer, provider: str, behaviour: str, stream: bool
) -> None:
    model = f"{provider}-slow-{stream}+{behaviour}"
    lm = lm_map(lm_server, provider, model, timeout_s=0.4, max_retries=0)
    begun = time.monotonic()
    error = failure(port, lm=lm, stream=stream)
    assert (error["code"], error["retriable"]) == ("lm_timeout", True)
    assert 0.35 < time.monotonic() - begun < 4
    (received,) = seen(lm_server, model)
    assert lm_server.wait_for(lambda: received.closed_early)


@pytest.mark.load
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_reply_without_bounds_is_an_error_in_bounded_memory(
    port: Port, lm_server: LMServer, provider: str
) -> None:
    ask(port, lm=lm_map(lm_server, provider, f"{provider}-warm"))
    before = port.call("stats")["rss"]
    Path(f"/proc/{port.process.pid}/clear_refs").write_text("5")
    model = f"{provider}-huge+oversized"
    error = failure(port, lm=lm_map(lm_server, provider, model))
    assert (error["code"], error["retriable"]) == ("lm_error", False)
    assert len(seen(lm_server, model)) == 1
    assert _peak_memory(port.process.pid) - before < MOST_GROWTH
    assert port.call("stats")["rss"] - before < MOST_GROWTH


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_max_retries_is_the_number_of_further_requests(
    port: Port, lm_server: LMServer, retries: int
) -> None:
    model = f"retries-{retries}+always-500"
    failure(port, lm=lm_map(lm_server, "openai", model, max_retries=retries))
    assert len(seen(lm_server, model)) == retries + 1


def test_the_delay_between_retries_doubles(port: Port, lm_server: LMServer) -> None:
    model = "delays+always-500"
    failure(port, lm=lm_map(lm_server, "openai", model, retry_delay_ms=100))
    first, second, third = (received.at for received in seen(lm_server, model))
    assert second - first >= 0.1
    assert third - second >= 0.2


def test_a_wait_beyond_a_minute_is_left_to_the_host(port: Port, lm_server: LMServer) -> None:
    model = "hour+rate-limit+retry-after-3600000"
    error = failure(port, lm=lm_map(lm_server, "openai", model))
    assert (error["code"], error["retry_after_ms"]) == ("lm_rate_limited", 3_600_000)
    assert len(seen(lm_server, model)) == 1


def test_a_wait_beyond_the_deadline_is_not_begun(port: Port, lm_server: LMServer) -> None:
    model = "impatient+rate-limit+retry-after-30000"
    error = failure(port, lm=lm_map(lm_server, "openai", model), deadline_ms=20_000)
    assert (error["code"], error["retry_after_ms"]) == ("lm_rate_limited", 30_000)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_server_that_is_not_there_is_a_transport_error(
    port: Port, lm_server: LMServer, provider: str
) -> None:
    # Port 9 (discard) is refused at once on any machine that does not serve it.
    lm = lm_map(lm_server, provider, "nobody", base_url="http://127.0.0.1:9/v1", max_retries=0)
    assert failure(port, lm=lm)["code"] == "lm_transport"


def test_a_reply_cut_at_the_token_limit_says_so(port: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "short+truncate")
    result = port.call("generate", {"prompt": "a long story", "lm": lm})
    assert result["finish_reason"] == "length"


def test_a_refusal_is_paid_for(port: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "paid+refuse")
    refused(port, "generate", {"prompt": "x" * 400, "lm": lm}, tenant="paid")
    assert port.call("usage", tenant="paid")["lms"]["openai/paid+refuse"]["input_tokens"] == 100


def _peak_memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM in status")
