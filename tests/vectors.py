"""The golden frames: what the bytes on the wire are, for whoever speaks the protocol.

``python -m tests.vectors`` writes `vectors.json` again. A test of each language reads it: this
project's `protocol`, and the Elixir client. It holds two lists:

``cases``
    ``{name, direction, version, codec, canonical, hex, message, notes?}``. ``hex`` is the whole
    frame with its 4-byte length. Whoever decodes it gets ``message``; where ``canonical`` is true,
    `protocol` encodes that message to the same bytes (another encoder may write shorter or longer
    forms of the same values). Bytes stand in ``message`` as ``{"$bytes": base64}``.
``bad``
    ``{name, direction, version, hex, code, id, notes?}``, or ``exit`` in place of ``code``: what a
    daemon answers with that error code and id, or how it ends. What comes to a host is not
    answered: ``code`` says what is wrong with it.
"""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgpack  # type: ignore[import-untyped]

from protocol import DEFAULT_MAX_FRAME, MAX_DEPTH, Codec, encode, encode_frame
from protocol.errors import CODES, BridgeError, Busy, InvalidArgs, error_from_wire

if TYPE_CHECKING:
    from collections.abc import Iterator

VECTORS = Path(__file__).with_name("vectors.json")

Direction: TypeAlias = Literal["to_daemon", "to_host"]
Case: TypeAlias = dict[str, Any]

UNEXPECTED_END = 65
"""The daemon's exit status for a peer that does not frame (EX_DATAERR)."""

LATIN, ASTRAL, ZERO_WIDTH = "Größe ﬁ ñ", "𝄞 👩‍👩‍👧 日本語", "a\u200bb\u00a0c\u2028d"
MANY = {f"k{n:02}": n for n in range(16)}
"""One key more than a fixmap holds."""


def document() -> dict[str, list[Case]]:
    """All of `vectors.json`."""
    return {"cases": [*_cases()], "bad": [*_bad()]}


def text() -> str:
    """The file: one case a line, so that a change shows as the lines that it changes."""
    lists = (
        f'"{name}": [\n' + ",\n".join(_line(case) for case in cases) + "\n]"
        for name, cases in document().items()
    )
    return "{\n" + ",\n".join(lists) + "\n}\n"


def shown(value: Any) -> Any:
    """A decoded value as it stands in the file: bytes as ``{"$bytes": base64}``."""
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    return [shown(item) for item in value] if isinstance(value, list) else value


def meant(value: Any) -> Any:
    """The opposite of `shown`."""
    if isinstance(value, dict):
        if value.keys() == {"$bytes"}:
            return base64.b64decode(value["$bytes"])
        return {key: meant(item) for key, item in value.items()}
    return [meant(item) for item in value] if isinstance(value, list) else value


def _line(case: Case) -> str:
    return json.dumps(case, ensure_ascii=True, allow_nan=False)


# --- what is right ------------------------------------------------------------------------------


def _cases() -> Iterator[Case]:
    for name, direction, version, message, *notes in _messages():
        for codec in Codec:
            frame = encode_frame(encode(codec, message).payload)
            yield _case(f"{name}, {codec.value}", direction, version, codec, frame, message, notes)
    for name, direction, codec, sent, message, notes in _replaced():
        frame = encode_frame(encode(codec, sent).payload)
        yield _case(name, direction, 2, codec, frame, message, [notes])
    for name, payload, message, notes in _unusual():
        codec = Codec.JSON if payload[:1] == b"{" else Codec.MSGPACK
        frame = encode_frame(payload)
        yield _case(name, "to_daemon", 2, codec, frame, message, [notes], canonical=False)


def _case(
    name: str,
    direction: Direction,
    version: int,
    codec: Codec,
    frame: bytes,
    message: Any,
    notes: list[str],
    *,
    canonical: bool = True,
) -> Case:
    case = {
        "name": name,
        "direction": direction,
        "version": version,
        "codec": codec.value,
        "canonical": canonical,
        "hex": frame.hex(),
        "message": shown(message),
    }
    return {**case, "notes": notes[0]} if notes else case


