"""How the embedded LM reads a prompt: messages in, a `Prompt` out.

Law of this file: it understands what DSPy's Chat, JSON and XML adapters write and falls back to
free text for anything else; no text whatever makes it raise. It knows the layout of prompts and
nothing of how to answer them.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

__all__ = ["Demo", "Prompt", "PromptField", "read_prompt", "schema_of_type"]

Style = Literal["chat", "json", "xml", "text"]
Schema = Mapping[str, Any]

_OBJECTIVE: Final = "In adhering to this structure, your objective is:"
_STRUCTURE: Final = "All interactions will be structured in the following way"
_JSON_OUTPUTS: Final = "Outputs will be a JSON object with the following fields."
# Where the values of a user message end and the reminder of the wanted format begins.
_REMINDERS: Final = (
    "\nRespond with the corresponding output fields",
    "\nRespond with a JSON object in the following order",
)
_NOT_SUPPLIED: Final = "Not supplied for this "
_NOTE: Final = "        # note: the value you produce "
_FIELD = re.compile(r"^\d+\. `(\w+)` \((.*?)\):(.*?)(?=^\d+\. `|\Z)", re.MULTILINE | re.DOTALL)
_HEADER = re.compile(r"^\[\[ ## (\w+) ## \]\][ \t]*\n?", re.MULTILINE)
_LITERAL = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,\s]+)""")
_TAG = re.compile(r"<(/?)(\w+)>")
_ITEM = re.compile(r"<item>(.*?)</item>", re.DOTALL)
_SIMPLE_TYPES: Final[Mapping[str, Schema]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "dict": {"type": "object"},
    "list": {"type": "array"},
    "NoneType": {"type": "null"},
    "None": {"type": "null"},
    "Any": {},
}
# Deeper nesting is not read from a type's text: the prompt's author may be hostile.
_MAX_TYPE_DEPTH: Final = 12


@dataclass(frozen=True, slots=True)
class PromptField:
    """One field of the signature as the prompt states it; `schema` is a JSON Schema of its type."""

    name: str
    type_text: str
    description: str
    schema: Schema


@dataclass(frozen=True, slots=True)
class Demo:
    """An earlier turn: values as text by field name; what was "not supplied" is absent."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A whole prompt.

    With style "text" there are no fields: `text` is the last user message and `background` every
    message before it, and only those two mean anything.
    """

    style: Style
    input_fields: tuple[PromptField, ...] = ()
    output_fields: tuple[PromptField, ...] = ()
    objective: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    demos: tuple[Demo, ...] = ()
    text: str = ""
    background: str = ""


@dataclass(frozen=True, slots=True)
class _Signature:
    style: Style
    input_fields: tuple[PromptField, ...]
    output_fields: tuple[PromptField, ...]
    objective: str


def read_prompt(messages: Sequence[Mapping[str, Any]], *, with_demos: bool = True) -> Prompt:
    """Read chat messages (`role`, and `content` as text or as a list of text parts).

    `with_demos=False` leaves the earlier turns unread, for who has no use for them.
    """
    turns = [(m.get("role"), _text_of(m.get("content"))) for m in messages]
    system = "\n".join([text for role, text in turns if role in {"system", "developer"}])
    dialogue = [turn for turn in turns if turn[0] in {"user", "assistant"}]
    last = next((i for i in range(len(dialogue) - 1, -1, -1) if dialogue[i][0] == "user"), None)
    request = dialogue[last][1] if last is not None else ""
    signature = _read_signature(system)
    if signature is None or last is None:
        earlier = [text for _, text in dialogue[:last]] if last is not None else []
        return Prompt("text", text=request, background="\n".join([system, *earlier]).strip())
    demos = tuple(_read_demos(dialogue[:last], signature)) if with_demos else ()
    return Prompt(
        style=signature.style,
        input_fields=signature.input_fields,
        output_fields=signature.output_fields,
        objective=signature.objective,
        inputs=_read_inputs(request, signature),
        demos=demos,
    )


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        parts = (p.get("text") for p in content if isinstance(p, Mapping))
        return "\n".join(p for p in parts if isinstance(p, str))
    return ""


# A program sends one system message thousands of times; 256 signatures outlast any one host's.
@functools.lru_cache(maxsize=256)
def _read_signature(system: str) -> _Signature | None:
    before, found, rest = system.partition(_STRUCTURE)
    inputs_text, found_outputs, outputs_text = before.partition("Your output fields are:\n")
    if not found or not found_outputs:
        return None
    structure, _, objective = rest.partition(_OBJECTIVE)
    style: Style = "xml"
    if _JSON_OUTPUTS in structure:
        style = "json"
    elif "[[ ## completed ## ]]" in structure:
        style = "chat"
    notes = _json_notes(structure) if style == "json" else {}
    outputs = tuple(
        PromptField(name, type_text, description, _schema(name, type_text, structure, notes))
        for name, type_text, description in _field_lines(outputs_text)
    )
    inputs = tuple(
        PromptField(name, type_text, description, {})
        for name, type_text, description in _field_lines(inputs_text)
    )
    if not outputs:
        return None
    lines = (line.strip() for line in objective.strip().splitlines())
    return _Signature(style, inputs, outputs, "\n".join(lines))


def _field_lines(text: str) -> Iterator[tuple[str, str, str]]:
    for match in _FIELD.finditer(text):
        yield match.group(1), match.group(2), match.group(3).strip()


def _json_notes(structure: str) -> dict[str, str]:
    """The sample object of a JSON prompt: what stands for each output field."""
    start = structure.find("{\n", structure.find(_JSON_OUTPUTS))
    try:
        sample, _ = json.JSONDecoder().raw_decode(structure, max(start, 0))
    except (ValueError, RecursionError):
        return {}
    return (
        {k: v for k, v in sample.items() if isinstance(v, str)} if isinstance(sample, dict) else {}
    )


