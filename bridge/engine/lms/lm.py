"""`dspy.LM` with a short way for what almost every call is: text messages and plain options.

DSPy reads the adapter's messages as an OpenAI request body, checks it key by key, and builds the
same `Request` that is built here directly; that reading is a quarter of a call. Whatever is not
plain text (media, tools, response formats, streams, several answers) takes DSPy's own way.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import dspy
from dspy.clients.errors import error_boundary
from dspy.dsp.utils.settings import settings
from dspy.lm15 import Config, Message, Request, TextPart

from bridge.engine.lms.forms import UNSET
from bridge.scope import current_attempt
from bridge.strand import drive

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["BridgeLM", "text_request"]

_OPTIONS = {name: name for name in UNSET} | {"max_completion_tokens": "max_tokens"}
"""Options as an LM has them, and what a request calls them."""

_SPOKEN = {"user": Message.user, "assistant": Message.assistant}


class BridgeLM(dspy.LM):  # type: ignore[misc]
    """An LM whose engine is a `Meter`."""

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> list[Any]:
        """One answer as a list, or `n` of them, as `dspy.LM` gives them."""
        return drive(self.acall(prompt, messages=messages, **kwargs))

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> list[Any]:
        """The same; what takes DSPy's own way holds its thread."""
        options = {**self.kwargs, **kwargs}
        count = options.pop("n", None) or 1
        rollout = options.pop("rollout_id", None)
        request = None
        if messages is not None and prompt is None and settings.send_stream is None:
            request = text_request(self._engine_spec.model, messages, options)
        with sample(rollout) if rollout is not None else nullcontext():
            if request is None:
                answer: list[Any] = super().__call__(prompt, messages=messages, **kwargs)
                return answer
            if count == 1:
                return await self._complete(request)
            answers: list[Any] = []
            for number in range(count):
                with sample(number):
                    answers += await self._complete(request)
            return answers

    async def _complete(self, request: Request) -> list[Any]:
        try:
            response = await self._engine_spec.answer(request)
        except Exception:
            with error_boundary(self.model, unexpected=True):
                raise
        parts = response.message.parts
        if all(type(part) is TextPart for part in parts):
            return ["".join(part.text for part in parts)]
        from dspy.clients.call_result import CallResult  # noqa: PLC0415 - rarely needed

        outputs: list[Any] = CallResult.native(response).outputs
        return outputs


@contextmanager
def sample(number: int) -> Iterator[None]:
    """Within, calls are of this sample: what looks for equal requests keeps two samples apart."""
    # Samples are taken within samples: an attempt of a module, of a rollout, of `n` answers.
    token = current_attempt.set(current_attempt.get() * 1_000_003 + number + 1)
    try:
        yield
    finally:
        current_attempt.reset(token)


def text_request(
    model: str, messages: Sequence[dict[str, Any]], options: dict[str, Any]
) -> Request | None:
    """The request that DSPy would build from these; None where that is DSPy's business.

    Args:
        model: what the request is to call the model.
        messages: OpenAI-style ``{role, content}``; a system message only as the first.
        options: the LM's own and the call's, None meaning unset.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if not given.keys() <= _OPTIONS.keys():
        return None
    system = None
    spoken = []
    for index, message in enumerate(messages):
        content, role = message.get("content"), message.get("role")
        if type(content) is not str or len(message) != 2:
            return None
        if role == "system" and index == 0:
            system = content
        elif role in _SPOKEN:
            spoken.append(_SPOKEN[role](content))
        else:
            return None
    if not spoken:
        return None
    config = {_OPTIONS[name]: value for name, value in given.items()}
    return Request(model, tuple(spoken), system=system, config=_config(config))


def _config(options: dict[str, Any]) -> Config:
    """The options as a request has them; raises what DSPy raises of them."""
    try:
        return _checked(**options)
    except TypeError:
        # A list of stops cannot be looked up; what is wrong with others is said again.
        return Config(**options)


@lru_cache(maxsize=256, typed=True)
def _checked(**options: Any) -> Config:
    """One object for equal options, checked once."""
    return Config(**options)
