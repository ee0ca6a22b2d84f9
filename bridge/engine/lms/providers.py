"""From an `LMSpec` to the engine that makes one attempt: the roads of `PROVIDERS`, built.

An engine here sends one request and gives one response or raises a `dspy.lm15` error. Retries,
cache, budget and counting belong to the meter around it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dspy.clients.capabilities import Capabilities, capabilities
from dspy.clients.engines.lm15_engine import LM15Engine
from dspy.lm15 import AccessPolicy as Access
from dspy.lm15 import (
    Message,
    OpenAIChatCompat,
    ProviderDefinition,
    Response,
    RouterConfig,
    TextPart,
)
from dspy.lm15 import Usage as TokenUsage

from bridge.embedded.answering import MODELS, answer
from bridge.engine.lms.dialects import with_cohere_errors
from bridge.engine.lms.host_engine import HostEngine
from bridge.engine.lms.litellm_engine import LiteLLMEngine
from bridge.engine.lms.native_engine import NativeEngine
from bridge.engine.lms.transport import AbortableTransport
from bridge.engine.lms.watch import nap
from bridge.strand import drive
from protocol.errors import InvalidArgs, NotConfigured

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspy.lm15 import Request

    from bridge.engine.lms.streaming import Engine
    from bridge.specs.lms import LMSpec

__all__ = ["Backend", "backend_for", "messages_of"]


HOST_CAPABILITIES = Capabilities(
    params=frozenset({"temperature", "max_tokens", "top_p", "stop", "seed"}), function_calling=True
)
"""What DSPy may ask of a host that is an LM: tools, and no schema that the reply must keep."""


@dataclass(frozen=True, slots=True)
class Backend:
    """An engine, what it wants its model called, who prices it, and what its model can do."""

    engine: Engine
    model: str
    priced_as: str | None
    hints: Callable[[], Capabilities]


WORD = re.compile(r"\s*\S+|\s+")


def backend_for(spec: LMSpec, max_reply: int) -> Backend:
    """Build the road of `spec`.

    Raises:
        InvalidArgs: the embedded provider has no such model.
    """
    return _ROADS[spec.row.road](spec, max_reply)


def _native(spec: LMSpec, max_reply: int) -> Backend:
    model = f"{spec.row.prefix}/{spec.model}"
    provider = LM15Engine(RouterConfig(env={})).resolve(model).provider
    url = spec.base_url or spec.row.base_url
    keys = {provider: spec.key} if spec.key else None
    if keys is None and not spec.row.needs_key:
        # A keyless server ignores the header; DSPy insists on having one to send.
        keys = {provider: "none"}
    config = RouterConfig(
        env=_environment(spec),
        api_keys=keys,
        base_urls={provider: url} if url else None,
        transport=AbortableTransport(timeout=spec.timeout_s, max_reply=max_reply),
    )
    engine = NativeEngine(config, model, spec.timeout_s)
    return Backend(engine, engine.model, provider, lambda: _catalogue(model))


def _cohere(spec: LMSpec, max_reply: int) -> Backend:
    definition = ProviderDefinition.chat(
        Access(
            provider="cohere-compat",
            env_keys=("COHERE_API_KEY", "CO_API_KEY"),
            base_url=spec.base_url or spec.row.base_url,
        ),
        compat=replace(OpenAIChatCompat.preset("openai"), max_tokens_field="max_tokens"),
    )
    config = RouterConfig(
        env=_environment(spec),
        api_keys={"cohere-compat": spec.key} if spec.key else None,
        transport=AbortableTransport(timeout=spec.timeout_s, max_reply=max_reply),
        providers=(with_cohere_errors(definition),),
    )
    plain = Capabilities(params=frozenset({"temperature", "max_tokens", "top_p", "stop", "seed"}))
    engine = NativeEngine(config, f"cohere-compat/{spec.model}", spec.timeout_s)
    return Backend(engine, engine.model, "cohere", lambda: plain)


def _environment(spec: LMSpec) -> dict[str, str] | None:
    """Where DSPy looks for a key that was not given; nowhere when the address is the host's own.

    Otherwise whoever may configure an LM could have the operator's key sent to any server.

    Raises:
        NotConfigured: the address is the host's own, and no key was given for it.
    """
    if not spec.base_url:
        return None
    if spec.key is None and spec.row.needs_key:
        raise NotConfigured(
            f"{spec.name} has a `base_url` of its own, so no key of the environment is sent there; "
            "give its `api_key`, or use the provider 'local' for a server that wants none"
        )
    return {}


def _litellm(spec: LMSpec, max_reply: int) -> Backend:
    model = spec.name
    return Backend(LiteLLMEngine(spec, max_reply), model, spec.provider, lambda: _catalogue(model))


def _embedded(spec: LMSpec, max_reply: int) -> Backend:  # noqa: ARG001 - it is in this process
    if spec.model not in MODELS:
        raise InvalidArgs.at("lm.model", f"the embedded provider's models are {sorted(MODELS)}")
    engine = _Embedded(spec.model, float(spec.config.get("latency_ms") or 0) / 1000)
    return Backend(engine, spec.name, None, Capabilities)


def _host(spec: LMSpec, max_reply: int) -> Backend:  # noqa: ARG001 - a frame has its own bound
    return Backend(HostEngine(spec), spec.name, None, lambda: HOST_CAPABILITIES)


_ROADS: dict[str, Callable[[LMSpec, int], Backend]] = {
    "native": _native,
    "cohere": _cohere,
    "litellm": _litellm,
    "embedded": _embedded,
    "host": _host,
}


def _catalogue(model: str) -> Capabilities:
    """What DSPy's own catalogue says of the model; a bare LM reads it without any network."""
    import dspy  # noqa: PLC0415

    return capabilities(dspy.LM(model, cache=False))


class _Embedded:
    """The LM inside the bridge. `latency` is for tests and benchmarks that need an LM to wait.

    It speaks word by word, and takes as long for all of them.
    """

    def __init__(self, model: str, latency: float) -> None:
        self._model, self._latency = model, latency

    def complete(self, request: Request) -> Response:
        return drive(self.answer(request))

    async def answer(self, request: Request) -> Response:
        if self._latency:
            await nap(self._latency)
        return self._answer(request)

    def speak(self, request: Request, say: Callable[[str], None]) -> Response:
        response = self._answer(request)
        words = WORD.findall(response.text or "")
        for word in words:
            if self._latency:
                drive(nap(self._latency / len(words)))
            say(word)
        return response

    def _answer(self, request: Request) -> Response:
        messages = messages_of(request)
        text = answer(messages, model=self._model)
        asked = sum(len(message["content"]) for message in messages) // 4
        return Response(
            id=None,
            model=f"embedded/{self._model}",
            message=Message.assistant([TextPart(text or " ")]),
            finish_reason="stop",
            usage=TokenUsage(input_tokens=asked, output_tokens=len(text) // 4),
        )


def messages_of(request: Request) -> list[dict[str, str]]:
    """The request as ``[{role, content}]`` in plain text; media as a word in brackets."""
    messages = []
    if request.system:
        system = request.system
        parts = system if isinstance(system, tuple) else (system,)
        messages.append({"role": "system", "content": "".join(_part_text(p) for p in parts)})
    for message in request.messages:
        content = "".join(_part_text(part) for part in message.parts)
        messages.append({"role": message.role, "content": content})
    return messages


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    text = getattr(part, "text", None)
    return text if isinstance(text, str) else f"[{part.type}]"
