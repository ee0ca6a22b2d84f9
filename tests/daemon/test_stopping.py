"""Cancel, deadline and budget: the answer comes at once, and the LM's server sees it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from bridge.client import RequestFailed
from bridge.scope import Budget, Scope, Stopped, Usage
from protocol.errors import BudgetExceeded
from tests.daemon.lm_maps import (
    FIRST_LITELLM_CALL,
    ask,
    failure,
    lm_map,
    make_qa,
    refused,
    seen,
)

if TYPE_CHECKING:
    from concurrent.futures import Future

    from bridge.client import Port
    from tests.lm_server import LMServer

AT_ONCE = 1.0
"""Seconds: ten times the 100 ms that an idle machine is given."""

QUESTION = {"question": "why?"}


@pytest.fixture(scope="module")
def port(daemon: Port, lm_server: LMServer) -> Port:
    """The daemon with the modules `qa` and, of several LM calls, `chains`; litellm imported."""
    make_qa(daemon)
    chains = {"id": "chains", "type": "multi_chain_comparison", "config": {"m": 3}}
    daemon.call("create_module", {**chains, "signature": "question -> answer"})
    for kind in ("best_of_n", "refine"):
        config = {"n": 4, "threshold": 2.0, "reward": {"name": "exact_match", "expected": "x"}}
        daemon.call(
            "create_module",
            {"id": kind, "type": kind, "signature": "question -> answer", "config": config},
        )
    ask(daemon, lm=lm_map(lm_server, "together_ai", "warm"), timeout=FIRST_LITELLM_CALL)
    return daemon


def _code_of(future: Future[Any], timeout: float = 30) -> str:
    with pytest.raises(RequestFailed) as caught:
        future.result(timeout)
    return caught.value.code


def _cancel(port: Port, future: Future[Any]) -> float:
    """Cancel, and give the seconds until the request was answered `cancelled`."""
    begun = time.monotonic()
    answer = port.call("cancel", {"request": future.request_id})  # type: ignore[attr-defined]
    assert _code_of(future) == "cancelled"
    assert answer["cancelled"] is True
    return time.monotonic() - begun


@pytest.mark.parametrize("behaviour", ["stall", "stall-body", "trickle-50"])
@pytest.mark.parametrize("provider", ["openai", "anthropic", "cohere", "local", "together_ai"])
def test_a_cancelled_call_is_answered_at_once_and_its_connection_closes(
    port: Port, lm_server: LMServer, provider: str, behaviour: str
) -> None:
    model = f"{provider}-cancel+{behaviour}"
    lm = lm_map(lm_server, provider, model)
    future = port.send("forward", {"module_id": "qa", "inputs": QUESTION}, lm=lm)
    lm_server.wait_for(lambda: lm_server.in_flight(model) == 1)
    assert _cancel(port, future) < AT_ONCE
    (received,) = seen(lm_server, model)
    assert lm_server.wait_for(lambda: received.closed_early)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "together_ai"])
def test_a_deadline_is_kept_and_the_connection_closes(
    port: Port, lm_server: LMServer, provider: str
) -> None:
    model = f"{provider}-deadline+stall"
    begun = time.monotonic()
    error = failure(port, lm=lm_map(lm_server, provider, model), deadline_ms=300)
    assert error["code"] == "deadline_exceeded"
    assert 0.29 < time.monotonic() - begun < 0.3 + AT_ONCE
    (received,) = seen(lm_server, model)
    assert lm_server.wait_for(lambda: received.closed_early)


def test_the_embedded_lm_can_be_cancelled(port: Port) -> None:
    lm = {"provider": "embedded", "model": "echo", "config": {"latency_ms": 60_000}}
    future = port.send("forward", {"module_id": "qa", "inputs": QUESTION}, lm=lm)
    port.call("list")  # what was sent before has been started
    assert _cancel(port, future) < AT_ONCE


def test_generate_can_be_cancelled(port: Port, lm_server: LMServer) -> None:
    model = "generate-cancel+stall"
    lm = lm_map(lm_server, "openai", model)
    future = port.send("generate", {"prompt": "hi", "lm": lm})
    lm_server.wait_for(lambda: lm_server.in_flight(model) == 1)
    assert _cancel(port, future) < AT_ONCE
    assert lm_server.wait_for(lambda: lm_server.in_flight(model) == 0)


def test_cancelling_what_is_not_there_is_no_error(port: Port, lm_server: LMServer) -> None:
    assert port.call("cancel", {"request": "never-sent"}) == {"cancelled": False}
    done = port.send("forward", {"module_id": "qa", "inputs": QUESTION})
    done.result(30)
    request_id = done.request_id  # type: ignore[attr-defined]
    assert port.call("cancel", {"request": request_id}) == {"cancelled": False}


def test_a_pause_before_a_retry_can_be_cancelled(port: Port, lm_server: LMServer) -> None:
    model = "paused+rate-limit+retry-after-30000"
    lm = lm_map(lm_server, "openai", model)
    future = port.send("forward", {"module_id": "qa", "inputs": QUESTION}, lm=lm)
    lm_server.wait_for(lambda: [r for r in seen(lm_server, model) if r.ended_at])
    assert _cancel(port, future) < AT_ONCE
    ask(port)
    assert len(seen(lm_server, model)) == 1


def test_a_cancelled_batch_stops_its_rows_and_begins_no_more(
    port: Port, lm_server: LMServer
) -> None:
    model = "batch-cancel+stall"
    future = port.send(
        "batch",
        {"module_id": "qa", "inputs": [QUESTION] * 20, "max_concurrency": 4},
        lm=lm_map(lm_server, "openai", model),
    )
    lm_server.wait_for(lambda: lm_server.in_flight(model) == 4)
    assert _cancel(port, future) < AT_ONCE
    lm_server.wait_for(lambda: lm_server.in_flight(model) == 0)
    ask(port)
    received = seen(lm_server, model)
    assert len(received) == 4
    assert all(one.closed_early for one in received)


@pytest.mark.parametrize("module_id", ["best_of_n", "refine", "chains"])
def test_a_module_of_many_attempts_makes_no_other_after_a_cancel(
    port: Port, lm_server: LMServer, module_id: str
) -> None:
    model = f"{module_id}-cancel+stall"
    lm = lm_map(lm_server, "openai", model)
    future = port.send("forward", {"module_id": module_id, "inputs": QUESTION}, lm=lm)
    lm_server.wait_for(lambda: lm_server.in_flight(model) == 1)
    _cancel(port, future)
    lm_server.wait_for(lambda: lm_server.in_flight(model) == 0)
    ask(port)
    assert len(seen(lm_server, model)) == 1


# Budgets


def _over_budget(port: Port, command: str, args: Any, **envelope: Any) -> str:
    error = refused(port, command, args, **envelope)
    assert error["code"] == "budget_exceeded"
    return str(error["details"]["budget"])


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_a_budget_of_calls_stops_a_module_at_that_many(
    port: Port, lm_server: LMServer, calls: int
) -> None:
    model = f"chains-{calls}"
    args = {"module_id": "chains", "inputs": QUESTION}
    lm = lm_map(lm_server, "openai", model)
    assert _over_budget(port, "forward", args, lm=lm, budget={"lm_calls": calls}) == "lm_calls"
    assert len(seen(lm_server, model)) == calls


def test_a_budget_that_is_just_enough_is_enough(port: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "chains-enough")
    args = {"module_id": "chains", "inputs": QUESTION}
    result = port.call("forward", args, lm=lm, budget={"lm_calls": 4})
    assert result["_meta"]["usage"]["openai/chains-enough"]["calls"] == 4


@pytest.mark.parametrize(("at_once", "fewest"), [(1, 5), (4, 2)])
def test_a_budget_of_calls_stops_a_batch_at_that_many(
    port: Port, lm_server: LMServer, at_once: int, fewest: int
) -> None:
    model = f"batch-{at_once}"
    args = {"module_id": "qa", "inputs": [QUESTION] * 12, "max_concurrency": at_once}
    lm = lm_map(lm_server, "openai", model)
    assert _over_budget(port, "batch", args, lm=lm, budget={"lm_calls": 5}) == "lm_calls"
    # Rows that run when the budget ends are broken off, some before they have sent anything.
    assert fewest <= len(seen(lm_server, model)) <= 5


def test_a_retry_is_a_call(port: Port, lm_server: LMServer) -> None:
    model = "retries+always-500"
    lm = lm_map(lm_server, "openai", model, max_retries=10)
    args = {"module_id": "qa", "inputs": QUESTION}
    assert _over_budget(port, "forward", args, lm=lm, budget={"lm_calls": 3}) == "lm_calls"
    assert len(seen(lm_server, model)) == 3


def test_a_budget_of_tokens_stops_before_the_call_after_it_is_spent(
    port: Port, lm_server: LMServer
) -> None:
    lm = lm_map(lm_server, "openai", "tokens")
    args = {"module_id": "chains", "inputs": QUESTION}
    assert _over_budget(port, "forward", args, lm=lm, budget={"tokens": 10}) == "tokens"
    assert len(seen(lm_server, "tokens")) == 1


def test_a_budget_of_seconds_ends_a_wait(port: Port, lm_server: LMServer) -> None:
    model = "seconds+stall"
    begun = time.monotonic()
    error = failure(port, lm=lm_map(lm_server, "openai", model), budget={"seconds": 0.3})
    assert time.monotonic() - begun < 0.3 + AT_ONCE
    assert error["code"] == "budget_exceeded"
    (received,) = seen(lm_server, model)
    assert lm_server.wait_for(lambda: received.closed_early)


def test_a_budget_of_dollars_stops_before_the_call_after_it_is_spent() -> None:
    # No server on loopback has a price, so the scope is asked directly.
    scope = Scope(budget=Budget(cost_usd=0.05))
    scope.spend_call()
    scope.count("openai/gpt-4o", Usage(calls=1, cost=0.06))
    with pytest.raises(Stopped) as caught:
        scope.spend_call()
    assert isinstance(caught.value.error, BudgetExceeded)
    assert caught.value.error.details["budget"] == "cost_usd"


def test_a_spent_budget_is_its_own_requests_only(port: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "next")
    args = {"module_id": "qa", "inputs": QUESTION}
    _over_budget(port, "forward", args, lm=lm, budget={"lm_calls": 0})
    assert ask(port, lm=lm)["answer"]


def test_a_budget_below_nothing_is_refused(port: Port) -> None:
    # It is part of the envelope, which the protocol checks before any argument.
    assert failure(port, budget={"lm_calls": -1})["code"] == "invalid_message"
