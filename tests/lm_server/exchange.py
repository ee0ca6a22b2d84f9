"""One request and its reply: chooses what to say, and says it as badly as the model's name orders.

A reply that needs no waiting is written at once, one that only waits uses a timer, and only the
slow ones get a task: thousands of connections must not cost the machine under test its cores.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from .answers import Prompt, compose_answer, count_tokens
from .behaviours import Behaviour, UnknownBehaviourError
from .http11 import LAST_CHUNK, HttpRequest, encode_chunk, encode_head
from .ledger import Ledger, Received
from .provider_errors import ERROR_KINDS, error_reply
from .wire_formats import Answer, Finish, WireFormat

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BLOCK: Final = 256 * 1024
"""Bytes of an oversized body handed over at a time."""

_FILL: Final = "@@FILL@@"
"""Stands in an oversized JSON reply for the text that is too long to be built."""

_PIECE: Final = re.compile(r"\S+\s*|\s+")
_JSON: Final = {"content-type": "application/json"}
_SSE: Final = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


class Client(Protocol):
    """The connection, as an exchange sees it."""

    def write(self, data: bytes) -> None: ...
    async def drain(self) -> None: ...
    def close(self) -> None: ...
    def end_exchange(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Reply:
    """A reply as bytes: `pieces` make the body, streamed ones each a chunk of their own."""

    status: int
    headers: dict[str, str]
    pieces: tuple[bytes, ...]
    streamed: bool = False

    def head(self, keep_alive: bool) -> bytes:
        length = None if self.streamed else sum(map(len, self.pieces))
        return encode_head(self.status, self.headers, length=length, keep_alive=keep_alive)

    def body(self) -> tuple[bytes, ...]:
        """The body's bytes as they go over the wire."""
        if not self.streamed:
            return self.pieces
        return (*(encode_chunk(piece) for piece in self.pieces), LAST_CHUNK)


