"""What went wrong inside DSPy, said with the wire's codes.

This is the engine's half of the one boundary that turns exceptions into answers
(`bridge.serving.answering` is the other): a table from DSPy's error classes to ours.
"""

from __future__ import annotations

from typing import Any

from dspy import lm15
from dspy.utils.exceptions import (
    AdapterParseError,
    ContextWindowExceededError,
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMError,
    LMInvalidRequestError,
    LMNotConfiguredError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMTransportError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
)

from bridge.scope import Stopped
from protocol.errors import (
    AdapterParse,
    BridgeError,
    LMAuth,
    LMContextWindow,
    LMFailed,
    LMRateLimited,
    LMRefused,
    LMTimeout,
    LMTransport,
    MissingExtra,
    NotConfigured,
    Unsupported,
)

__all__ = ["explain"]

_TABLE: tuple[tuple[tuple[type[BaseException], ...], type[BridgeError]], ...] = (
    ((ContextWindowExceededError, lm15.ContextLengthError), LMContextWindow),
    ((LMAuthError, lm15.AuthError, LMBillingError, lm15.BillingError), LMAuth),
    ((LMRateLimitError, lm15.RateLimitError), LMRateLimited),
    ((LMTimeoutError, lm15.TimeoutError), LMTimeout),
    ((LMServerError, lm15.ServerError, LMTransportError, lm15.TransportError), LMTransport),
    ((LMNotConfiguredError, lm15.NotConfiguredError), NotConfigured),
    ((LMUnsupportedFeatureError, lm15.CapabilityError), Unsupported),
    (
        (
            LMUnsupportedModelError,
            lm15.UnsupportedModelError,
            LMInvalidRequestError,
            lm15.InvalidRequestError,
            LMConfigurationError,
            lm15.ConfigurationError,
        ),
        LMRefused,
    ),
    ((LMError, lm15.LM15Error), LMFailed),
)
"""Specific classes stand before their parents: the first row that matches is the answer."""

CREDENTIAL, GUIDANCE = "\n\n  credential came from: ", "\n\n  To fix:"
"""What begins the paragraphs that DSPy puts below a provider's own words."""

MOST_MESSAGE = 2_000
"""Characters of a provider's words that travel back: some quote the whole request."""

MOST_RAW_TEXT = 20_000
"""Characters of an unparsable reply that travel back; the whole one is in `history`."""


def explain(error: BaseException) -> BridgeError | None:
    """The wire's error for one of DSPy's; None when it is none of DSPy's."""
    if isinstance(error, LMError) and isinstance(error.__cause__, BridgeError):
        # DSPy takes an engine's own errors for unexpected ones.
        error = error.__cause__
    if isinstance(error, Stopped):
        return error.error
    if isinstance(error, BridgeError):
        return error
    if isinstance(error, AdapterParseError):
        return _unparsable(error)
    for kinds, code in _TABLE:
        if isinstance(error, kinds):
            return _lm_failure(error, code)
    if isinstance(error, ImportError) and error.name is not None:
        package = error.name.partition(".")[0]
        return MissingExtra(
            f"this needs the package {package!r}, which is not installed",
            package=package,
            install=f"pip install {package}",
        )
    return None


def _lm_failure(error: Any, code: type[BridgeError]) -> BridgeError:
    seconds = getattr(error, "retry_after", None)
    details: dict[str, Any] = {
        name: value
        for name in ("model", "provider", "provider_code", "status", "request_id")
        if isinstance(value := getattr(error, name, None), str | int)
    }
    return code(
        _said(error)[:MOST_MESSAGE],
        retry_after_ms=round(1000 * seconds) if isinstance(seconds, int | float) else None,
        **details,
    )


def _said(error: Any) -> str:
    """The message without what DSPy adds for people who write Python: how to pass the key to it."""
    message = str(getattr(error, "message", None) or error)
    for addition in (CREDENTIAL, GUIDANCE):
        message = message.partition(addition)[0]
    return message.strip() or type(error).__name__


def _unparsable(error: AdapterParseError) -> AdapterParse:
    wanted = list(error.signature.output_fields)
    raw = error.lm_response if isinstance(error.lm_response, str) else str(error.lm_response)
    got = error.parsed_result if isinstance(error.parsed_result, dict) else {}
    missing = [name for name in wanted if name not in got]
    problem = f"no {', '.join(missing)} in it" if missing else "a field does not fit its type"
    return AdapterParse(
        f"the LM's reply does not fit the signature: {problem}",
        response=raw[:MOST_RAW_TEXT],
        expected=wanted,
        adapter=str(error.adapter_name),
    )
