"""The meter: what every LM call passes, whichever road it takes.

It asks the scope before it spends, looks into the cache, retries what may be retried, counts what
was used, and remembers the call. DSPy's callbacks could do the same at twice the cost of a call,
and could not stop one.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
from dspy import lm15
from dspy._vendor.lm15.serde import request_to_dict
from dspy.clients.costs import estimate_cost

from bridge.engine.failures import explain
from bridge.engine.lms.cache import ResponseCache
from bridge.engine.lms.providers import Backend, messages_of
from bridge.engine.lms.streaming import attempt as attempted
from bridge.engine.lms.watch import nap
from bridge.engine.streaming.listening import Ear, listen
from bridge.ledger import Ledger, LMCall
from bridge.scope import Scope, Usage, current_attempt, current_module, current_scope
from bridge.strand import drive

if TYPE_CHECKING:
    from dspy.lm15 import Request, Response

    from bridge.specs.lms import LMSpec

__all__ = ["Meter"]

LONGEST_PAUSE = 60.0
"""Seconds between two attempts, whatever a server asks for: beyond it the host should decide."""

RETRIABLE = (lm15.RateLimitError, lm15.TimeoutError, lm15.ServerError, lm15.TransportError)


class Meter:
    """A DSPy engine around a backend. Thread-safe; deep copies are the same meter."""

    def __init__(
        self, spec: LMSpec, backend: Backend, cache: ResponseCache, ledger: Ledger
    ) -> None:
        self.spec = spec
        self._backend = backend
        self._cache = cache
        self._ledger = ledger

    @property
    def model(self) -> str:
        """What requests are to call the model: another name is one copy of a request more."""
        return self._backend.model

    def complete(self, request: Request) -> Response:
        """`answer`, on this thread."""
        return drive(self.answer(request))

    async def answer(self, request: Request) -> Response:
        """One response; raise Stopped, or the `dspy.lm15` error of the last attempt."""
        scope = current_scope.get()
        scope.check()
        begun = time.monotonic()
        canonical = self._canonical(scope, request)
        key = self._cache_key(scope, canonical)
        ear = listen(self.spec.name)
        kept = None
        if scope.record is not None:
            kept = scope.record.replay(self.spec, canonical)
        if kept is None and key is not None:
            kept = self._cache.get(key)
        if kept is not None:
            if ear is not None:
                ear.hear(kept.text or "")
                ear.end()
            self._record(scope, request, Usage(cached_calls=1), begun=begun, text=kept.text)
            return kept
        usage = Usage()
        text: str | None = None
        try:
            response = await self._attempts(scope, request, usage, ear)
            # A refusal is paid for, too.
            self._price(usage, request, response)
            text = response.text
            if ear is not None:
                ear.end()
            _check_refusal(response)
        except BaseException as error:
            self._record(scope, request, usage, begun=begun, text=text, error=error)
            raise
        self._record(scope, request, usage, begun=begun, text=text)
        if key is not None:
            self._cache.put(key, response)
        if scope.record is not None:
            scope.record.keep(self.spec, canonical, response)
        return response

    async def _attempts(
        self, scope: Scope, request: Request, usage: Usage, ear: Ear | None
    ) -> Response:
        model = self._backend.model
        routed = request if request.model == model else replace(request, model=model)
        for attempt in range(self.spec.max_retries + 1):
            scope.spend_call()
            usage.calls += 1
            if ear is not None:
                ear.begin(attempt)
            try:
                return await attempted(self._backend.engine, routed, ear)
            except Exception as error:
                # A socket shut by `stop` looks like a broken connection from here.
                scope.check()
                pause = self._pause(error, attempt)
                if pause is None or pause > scope.remaining(pause):
                    raise
                await nap(pause)
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, error: Exception, attempt: int) -> float | None:
        """Seconds before the next attempt; None when there is none."""
        if attempt >= self.spec.max_retries or not isinstance(error, RETRIABLE):
            return None
        asked = getattr(error, "retry_after", None)
        if isinstance(asked, int | float) and asked >= 0:
            return float(asked) if asked <= LONGEST_PAUSE else None
        return min(self.spec.retry_delay_ms / 1000 * (1 << attempt), LONGEST_PAUSE)

    def _canonical(self, scope: Scope, request: Request) -> bytes:
        """The request in bytes, for those that look for its like; empty when nobody does."""
        if scope.record is None and not self._caches:
            return b""
        plain = orjson.dumps(request_to_dict(request), option=orjson.OPT_SORT_KEYS)
        return b"%d %s" % (current_attempt.get(), plain)

    @property
    def _caches(self) -> bool:
        return self._cache.settings.enabled and self.spec.cache

    def _cache_key(self, scope: Scope, canonical: bytes) -> bytes | None:
        return ResponseCache.key(self.spec, scope.tenant, canonical) if self._caches else None

    def _price(self, usage: Usage, request: Request, response: Response) -> None:
        used = response.usage
        usage.input_tokens = used.input_tokens or 0
        usage.output_tokens = used.output_tokens or 0
        priced_as = self._backend.priced_as
        if priced_as is not None and not self.spec.base_url:
            # At another address the same model name may cost anything.
            usage.cost, _ = estimate_cost(
                response, provider=priced_as, requested_model=self.spec.model, request=request
            )

    def _record(
        self,
        scope: Scope,
        request: Request,
        usage: Usage,
        *,
        begun: float,
        text: str | None,
        error: BaseException | None = None,
    ) -> None:
        scope.count(self.spec.name, usage)
        if scope.on_lm is not None:
            scope.on_lm(error)
        elapsed = time.monotonic() - begun
        self._ledger.record(
            scope,
            LMCall(
                call=current_module.get(),
                tenant=scope.tenant,
                program_id=scope.program_id,
                request_id=scope.request_id,
                traceparent=scope.traceparent,
                model=self.spec.name,
                prompt=messages_of(request),
                response=text,
                error=_reason(error),
                usage=usage,
                cached=usage.cached_calls > 0,
                latency_ms=round(1000 * elapsed, 3),
                started_at=time.time() - elapsed,
            ),
        )

    # What DSPy's adapters ask of an engine before they use tools or a response schema.

    @property
    def supports_function_calling(self) -> bool:
        """Whether the model takes tools."""
        return bool(self._backend.hints().function_calling)

    @property
    def supports_reasoning(self) -> bool:
        """Whether the model takes a reasoning effort."""
        return bool(self._backend.hints().reasoning)

    @property
    def supports_response_schema(self) -> bool:
        """Whether the model takes a JSON schema for its reply."""
        return bool(self._backend.hints().response_schema)

    @property
    def supported_params(self) -> Any:
        """The generation parameters the model takes."""
        return self._backend.hints().params

    def __deepcopy__(self, memo: dict[int, Any]) -> Meter:
        return self

    def __copy__(self) -> Meter:
        return self


def _check_refusal(response: Response) -> None:
    """Raise InvalidRequestError for a reply that a filter, or the model itself, held back.

    DSPy would hand it on as an empty text, which then looks like a reply in the wrong format.
    """
    parts = response.message.parts
    refusal = next((part.text for part in parts if part.type == "refusal"), None)
    if refusal is None and response.finish_reason != "content_filter":
        return
    said = f": {refusal}" if refusal else ""
    raise lm15.InvalidRequestError(
        f"the LM refused to answer{said}", provider_code="content_filter"
    )


def _reason(error: BaseException | None) -> str | None:
    """What a history row says of `error`: as version 1 would."""
    if error is None:
        return None
    explained = explain(error)
    return explained.to_text() if explained is not None else type(error).__name__