def _request(command: str, args: dict[str, Any], number: int | str = 1, **more: Any) -> Any:
    return {"id": number, "command": command, "args": args, **more}


def _messages() -> Iterator[tuple[Any, ...]]:
    """``(name, direction, version, message, notes?)``, written in both codecs."""
    yield from (("to_daemon " + name, "to_daemon", *rest) for name, *rest in _from_host())
    yield from (("to_host " + name, "to_host", *rest) for name, *rest in _from_daemon())


def _from_host() -> Iterator[tuple[Any, ...]]:
    signature = {
        "inputs": [{"name": "question", "type": "string"}],
        "outputs": [{"name": "citations", "type": "{:array, :integer}", "optional": True}],
    }
    yield "version 1 request", 1, _request("ping", {})
    yield (
        "version 1 request with keys of version 2",
        1,
        _request("ping", {}, deadline_ms=5, colour="blue"),
        "Version 1 ignores what it does not know.",
    )
    offer = {"protocol": [1, 2], "client": {"name": "golden", "version": "1"}, "accepts": ["calls"]}
    yield "hello", 2, _request("hello", offer)
    yield "string id", 2, _request("ping", {}, "a-1")
    yield "negative id", 2, _request("ping", {}, -1)
    yield "largest 64-bit id", 2, _request("ping", {}, 2**63 - 1)
    yield (
        "every envelope key",
        2,
        _request(
            "forward",
            {"module_id": "qa", "inputs": {"question": "2+2?"}, "config": {}},
            7,
            deadline_ms=30_000,
            budget={"lm_calls": 3, "tokens": 5000, "cost_usd": 0.25, "seconds": 12.5},
            stream=True,
            tenant="acme",
            lm={"provider": "openai", "model": "gpt-4o-mini", "temperature": 0.0},
            trace={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
            parent="c1",
        ),
    )
    yield "an LM by name, a trace by true", 2, _request("forward", {}, lm="fast", trace=True)
    yield (
        "the seed's signature",
        2,
        _request("create_module", {"id": "m", "type": "predict", "signature": signature}),
    )
    values = {"null": None, "yes": True, "no": False, "list": [], "map": {}, "text": "", "zero": 0}
    yield "every plain value", 2, _request("ping", values)
    yield "integers at every width", 2, _request("ping", {"n": _INTEGERS})
    yield "floats", 2, _request("ping", {"n": [0.5, -0.25, 1e-7, 1.5e300, 123456.789, 0.1]})
    yield "text of every width", 2, _request("ping", {"s": ["x" * n for n in (31, 32, 255, 256)]})
    yield "unicode", 2, _request("ping", {LATIN: ASTRAL, "odd": ZERO_WIDTH, "nul": "a\0b\x1f\x7f"})
    yield "quotes and backslashes", 2, _request("ping", {'"': '\\ "/" \n\r\t\b\f'})
    yield "a map of sixteen keys", 2, _request("ping", MANY)
    yield "a list of sixteen items", 2, _request("ping", {"list": [*range(16)]})
    yield "nested as deep as is allowed", 2, _request("ping", _nested(MAX_DEPTH - 1))
    yield "answer", 2, {"call": 1, "result": {"score": 1.0, "feedback": "right"}}
    yield "answer of null", 2, {"call": "c-1", "result": None}
    yield (
        "answer with an error map",
        2,
        {"call": 2, "error": {"code": "host_error", "message": "x"}},
    )
    yield "answer with an error string", 2, {"call": 3, "error": "no such tool"}


_INTEGERS = [
    each
    for bits in (5, 7, 8, 15, 16, 31, 32, 63)
    for each in (2**bits - 1, 2**bits, -(2**bits), -(2**bits) - 1)
    if -(2**63) <= each < 2**64
]


def _nested(levels: int) -> dict[str, Any]:
    """A map ``levels`` deep, of maps and lists in turn."""
    inner: Any = {}
    for level in range(levels - 1):
        inner = {"d": inner} if level % 2 else [inner]
    return inner if isinstance(inner, dict) else {"d": inner[0]}


def _from_daemon() -> Iterator[tuple[Any, ...]]:
    usage = {"calls": 1, "input_tokens": 12, "output_tokens": 3, "cost": None, "cached_calls": 0}
    meta = {"usage": {"openai/gpt-4o-mini": usage}, "latency_ms": 12.5}
    yield "version 1 reply", 1, {"id": 1, "result": {"answer": "4"}}
    yield "version 1 error", 1, {"id": 1, "error": "not_found: no module 'qa'"}
    yield "reply", 2, {"id": 1, "result": {"answer": "4", "_meta": meta}}
    yield "reply that is no map", 2, {"id": "a-1", "result": [1, "two", None]}
    yield "reply of null", 2, {"id": 2, "result": None}
    yield "reply with an empty map", 2, {"id": 3, "result": {}}
    yield "reply with unicode", 2, {"id": 4, "result": {LATIN: ASTRAL, "odd": ZERO_WIDTH}}
    for number, code in enumerate(CODES):
        yield f"error {code}", 2, {"id": number, "error": _error(code).to_wire()}
    faults = [{"path": "inputs.qestion", "message": "unknown input", "nearest": "question"}]
    yield "error with faults", 2, {"id": 5, "error": InvalidArgs.of(faults).to_wire()}
    busy = Busy("64 requests wait already", retry_after_ms=250)
    yield "error with retry_after_ms", 2, {"id": 6, "error": busy.to_wire()}
    yield "error without an id", 2, {"id": None, "error": _error("invalid_frame").to_wire()}
    yield "event ready", 2, {"event": "ready", "id": None, "data": {"seconds": 1.25}}
    chunk = {"field": "answer", "text": " Paris", "module_id": "qa", "index": 0, "call": 1}
    yield "event chunk", 2, {"event": "chunk", "id": 7, "data": chunk}
    status = {"status": "tool_start", "tool": "search"}
    yield "event status", 2, {"event": "status", "id": 7, "data": status}
    progress = {"run_id": "r1", "phase": "bootstrap", "trial": 3, "score": 0.5, "best_score": 0.75}
    yield "event progress", 2, {"event": "progress", "id": "run-1", "data": progress}
    yield "event log", 2, {"event": "log", "id": None, "data": {"level": "info", "event": "begun"}}
    yield "event stats", 2, {"event": "stats", "id": None, "data": {"rss": 81_000_000}}
    for name, target, args in _host_calls():
        call = {"call": 1, "target": target, "name": name, "args": args, "id": 7}
        yield f"host call {target}", 2, call
    adrift = {"call": "c2", "target": "tool", "name": "now", "args": {}, "id": None}
    yield "host call that no request caused", 2, adrift
    yield "cancel_call", 2, {"cancel_call": 1}
    yield "cancel_call of a string id", 2, {"cancel_call": "c-1"}


def _host_calls() -> Iterator[tuple[str, str, dict[str, Any]]]:
    example, prediction = {"question": "2+2?", "answer": "4"}, {"answer": "4"}
    yield "search", "tool", {"query": "Eiffel Tower", "k": 3}
    metric = {"example": example, "prediction": prediction, "trace": None, "program_id": "p"}
    yield "judge", "metric", {**metric, "index": 0}
    yield "reward", "reward", {"inputs": {"question": "2+2?"}, "prediction": prediction}
    yield "corpus", "retrieve", {"query": "Eiffel Tower", "k": 3}
    yield "p", "forward", {"program_id": "p", "inputs": {"question": "2+2?"}}
    messages = [{"role": "user", "content": "2+2?"}]
    yield "beam", "lm", {"messages": messages, "config": {}, "tools": None, "stream": False}


def _error(code: str) -> BridgeError:
    return error_from_wire({"code": code, "message": f"a case of {code}"})


def _replaced() -> Iterator[tuple[str, Direction, Codec, Any, Any, str]]:
    """``(name, direction, codec, what is given to the encoder, what arrives, why)``."""
    numbers = {"a": math.nan, "b": [math.inf, -math.inf]}
    yield (
        "to_host NaN and infinities, json",
        "to_host",
        Codec.JSON,
        {"id": 1, "result": numbers},
        {"id": 1, "result": {"a": None, "b": [None, None]}},
        "JSON has no such numbers: they are null.",
    )
    blob = bytes([0, 1, 127, 128, 255])
    note = "Bytes are base64 in JSON, bin in MessagePack."
    as_text = {"id": 1, "result": {"image": base64.b64encode(blob).decode(), "none": ""}}
    given = {"id": 1, "result": {"image": blob, "none": b""}}
    yield "to_host bytes, json", "to_host", Codec.JSON, given, as_text, note
    yield "to_host bytes, msgpack", "to_host", Codec.MSGPACK, given, given, note
    long = {"id": 1, "result": {"image": bytes(range(256)) * 2}}
    yield "to_host bytes of 512, msgpack", "to_host", Codec.MSGPACK, long, long, "bin 16."
    asked = _request("ping", {"image": blob})
    yield "to_daemon bytes, msgpack", "to_daemon", Codec.MSGPACK, asked, asked, note
    big = [2**63, 2**64, -(2**63) - 1, 10**40]
    note = "Beyond 64 bits: exact in JSON, a decimal string in MessagePack."
    given = {"id": 1, "result": {"n": big}}
    yield "to_host big integers, json", "to_host", Codec.JSON, given, given, note
    arrives = {"id": 1, "result": {"n": [2**63, *map(str, big[1:])]}}
    yield "to_host big integers, msgpack", "to_host", Codec.MSGPACK, given, arrives, note
    given, arrives = ({"id": 1, "result": {"t": text}} for text in ("a\ud800b", "a\ufffdb"))
    for codec in Codec:
        name = f"to_host lone surrogate, {codec.value}"
        yield name, "to_host", codec, given, arrives, "Replaced: it is no character."


def _unusual() -> Iterator[tuple[str, bytes, Any, str]]:
    """``(name, payload, message, why)``: right, though `protocol` would write it otherwise."""
    ping = _request("ping", {})
    spaced = b'{ "id" : 1,\n\t"command" : "ping", "args" : { } }\r\n'
    yield "white space, json", spaced, ping, "JSON allows it."
    yield "no args, json", b'{"id":1,"command":"ping"}', {"id": 1, "command": "ping"}, "Optional."
    escaped = rb'{"id":1,"command":"ping","args":{"\u00e9":"\ud834\udd1e\/"}}'
    yield "escapes, json", escaped, _request("ping", {"é": "𝄞/"}), "A pair is one character."
    lone = rb'{"id":1,"command":"ping","args":{"s":"a\ud800b"}}'
    yield "lone surrogate, json", lone, _request("ping", {"s": "a\ufffdb"}), "Becomes U+FFFD."
    twice = b'{"id":1,"command":"pong","command":"ping","args":{}}'
    yield "a key twice, json", twice, ping, "The last value counts."
    big = b'{"id":1,"command":"ping","args":{"n":36893488147419103232}}'
    yield "an integer beyond 64 bits, json", big, _request("ping", {"n": 2**65}), "Read exactly."
    wide = b"\xdf\0\0\0\3" + b"".join(
        b"\xdb" + len(key).to_bytes(4, "big") + key + value
        for key, value in (
            (b"id", b"\xd3" + (1).to_bytes(8, "big")),
            (b"command", b"\xdb\0\0\0\4ping"),
            (b"args", b"\xde\0\0"),
        )
    )
    yield "the widest forms, msgpack", wide, ping, "map 32, str 32, int 64, map 16."
    half = msgpack.packb(_request("ping", {"n": 0.5}), use_single_float=True)
    yield "a float of 32 bits, msgpack", half, _request("ping", {"n": 0.5}), "float 32."


# --- what is wrong ------------------------------------------------------------------------------


def _bad() -> Iterator[Case]:
    for name, stream, status in _endings():
        yield {
            "name": name,
            "direction": "to_daemon",
            "version": 2,
            "hex": stream.hex(),
            "exit": status,
        }
    for name, direction, frame, code, number in _refused():
        yield {
            "name": name,
            "direction": direction,
            "version": 2,
            "hex": frame.hex(),
            "code": code,
            "id": number,
        }


def _endings() -> Iterator[tuple[str, bytes, int]]:
    """Streams after which nothing can be read any more."""
    whole = encode_frame(encode(Codec.JSON, _request("ping", {})).payload)
    yield "nothing at all", b"", 0
    yield "a header cut short", whole[:3], UNEXPECTED_END
    yield "a payload cut short", whole[:-1], UNEXPECTED_END
    yield "JSON without a length", b'{"id":1,"command":"ping"}\n', UNEXPECTED_END
    yield "HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", UNEXPECTED_END
    yield "a progress bar", b"  0%|          | 0/10 [00:00<?, ?it/s]", UNEXPECTED_END


def _refused() -> Iterator[tuple[str, Direction, bytes, str, Any]]:
    """``(name, direction, frame, code, id)``: refused by itself, and the stream goes on."""
    size = DEFAULT_MAX_FRAME + 1
    large = size.to_bytes(4, "big")
    yield "a header over max_frame", "to_daemon", large, "frame_too_large", None
    for name, payload, number in _no_maps():
        for direction in ("to_daemon", "to_host"):
            yield f"{direction} {name}", direction, encode_frame(payload), "invalid_frame", number
    # A host on the BEAM has no such limit.
    deep = b'{"id":1,"result":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}"
    name = "to_daemon a nesting too deep"
    yield name, "to_daemon", encode_frame(deep), "invalid_frame", 1
    for name, message, number in _no_requests():
        frame = encode_frame(encode(Codec.JSON, message).payload)
        yield f"to_daemon {name}", "to_daemon", frame, "invalid_message", number
    for name, message, number in _no_news():
        frame = encode_frame(encode(Codec.JSON, message).payload)
        yield f"to_host {name}", "to_host", frame, "invalid_message", number


def _no_maps() -> Iterator[tuple[str, bytes, Any]]:
    yield "empty payload", b"", None
    yield "a JSON list", b"[1,2]", None
    yield "a JSON string", b'"ping"', None
    yield "a JSON object cut short", b'{"id":1,"command":', None
    yield "two JSON objects", b'{"id":1,"result":1}{"id":2,"result":2}', None
    yield "NaN in JSON", b'{"id":1,"result":NaN}', 1
    yield "JSON that is not UTF-8", b'{"id":1,"result":"\xff"}', None
    yield "a MessagePack list", b"\x92\x01\x02", None
    yield "a MessagePack map cut short", b"\x82\xa2id\x01", None
    yield "a MessagePack map and a byte", b"\x81\xa2id\x01\x00", None
    yield "a MessagePack key that is no string", b"\x82\xa2id\x01\x01\x02", 1
    stamped = msgpack.packb({"id": 1, "result": msgpack.ExtType(5, b"x")})
    yield "a MessagePack extension", stamped, 1
    yield "Erlang's term_to_binary", bytes([131, 116, 0, 0, 0, 0]), None


def _no_requests() -> Iterator[tuple[str, Any, Any]]:
    yield "no command", {"id": 1, "args": {}}, 1
    yield "no id", {"command": "ping"}, None
    yield "an id of a float", {"id": 1.5, "command": "ping"}, None
    yield "an id too long", {"id": "x" * 1025, "command": "ping"}, None
    yield "args that are a list", _request("ping", [], 2), 2  # type: ignore[arg-type]
    yield "an unknown envelope key", _request("ping", {}, 3, dedline_ms=5), 3
    yield "a negative deadline", _request("ping", {}, 4, deadline_ms=-1), 4
    yield "an answer without a result", {"call": 1}, None
    yield "an answer with a result and an error", {"call": 1, "result": 1, "error": "x"}, None


def _no_news() -> Iterator[tuple[str, Any, Any]]:
    yield "a message of no kind", {"id": 1, "answer": "4"}, 1
    yield "an event without data", {"event": "ready", "id": None}, None
    yield "a host call without a target", {"call": 1, "name": "x", "args": {}, "id": 2}, 2


if __name__ == "__main__":
    VECTORS.write_text(text(), encoding="ascii")
