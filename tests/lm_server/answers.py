"""What the test server says: every output field that a DSPy prompt asks for, filled in.

The chat, JSON and XML adapters end the last user message with a reminder that names the output
fields, and describe their types in the system message. A prompt without such a reminder gets one
plain text. Everything is derived from the model's name and the request, so equal requests get
equal answers, and a reply that reached the wrong caller shows.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import orjson

TAIL: Final = 40
"""Characters of the first input that an answer repeats."""

_DEPTH: Final = 6
"""How deep a value is built for a recursive JSON Schema."""

_CHAT: Final = "Respond with the corresponding output fields, starting with the field "
_JSON: Final = "Respond with a JSON object in the following order of fields: "
_XML: Final = "Respond with the corresponding output fields wrapped in XML tags "
_JSON_LAYOUT: Final = "Outputs will be a JSON object with the following fields.\n\n"

_HEADER: Final = re.compile(r"^\[\[ ## \w+ ## \]\]\n|^<(\w+)>\n", re.MULTILINE)
_NOTE: Final = re.compile(r"\{(\w+)\} {8}# note: the value you produce (.*)")
_FORMATS: Final = {
    "date": "2024-01-01",
    "date-time": "2024-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "http://127.0.0.1/",
}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as any wire format carries it: texts only; tokens by `count_tokens`."""

    system: str
    user: str
    input_tokens: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """The output fields asked for: (name, type note) in order, and how they are to be written."""

    style: Literal["chat", "json", "xml"]
    fields: tuple[tuple[str, str], ...]


def count_tokens(text: str) -> int:
    """The server's tokens of a text: four characters each, rounded up."""
    return (len(text) + 3) // 4


def answer_text(model: str, first_input: str, field: str = "answer", extra_words: int = 0) -> str:
    """The text that the server puts in a `str` output field.

    `answer`, and the reply to a prompt without fields, is `<model>: <last 40 characters of the
    first input>` with white space collapsed; any other field has its name before that, so that
    a text which reached the wrong field shows, too.
    """
    tail = " ".join(first_input[-TAIL:].split())
    text = f"{model}: {tail}" if field == "answer" else f"{field}: {model}: {tail}"
    return " ".join([text, *(f"w{n}" for n in range(extra_words))])


def compose_answer(model: str, prompt: Prompt, extra_words: int = 0) -> str:
    """The whole reply to a prompt, in the layout that it asks for."""
    start, reminder = _find_reminder(prompt.user)
    inputs = prompt.user[:start]
    first_input = _find_first_input(inputs)
    layout = _read_layout(prompt.system, reminder) if reminder else None
    if layout is None:
        return answer_text(model, first_input, extra_words=extra_words)
    values: dict[str, Any] = {}
    for name, note in layout.fields:
        text = answer_text(model, first_input, name, extra_words)
        values[name] = _value_for(name, note, text, inputs)
    if layout.style == "json":
        return orjson.dumps(values).decode()
    if layout.style == "xml":
        return "\n\n".join(_write_xml(name, value) for name, value in values.items())
    sections = [f"[[ ## {name} ## ]]\n{_write_plain(value)}" for name, value in values.items()]
    return "\n\n".join([*sections, "[[ ## completed ## ]]"])


def _find_reminder(user: str) -> tuple[int, str]:
    start = max(user.rfind(opening) for opening in (_CHAT, _JSON, _XML))
    return (len(user), "") if start < 0 else (start, user[start:])


def _find_first_input(inputs: str) -> str:
    header = _HEADER.search(inputs)
    if header is None:
        return inputs.strip()
    ending = f"\n</{header[1]}>" if header[1] else "\n\n[[ ## "
    end = inputs.find(ending, header.end())
    return inputs[header.end() : end if end >= 0 else len(inputs)].strip()


