"""LM maps that point at the LM server, and what the server saw of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bridge.client import Port, RequestFailed

if TYPE_CHECKING:
    from tests.lm_server import LMServer, Received

ENDPOINTS: dict[str, Any] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "cohere": "cohere",
    "local": "local",
    "together_ai": "openai",
}
"""The provider and whose wire format it speaks; `together_ai` is one that only litellm knows."""

FIRST_LITELLM_CALL = 120.0
"""Seconds: it imports litellm, which takes three on an idle machine."""


def lm_map(server: LMServer, provider: str, model: str, **more: Any) -> dict[str, Any]:
    """An LM on `server`; two retries, 10 ms apart, unless `more` says otherwise."""
    return {
        "provider": provider,
        "model": model,
        "api_key": "sk-for-tests",
        "base_url": server.url_for(ENDPOINTS[provider]),
        "max_retries": 2,
        "retry_delay_ms": 10,
        **more,
    }


def seen(server: LMServer, model: str) -> list[Received]:
    """The requests that the server received for `model`, oldest first."""
    return [received for received in server.requests if received.model == model]


def ask(port: Port, question: str = "why?", *, timeout: float = 60.0, **envelope: Any) -> Any:
    """One `forward` of the module `qa`, which `make_qa` created."""
    args = {"module_id": "qa", "inputs": {"question": question}}
    return port.call("forward", args, timeout=timeout, **envelope)


def refused(port: Port, command: str, args: Any, **envelope: Any) -> dict[str, Any]:
    """The error map that a request is answered with."""
    with pytest.raises(RequestFailed) as caught:
        port.call(command, args, **envelope)
    error: dict[str, Any] = caught.value.error
    return error


def failure(port: Port, question: str = "why?", **envelope: Any) -> dict[str, Any]:
    """The error map of one `forward` of `qa`."""
    args = {"module_id": "qa", "inputs": {"question": question}}
    return refused(port, "forward", args, **envelope)


def make_qa(port: Port) -> None:
    """Create the module `qa`: question -> answer."""
    port.call("create_module", {"id": "qa", "type": "predict", "signature": "question -> answer"})