def _schema(name: str, type_text: str, structure: str, notes: Mapping[str, str]) -> Schema:
    place = notes.get(name, structure)
    _, found, rest = place.partition(f"{{{name}}}{_NOTE}")
    note = rest.partition("\n")[0] if found else ""
    _, is_schema, schema_text = note.partition("JSON schema: ")
    if is_schema:
        try:
            schema = json.loads(schema_text)
        except (ValueError, RecursionError):
            schema = None
        if isinstance(schema, dict):
            return schema
    known = schema_of_type(type_text)
    if known is not None:
        return known
    _, has_options, options = note.partition("one of: ")
    if has_options:
        return {"enum": options.split("; ")}
    skeleton = re.search(rf"^<{name}>(<\w+>.*)</{name}>$", structure, re.MULTILINE)
    return _skeleton_schema(skeleton.group(1)) if skeleton else {"type": "string"}


def schema_of_type(text: str, depth: int = 0) -> Schema | None:
    """The JSON Schema of a Python type as DSPy prints it, or None for a class it cannot know."""
    head, bracket, rest = text.strip().partition("[")
    if not bracket:
        return _SIMPLE_TYPES.get(head)
    if depth > _MAX_TYPE_DEPTH or not rest.endswith("]"):
        return None
    inner = rest[:-1]
    if head == "Literal":
        return {"enum": [_literal(*m.groups()) for m in _LITERAL.finditer(inner)]}
    arguments = [schema_of_type(part, depth + 1) for part in _split_arguments(inner)]
    if None in arguments:
        return None
    generic: Mapping[str, Schema] = {
        "list": {"type": "array", "items": arguments[0]},
        "set": {"type": "array", "items": arguments[0]},
        "dict": {"type": "object", "additionalProperties": arguments[-1]},
        "Union": {"anyOf": arguments},
        "Optional": {"anyOf": [*arguments, {"type": "null"}]},
    }
    return generic.get(head)


def _literal(single: str | None, double: str | None, bare: str | None) -> Any:
    if single is not None or double is not None:
        return re.sub(r"\\(.)", r"\1", single if single is not None else double or "")
    if bare in {"True", "False"}:
        return bare == "True"
    return int(bare) if bare and re.fullmatch(r"-?\d{1,18}", bare) else bare


def _split_arguments(text: str) -> list[str]:
    parts, depth, quote, start = [], 0, "", 0
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote and text[i - 1] != "\\" else quote
        elif char in "'\"":
            quote = char
        elif char in "[]":
            depth += 1 if char == "[" else -1
        elif char == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def _skeleton_schema(inner: str) -> Schema:
    """`<name>...</name><tags><item>...</item></tags>` as a schema of strings, lists and objects."""
    root: dict[str, Any] = {}
    stack: list[dict[str, Any]] = [root]
    for match in _TAG.finditer(inner):
        if match.group(1):
            if len(stack) > 1:
                stack.pop()
            continue
        child: dict[str, Any] = {}
        if match.group(2) == "item":
            stack[-1].update(type="array", items=child)
        else:
            stack[-1]["type"] = "object"
            stack[-1].setdefault("properties", {})[match.group(2)] = child
        stack.append(child)
    return root


def _read_inputs(content: str, signature: _Signature) -> dict[str, str]:
    # The line break in front stands for that of a message that is nothing but the reminder.
    lines = f"\n{content}"
    end = max(lines.rfind(text) for text in _REMINDERS)
    content = lines if end < 0 else lines[:end]
    wanted = [f.name for f in signature.input_fields]
    if signature.style == "xml":
        return _read_tags(content, wanted)
    return _read_headers(content, wanted)


def _read_headers(content: str, wanted: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    marks = [
        m for m in _HEADER.finditer(content) if m.group(1) in wanted or m.group(1) == "completed"
    ]
    ends = [*(m.start() for m in marks[1:]), len(content)]
    for mark, end in zip(marks, ends, strict=False):
        values.setdefault(mark.group(1), content[mark.end() : end].strip())
    values.pop("completed", None)
    return values


def _read_tags(content: str, wanted: Sequence[str]) -> dict[str, str]:
    values = {}
    for name in wanted:
        _, found, rest = content.partition(f"<{name}>")
        inner, closed, _ = rest.partition(f"</{name}>")
        if found and closed:
            values[name] = inner.strip()
    return values


def _read_demos(turns: Sequence[tuple[Any, str]], signature: _Signature) -> Iterator[Demo]:
    for (role, question), (answerer, reply) in itertools.pairwise(turns):
        if role == "user" and answerer == "assistant":
            outputs = _read_outputs(reply, signature)
            kept = {k: v for k, v in outputs.items() if not v.startswith(_NOT_SUPPLIED)}
            yield Demo(_read_inputs(question, signature), kept)


def _read_outputs(reply: str, signature: _Signature) -> dict[str, str]:
    wanted = [f.name for f in signature.output_fields]
    if signature.style == "chat":
        return _read_headers(reply, wanted)
    if signature.style == "xml":
        return {k: _unescaped(v) for k, v in _read_tags(reply, wanted).items()}
    try:
        values = json.loads(reply)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {
        k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)
        for k, v in values.items()
        if k in wanted
    }


def _unescaped(text: str) -> str:
    items = _ITEM.findall(text) if text.startswith("<item>") else None
    if items:
        text = json.dumps(items, ensure_ascii=False)
    return text.replace("&lt;", "<").replace("&amp;", "&")
