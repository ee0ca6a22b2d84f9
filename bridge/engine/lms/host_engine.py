"""The host as an LM: a prompt goes out as a host call, its answer is the reply.

The host sees what a provider would see, in plain maps, and may answer with text alone. Its errors
count as a provider's: one that names a retriable code is tried again as often as the LM's spec
says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from dspy import lm15
from dspy.lm15 import Message, Response, TextPart
from dspy.lm15 import Usage as TokenUsage
from pydantic import Field

from bridge.scope import current_scope
from bridge.specs.checking import Args, checked
from protocol.errors import HostError, InvalidArgs, LMRateLimited, LMTimeout, LMTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspy.lm15 import Request

    from bridge.specs.lms import LMSpec

__all__ = ["HostEngine"]

ROLES = {"developer": "system"}
"""Roles that the host need not know, and what they are told as."""

CONFIG = (
    "temperature",
    "max_tokens",
    "top_p",
    "top_k",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "response_format",
    "tool_choice",
)
"""Of a request's config, what the host is told."""


class ToolCallArgs(Args):
    """One tool call in an answer of the host's."""

    id: str | None = None
    name: Annotated[str, Field(min_length=1)]
    args: dict[str, Any] = Field(default_factory=dict)


class UsageArgs(Args):
    """What the host says that the answer took."""

    input_tokens: Annotated[int, Field(ge=0)] | None = None
    output_tokens: Annotated[int, Field(ge=0)] | None = None


class AnswerArgs(Args):
    """An answer of the host's, when it is a map."""

    text: str | None = None
    tool_calls: list[ToolCallArgs] | None = None
    usage: UsageArgs | None = None
    finish_reason: Literal["stop", "length", "tool_call", "content_filter", "error"] | None = None


class HostEngine:
    """One attempt by the host. `spec.model` is the name that the host is asked under."""

    def __init__(self, spec: LMSpec) -> None:
        self._spec = spec

    def complete(self, request: Request) -> Response:
        """One response; raise a `dspy.lm15` error, HostError or Stopped."""
        return self._ask(request, stream=False)

    def speak(self, request: Request, say: Callable[[str], None]) -> Response:
        """The same, told as the host sends it with `lm_chunk`; an answer may repeat it or not."""
        heard: list[str] = []

        def hear(text: str) -> None:
            heard.append(text)
            say(text)

        response = self._ask(request, stream=True, on_chunk=hear)
        told, text = "".join(heard), response.text
        if told and (text is None or not text.strip()):
            parts = [part for part in response.message.parts if part.type != "text"]
            return replace(response, message=Message.assistant([TextPart(told), *parts]))
        if text is not None and text.startswith(told) and text != told:
            say(text[len(told) :])
        return response

    def _ask(
        self, request: Request, *, stream: bool, on_chunk: Callable[[str], None] | None = None
    ) -> Response:
        asked = {
            "messages": _messages(request),
            "config": _config(request),
            "tools": [
                {
                    "name": tool.name,
                    "description": tool.description or "",
                    "parameters": dict(tool.parameters),
                }
                for tool in request.tools
                if tool.type == "function"
            ],
            "stream": stream,
        }
        name = self._spec.model
        try:
            said = current_scope.get().ask_host(
                "lm", name, asked, on_chunk=on_chunk, seconds=self._spec.timeout_s
            )
        except LMRateLimited as error:
            after = error.retry_after_ms
            raise lm15.RateLimitError(
                error.message, retry_after=None if after is None else after / 1000
            ) from error
        except LMTimeout as error:
            raise lm15.TimeoutError(error.message) from error
        except LMTransport as error:
            raise lm15.TransportError(error.message) from error
        return self._response(said)

    def _response(self, said: Any) -> Response:
        try:
            answer = checked(AnswerArgs, {"text": said} if isinstance(said, str) else said)
        except InvalidArgs as error:
            raise HostError(
                f"lm {self._spec.model!r} answered neither text nor {{text, tool_calls?, usage?, "
                f"finish_reason?}}: {error.message}"
            ) from error
        parts: list[Any] = [TextPart(answer.text)] if answer.text else []
        for number, call in enumerate(answer.tool_calls or ()):
            parts.append(lm15.ToolCallPart(call.id or f"call_{number}", call.name, call.args))
        used = answer.usage or UsageArgs()
        finish = answer.finish_reason or ("tool_call" if answer.tool_calls else "stop")
        return Response(
            id=None,
            model=self._spec.name,
            message=Message.assistant(parts or [TextPart(" ")]),
            finish_reason=finish,
            usage=TokenUsage(input_tokens=used.input_tokens, output_tokens=used.output_tokens),
        )


def _config(request: Request) -> dict[str, Any]:
    found = {name: getattr(request.config, name, None) for name in CONFIG}
    return {name: _plain(value) for name, value in found.items() if value is not None}


def _messages(request: Request) -> list[dict[str, Any]]:
    """``[{role, content, tool_calls?}]``, a tool's result as ``{role, tool_call_id, content}``.

    `content` is text, or where there is more than text a list of maps with a `type`.
    """
    messages: list[dict[str, Any]] = []
    if request.system:
        parts = request.system if isinstance(request.system, tuple) else (request.system,)
        messages.append({"role": "system", "content": _content(parts)})
    for message in request.messages:
        results = [part for part in message.parts if part.type == "tool_result"]
        for part in results:
            content = _content(part.content)
            told = {"role": "tool", "tool_call_id": part.id, "content": content}
            messages.append({**told, **({"name": part.name} if part.name else {})})
        calls = [
            {"id": part.id, "name": part.name, "args": dict(part.input)}
            for part in message.parts
            if part.type == "tool_call"
        ]
        spoken = [part for part in message.parts if part.type not in {"tool_result", "tool_call"}]
        if spoken or calls or not results:
            role = ROLES.get(message.role, message.role)
            told = {"role": role, "content": _content(spoken)}
            messages.append({**told, **({"tool_calls": calls} if calls else {})})
    return messages


def _content(parts: Any) -> str | list[dict[str, Any]]:
    if all(isinstance(part, str) or part.type == "text" for part in parts):
        return "".join(part if isinstance(part, str) else part.text for part in parts)
    return [
        {"type": "text", "text": part} if isinstance(part, str) else _plain(part) for part in parts
    ]


def _plain(value: Any) -> Any:
    """A part or an option in maps, lists and scalars, without what is not set."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        fields = {name: getattr(value, name) for name in value.__dataclass_fields__}
        return {name: _plain(item) for name, item in fields.items() if item not in (None, ())}
    return value
