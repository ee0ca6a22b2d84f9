"""The providers' error replies, in their own words and shapes.

`openai` is also spoken by most local servers. Cohere answers errors in its native shape on its
OpenAI-compatible endpoint, too. A body repeats the API key only for the two `echo-key` kinds.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import orjson

Provider = Literal["openai", "anthropic", "cohere"]

ERROR_KINDS: Final[dict[str, int]] = {
    "auth": 401,
    "rate-limit": 429,
    "fail-500": 500,
    "context-length": 400,
    "not-found": 404,
    "echo-key-401": 401,
    "echo-key-500": 500,
    "bad-request": 400,
}
"""HTTP status by kind: the faults that are error replies, and `bad-request` for a bad body."""


def error_reply(
    provider: Provider, kind: str, *, model: str, key: str, retry_after_s: float, detail: str = ""
) -> tuple[int, dict[str, str], bytes]:
    """The (status, headers, body) with which a provider refuses. `kind` is in ERROR_KINDS."""
    status = ERROR_KINDS[kind]
    echoed = f" The key was {key}." if kind.startswith("echo-key") else ""
    plain = {"echo-key-401": "auth", "echo-key-500": "fail-500"}.get(kind, kind)
    headers = {"content-type": "application/json"}
    if status == 429:
        headers["retry-after"] = f"{retry_after_s:g}"
    body: dict[str, Any]
    if provider == "openai":
        message, code, error_type, param = _OPENAI[plain]
        text = message.format(model=model, detail=detail, ms=round(retry_after_s * 1000)) + echoed
        error = {"message": text, "type": error_type, "param": param, "code": code}
        body = {"error": error}
        headers["x-request-id"] = "req_0123456789abcdef"
    elif provider == "anthropic":
        error_type, message = _ANTHROPIC[plain]
        text = message.format(model=model, detail=detail) + echoed
        error = {"type": error_type, "message": text}
        body = {"type": "error", "error": error, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"}
        headers["request-id"] = "req_011CSHoEeqs5C35K2UUqR7Fy"
    else:
        text = _COHERE[plain].format(model=model, detail=detail) + echoed
        body = {"id": "c14c80c3-18eb-4519-9460-6c92edd8cfb4", "message": text}
    return status, headers, orjson.dumps(body)


_OPENAI: Final[dict[str, tuple[str, str | None, str, str | None]]] = {
    "auth": (
        (
            "Incorrect API key provided: sk-***. You can find your API key at "
            "https://platform.openai.com/account/api-keys."
        ),
        "invalid_api_key",
        "invalid_request_error",
        None,
    ),
    "rate-limit": (
        (
            "Rate limit reached for {model} in organization org-test on requests per min (RPM): "
            "Limit 3, Used 3, Requested 1. Please try again in {ms}ms. Visit "
            "https://platform.openai.com/account/rate-limits to learn more."
        ),
        "rate_limit_exceeded",
        "requests",
        None,
    ),
    "fail-500": (
        "The server had an error while processing your request. Sorry about that!",
        None,
        "server_error",
        None,
    ),
    "context-length": (
        (
            "This model's maximum context length is 8192 tokens. However, your messages resulted "
            "in 10240 tokens. Please reduce the length of the messages."
        ),
        "context_length_exceeded",
        "invalid_request_error",
        "messages",
    ),
    "not-found": (
        "The model `{model}` does not exist or you do not have access to it. {detail}",
        "model_not_found",
        "invalid_request_error",
        None,
    ),
    "bad-request": ("{detail}", None, "invalid_request_error", None),
}

_ANTHROPIC: Final[dict[str, tuple[str, str]]] = {
    "auth": ("authentication_error", "invalid x-api-key"),
    "rate-limit": (
        "rate_limit_error",
        (
            "This request would exceed your organization's rate limit of 50 requests per minute. "
            "For details, refer to: https://docs.claude.com/en/api/rate-limits."
        ),
    ),
    "fail-500": ("api_error", "Internal server error"),
    "context-length": (
        "invalid_request_error",
        "prompt is too long: 208310 tokens > 200000 maximum",
    ),
    "not-found": ("not_found_error", "model: {model} {detail}"),
    "bad-request": ("invalid_request_error", "{detail}"),
}

_COHERE: Final[dict[str, str]] = {
    "auth": "invalid api token",
    "rate-limit": (
        "You are using a Trial key, which is limited to 20 API calls / minute. You can continue "
        "to use the Trial key for free or upgrade to a Production key with higher rate limits at "
        "'https://dashboard.cohere.com/api-keys'."
    ),
    "fail-500": (
        "internal server error, this has been reported to our developers. "
        "id c14c80c3-18eb-4519-9460-6c92edd8cfb4"
    ),
    "context-length": (
        "too many tokens: total number of tokens in the prompt cannot exceed 128000 - received "
        "130000. Try using a shorter prompt or enable prompt truncating."
    ),
    "not-found": "model '{model}' not found, make sure the correct model ID was used. {detail}",
    "bad-request": "invalid request: {detail}",
}
