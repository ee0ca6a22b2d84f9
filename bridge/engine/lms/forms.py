"""How a dialect writes requests that are alike but for their texts, learned from the dialect.

DSPy walks options, credentials and headers for every request, which is a tenth of a call. Here it
does so for the second request of a shape, with marks where its texts are; what it wrote around the
marks it would write around any text. Whatever is not plain text with plain options is written by
DSPy each time, as is a text that it refuses.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field, replace
from json import JSONEncoder
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from dspy._vendor.lm15.transports import TransportRequest
from dspy.lm15 import Config, Message, TextPart

if TYPE_CHECKING:
    from dspy.lm15 import Request

__all__ = ["UNSET", "Built", "Forms", "Write"]

UNSET: dict[str, Any] = {
    "temperature": None,
    "max_tokens": None,
    "top_p": None,
    "stop": (),
    "seed": None,
    "presence_penalty": None,
    "frequency_penalty": None,
}
"""The plain options, which say how to sample and nothing of what an answer is to look like."""

MOST = 256
"""Shapes remembered: a module has one, or one for each number of its demos and messages."""

Built: TypeAlias = "tuple[TransportRequest, tuple[Any, ...]]"
"""A request's bytes, and what DSPy notes of options that the provider does not take."""

_quoted = JSONEncoder(ensure_ascii=False).encode


class Write(Protocol):
    """How the dialect itself writes a request."""

    def __call__(self, request: Request, stream: bool) -> Built:
        """The whole of it; raises what DSPy raises of it."""


@dataclass(frozen=True, slots=True)
class _Form:
    """What is written around the texts, and beside them."""

    method: str
    url: str = field(repr=False)
    headers: list[tuple[str, str]] = field(repr=False)
    pieces: tuple[str, ...] = field(repr=False)
    notes: tuple[Any, ...]

    def filled(self, texts: list[str]) -> Built:
        """The request with these texts; raises UnicodeEncodeError for what has no bytes."""
        written = [self.pieces[0]]
        for text, piece in zip(texts, self.pieces[1:], strict=True):
            written += (_quoted(text), piece)
        body = "".join(written).encode()
        return TransportRequest(self.method, self.url, self.headers, body), self.notes


class _Met:
    """Of a shape that has come once: many never come again."""


_MET = _Met()


class Forms:
    """The forms of one LM's requests. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forms: dict[Any, _Form | _Met | None] = {}

    def build(self, request: Request, stream: bool, write: Write) -> Built:
        """What `write` builds of `request`."""
        texts = _texts(request)
        if texts is None:
            return write(request, stream)
        roles = tuple([message.role for message in request.messages])
        shape = (stream, request.model, request.system is None, roles, request.config)
        try:
            form = self._forms.get(shape)
        except TypeError:
            # Options that are maps or lists have no hash, and are not plain.
            return write(request, stream)
        if isinstance(form, _Form):
            try:
                return form.filled(texts)
            except UnicodeEncodeError:
                return write(request, stream)
        self._meet(shape, request, stream, write)
        return write(request, stream)

    def _meet(self, shape: Any, request: Request, stream: bool, write: Write) -> None:
        with self._lock:
            if shape not in self._forms:
                if len(self._forms) >= MOST:
                    self._forms.pop(next(iter(self._forms)))
                self._forms[shape] = _MET
            elif self._forms[shape] is _MET:
                self._forms[shape] = _learnt(request, stream, write)


def _texts(request: Request) -> list[str] | None:
    """The texts of a request that has nothing else; None for any other."""
    system = request.system
    if request.tools or not (system is None or type(system) is str):
        return None
    texts = [] if system is None else [system]
    for message in request.messages:
        part = message.parts[0]
        if len(message.parts) != 1 or type(part) is not TextPart or not part.text:
            return None
        if part.continuation or message.continuation:
            return None
        texts.append(part.text)
    return texts


def _learnt(request: Request, stream: bool, write: Write) -> _Form | None:
    """The form of requests like this one; None when their options are not plain."""
    if replace(request.config, **UNSET) != Config():
        return None
    system = None if request.system is None else _mark()
    messages = tuple(Message(message.role, (TextPart(_mark()),)) for message in request.messages)
    marks = [] if system is None else [system]
    marks += [message.parts[0].text for message in messages]
    built, notes = write(replace(request, system=system, messages=messages), stream)
    rest = built.body.decode()
    pieces = []
    for mark in marks:
        before, found, rest = rest.partition(_quoted(mark))
        if not found:
            return None
        pieces.append(before)
    pieces.append(rest)
    if any(mark in piece for mark in marks for piece in pieces):
        return None
    return _Form(built.method, built.url, built.headers, tuple(pieces), notes)


def _mark() -> str:
    return secrets.token_hex(16)