class Exchange:
    """Begins on construction; calls `client.end_exchange()` when the reply is out."""

    def __init__(
        self,
        client: Client,
        ledger: Ledger,
        request: HttpRequest,
        wire_format: WireFormat,
        gap_s: float,
    ) -> None:
        self._client, self._ledger, self._format = client, ledger, wire_format
        self._keep_alive = request.keep_alive
        self._waiting: asyncio.TimerHandle | asyncio.Task[None] | None = None
        self._over = False
        body = _read_json(request.body)
        model = body.get("model") if body is not None else None
        self.received = Received(
            request.path,
            request.headers,
            body or {},
            model if isinstance(model, str) else "",
            _find_key(request.headers),
        )
        self._serial = ledger.began(self.received)
        self._behaviour = Behaviour()
        self._fault: str | None = None
        self._detail = ""
        if body is None or not self.received.model:
            self._fault = "bad-request"
            self._detail = "the body must be a JSON object with a 'model'"
        else:
            self._choose_behaviour()
        self._gap_s = gap_s if self._behaviour.gap_s is None else self._behaviour.gap_s
        if self._behaviour.latency_s:
            loop = asyncio.get_running_loop()
            self._waiting = loop.call_later(self._behaviour.latency_s, self._deliver)
        else:
            self._deliver()

    def abandon(self) -> None:
        """The connection is gone: nothing more can be said."""
        if self._waiting is not None:
            self._waiting.cancel()
        if not self._over:
            self._over = True
            self._ledger.ended(self.received, closed_early=True)

    def _choose_behaviour(self) -> None:
        try:
            self._behaviour = self._ledger.behaviour_of(self.received.model)
        except UnknownBehaviourError as unknown:
            self._fault, self._detail = "not-found", str(unknown)
        else:
            self._fault = self._behaviour.fault_at(self.received.attempt)

    def _end(self, *, close: bool = False) -> None:
        self._over = True
        self._ledger.ended(self.received, closed_early=False)
        if close or not self._keep_alive:
            self._client.close()
        self._client.end_exchange()

    def _deliver(self) -> None:
        fault = self._fault
        if fault == "stall":
            return
        if fault == "cut":
            self._end(close=True)
            return
        if fault == "oversized":
            self._start(self._send_oversized())
            return
        try:
            reply = self._compose(fault)
        except Exception:
            # A fault of this server's own: the client must not wait for what will not come.
            self._end(close=True)
            raise
        self.received.status = reply.status
        head = reply.head(self._keep_alive)
        if fault in ("stall-body", "cut-body"):
            whole = b"".join(reply.body())
            self._client.write(head + whole[: len(whole) // 2])
            if fault == "cut-body":
                self._end(close=True)
        elif fault == "trickle":
            letters = b"".join(reply.body())
            single = (letters[at : at + 1] for at in range(len(letters)))
            self._start(self._send_paced(head, single, self._behaviour.trickle_s))
        elif reply.streamed and self._gap_s:
            self._start(self._send_paced(head, reply.body(), self._gap_s))
        else:
            self._client.write(b"".join((head, *reply.body())))
            self._end()

    def _start(self, sending: Any) -> None:
        self._waiting = asyncio.get_running_loop().create_task(sending)

    async def _send_paced(self, head: bytes, parts: Iterable[bytes], gap_s: float) -> None:
        self._client.write(head)
        for number, part in enumerate(parts):
            if number:
                await asyncio.sleep(gap_s)
            self._client.write(part)
            await self._client.drain()
        self._end()

    async def _send_oversized(self) -> None:
        self.received.status = 200
        if self.received.body.get("stream") is True:
            self._client.write(encode_head(200, _SSE, length=None, keep_alive=self._keep_alive))
            letters = "x" * _BLOCK
            pieces = (letters for _ in range(self._behaviour.oversize // _BLOCK + 1))
            for event in self._format.events(self._answer(letters), pieces, self.received.body):
                self._client.write(encode_chunk(event))
                await self._client.drain()
            self._client.write(LAST_CHUNK)
        else:
            reply = orjson.dumps(self._format.reply(self._answer(_FILL)))
            before, _, after = reply.partition(_FILL.encode())
            length, left = len(before) + self._behaviour.oversize + len(after), 0
            self._client.write(
                encode_head(200, _JSON, length=length, keep_alive=self._keep_alive) + before
            )
            block = b"x" * _BLOCK
            for left in range(self._behaviour.oversize, 0, -_BLOCK):
                self._client.write(block if left >= _BLOCK else block[:left])
                await self._client.drain()
            self._client.write(after)
        await self._client.drain()
        self._end()

    def _compose(self, fault: str | None) -> _Reply:
        if fault in ERROR_KINDS:
            status, headers, content = error_reply(
                self._format.provider,
                fault,
                model=self.received.model,
                key=self.received.key,
                retry_after_s=self._behaviour.retry_after_s,
                detail=self._detail,
            )
            return _Reply(status, headers, (content,))
        streamed = self.received.body.get("stream") is True
        headers = _SSE if streamed else _JSON
        if fault == "empty":
            return _Reply(200, headers, (), streamed)
        if fault == "garbage":
            noise = b'data: {"choices": [<html>\n\n' if streamed else b"<html>}{ 502 Bad Gateway"
            return _Reply(200, headers, (noise,), streamed)
        answer = self._answer_for(fault)
        self.received.input_tokens = answer.input_tokens
        self.received.output_tokens = answer.output_tokens
        if not streamed:
            return _Reply(200, headers, (orjson.dumps(self._format.reply(answer)),))
        pieces = _PIECE.findall(answer.text)
        events = tuple(self._format.events(answer, pieces, self.received.body))
        return _Reply(200, headers, events, streamed=True)

    def _answer_for(self, fault: str | None) -> Answer:
        if fault == "empty-text":
            return self._answer("")
        if fault == "refuse":
            return self._answer("", "content_filter")
        prompt = self._format.read(self.received.body)
        text = self._ledger.next_line(self.received.model)
        if text is None:
            words = self._behaviour.extra_words
            text = compose_answer(self.received.model, prompt, words)
        if fault == "truncate":
            return self._answer(text[: len(text) // 2], "length", prompt)
        return self._answer(text, "stop", prompt)

    def _answer(self, text: str, finish: Finish = "stop", prompt: Prompt | None = None) -> Answer:
        prompt = prompt or self._format.read(self.received.body)
        tokens = count_tokens(text)
        return Answer(self._serial, self.received.model, text, finish, prompt.input_tokens, tokens)


def _read_json(body: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _find_key(headers: dict[str, str]) -> str:
    return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")


def control_reply(ledger: Ledger, request: HttpRequest) -> Iterator[bytes]:
    """The reply to a `/control/…` request: `stats`, `requests`, `reset`, `behaviour`, `script`."""
    body = _read_json(request.body) if request.body else {}
    status = 200
    result: dict[str, Any] = {"ok": True}
    try:
        match (request.method, request.path.removeprefix("/control/"), body):
            case ("GET", "stats", _):
                result = ledger.stats()
            case ("GET", "requests", _):
                result = {"requests": [_outline(received) for received in ledger.requests()]}
            case ("POST", "reset", _):
                ledger.reset()
            case ("POST", "behaviour", {"model": str(model), "behaviour": str(behaviour)}):
                ledger.order_behaviour(model, behaviour)
            case ("POST", "script", {"model": str(model), "texts": [*texts]}):
                ledger.order_script(model, [str(text) for text in texts])
            case _:
                status, result = (
                    404,
                    {"error": f"no {request.method} {request.path} with this body"},
                )
    except UnknownBehaviourError as unknown:
        status, result = 400, {"error": str(unknown)}
    content = orjson.dumps(result)
    yield encode_head(status, _JSON, length=len(content), keep_alive=request.keep_alive)
    yield content


def _outline(received: Received) -> dict[str, Any]:
    """A request for readers in other processes: neither headers nor body, which hold secrets."""
    names = ("path", "model", "attempt", "at", "ended_at", "status", "closed_early")
    tokens = ("input_tokens", "output_tokens")
    return {name: getattr(received, name) for name in (*names, *tokens)}