@lru_cache(maxsize=256)
def _read_layout(system: str, reminder: str) -> _Layout | None:
    if reminder.startswith(_JSON):
        names = re.findall(r"(?:^|, then )`(\w+)`", reminder[len(_JSON) :])
        notes = _json_notes(system)
    elif reminder.startswith(_XML):
        names = re.findall(r"(?:^|, then )`<(\w+)>`", reminder[len(_XML) :])
        nested = re.findall(r"^<(\w+)>([^\n]+)</\1>$", system, re.MULTILINE)
        notes = dict(_NOTE.findall(system)) | {name: f"xml {inner}" for name, inner in nested}
        return _Layout("xml", tuple((name, notes.get(name, "")) for name in names))
    else:
        names = re.findall(r"(?:^|, then )`\[\[ ## (\w+) ## \]\]`", reminder[len(_CHAT) :])
        notes = dict(_NOTE.findall(system))
    style: Literal["json", "chat"] = "json" if reminder.startswith(_JSON) else "chat"
    return _Layout(style, tuple((name, notes.get(name, "")) for name in names)) if names else None


def _json_notes(system: str) -> dict[str, str]:
    start = system.find(_JSON_LAYOUT) + len(_JSON_LAYOUT)
    end = system.find("\n}\n", start)
    try:
        layout = orjson.loads(system[start : end + 2])
    except orjson.JSONDecodeError:
        return {}
    found = (_NOTE.match(value) for value in layout.values() if isinstance(value, str))
    return {match[1]: match[2] for match in found if match}


def _value_for(name: str, note: str, text: str, inputs: str) -> Any:
    seed = zlib.crc32(text.encode())
    if not note:
        return text
    if note.startswith("must be True or False"):
        return bool(seed & 1)
    if note.startswith("must be a single int"):
        return seed % 100
    if note.startswith("must be a single float"):
        return seed % 100 / 100
    if " one of: " in note:
        return _choose(name, note.partition(" one of: ")[2].split("; "), seed, inputs)
    if note.startswith("xml "):
        # Any scalar type takes "1", and the nested structure does not tell one from another.
        return _Markup(note[4:].replace("...", "1"))
    schema = orjson.loads(note.partition("JSON schema: ")[2] or "{}")
    return _value_of_schema(schema, schema.get("$defs", {}), text, _DEPTH)


def _choose(name: str, options: list[str], seed: int, inputs: str) -> str:
    if name == "next_tool_name" and "finish" in options:
        # A ReAct loop calls its first tool once, then ends.
        tools = [option for option in options if option != "finish"]
        return "finish" if not tools or "observation_0" in inputs else tools[0]
    return options[seed % len(options)]


def _value_of_schema(
    schema: dict[str, Any], definitions: dict[str, Any], text: str, depth: int
) -> Any:
    if "$ref" in schema:
        schema = definitions.get(schema["$ref"].rpartition("/")[2], {})
    for alternative in schema.get("anyOf") or schema.get("oneOf") or ():
        if alternative.get("type") != "null":
            return _value_of_schema(alternative, definitions, text, depth)
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    kind = schema.get("type", "string")
    if kind == "array":
        count = max(1, schema.get("minItems", 0)) if depth > 0 else schema.get("minItems", 0)
        item = schema.get("items") or {}
        return [_value_of_schema(item, definitions, text, depth - 1) for _ in range(count)]
    if kind == "object":
        required = schema.get("required", ())
        return {
            name: _value_of_schema(part, definitions, text, depth - 1)
            for name, part in schema.get("properties", {}).items()
            if depth > 0 or name in required
        }
    plain = {"integer": zlib.crc32(text.encode()) % 100, "number": 0.5, "boolean": True}
    return None if kind == "null" else plain.get(kind, _FORMATS.get(schema.get("format", ""), text))


class _Markup(str):
    """Text that is XML already."""

    __slots__ = ()


def _write_plain(value: Any) -> str:
    if isinstance(value, str | bool):
        return str(value)
    return orjson.dumps(value).decode()


def _write_xml(name: str, value: Any) -> str:
    if isinstance(value, _Markup):
        return f"<{name}>{value}</{name}>"
    text = _write_plain(value)
    if isinstance(value, str):
        text = text.replace("&", "&amp;").replace("<", "&lt;")
    return f"<{name}>\n{text}\n</{name}>"
