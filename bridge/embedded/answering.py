"""The embedded LM: a deterministic LM without network, key or weights.

Law of this file: everything an answer holds comes from the prompt, as with any LM; equal prompts
give equal answers; no prompt makes it raise. Without demonstrations it answers a question with the
sentence that bears on it (and with the bare number or year where the question asks for one); from
demonstrations it learns the shape of answers: how long they are, which kind of thing each kind of
question wants, how queries are put. It knows no facts.

Models: `lexical` is all this; `echo` fills every output field with the simplest value of its type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from bridge.embedded.prompt import Prompt, PromptField, read_prompt
from bridge.embedded.reading import Reading
from bridge.embedded.text import sentences, stems
from bridge.embedded.values import simplest_value, typed_value

__all__ = ["MODELS", "answer"]

_SELF: Final = (
    "I am the embedded lexical model of dspy-bridge: a small deterministic program that answers"
    " from the words of the prompt. I am not a neural network, and I know nothing that the prompt"
    " does not say."
)
_NOTHING: Final = (
    "I am dspy-bridge's embedded lexical model and can only answer from text in the prompt;"
    " this one holds none that bears on the question."
)
_ASKED_WHO = re.compile(
    r"\b(?:who|what) are you\b|\bwhat(?:'s| is) your name\b|\bwh(?:ich|at) (?:language )?model"
    r" (?:are you|is this)\b|\bintroduce yourself\b",
    re.IGNORECASE,
)
_FENCE = re.compile(r"```(?:\w*\n)?(.*?)```", re.DOTALL)


def answer(messages: Sequence[Mapping[str, Any]], *, model: str) -> str:
    """The completion of chat `messages` (`role`; `content` as text or text parts).

    `model` is one of `MODELS`. Raises KeyError for any other.
    """
    return MODELS[model](messages)


def _lexical(messages: Sequence[Mapping[str, Any]]) -> str:
    prompt = read_prompt(messages)
    if prompt.style == "text":
        return _free_text(prompt)
    reading = Reading(prompt)
    return _render(prompt, lambda field: typed_value(reading, field))


def _echo(messages: Sequence[Mapping[str, Any]]) -> str:
    prompt = read_prompt(messages, with_demos=False)
    if prompt.style == "text":
        return prompt.text
    first = next(iter(prompt.inputs.values()), "")
    return _render(prompt, lambda field: simplest_value(field.schema, first))


MODELS: Final[Mapping[str, Callable[[Sequence[Mapping[str, Any]]], str]]] = {
    "lexical": _lexical,
    "echo": _echo,
}


def _free_text(prompt: Prompt) -> str:
    """The sentence of the prompt that bears most on its question."""
    if _ASKED_WHO.search(prompt.text):
        return _SELF
    if "within ```" in prompt.text and (block := _FENCE.search(prompt.text)):
        # Asked to rewrite what is fenced, it has nothing better and gives it back.
        return f"```\n{block.group(1).strip()}\n```"
    found = [s for line in prompt.text.splitlines() for s in sentences(line.strip())]
    background = [s for line in prompt.background.splitlines() for s in sentences(line.strip())]
    question = next((s for s in reversed(found) if s.endswith("?")), found[-1] if found else "")
    wanted = stems(question)
    best, most = "", 0.0
    for sentence in [*found, *background]:
        words = stems(sentence)
        # Overlap first; among equals the shorter sentence says it more plainly.
        score = len(words & wanted) - 0.01 * len(words)
        if sentence != question and score > most and not sentence.endswith("?"):
            best, most = sentence, score
    return best or _NOTHING


def _render(prompt: Prompt, value_of: Callable[[PromptField], Any]) -> str:
    values = {field.name: value_of(field) for field in prompt.output_fields}
    if prompt.style == "json":
        return json.dumps(values, ensure_ascii=False, indent=2)
    # A field left out is read as None by both adapters, and only a nullable type yields None.
    present = {name: value for name, value in values.items() if value is not None}
    if prompt.style == "xml":
        return "\n\n".join(_xml(name, value) for name, value in present.items())
    sections = [f"[[ ## {name} ## ]]\n{_chat_value(value)}" for name, value in present.items()]
    return "\n\n".join([*sections, "[[ ## completed ## ]]\n"])


def _chat_value(value: Any) -> str:
    if isinstance(value, str):
        # A header at the start of a line would end the field.
        return value.replace("[[ ##", "[[")
    if isinstance(value, bool):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _xml(tag: str, value: Any) -> str:
    if isinstance(value, Mapping):
        inner = "".join(
            _xml(key, item)
            if key.isidentifier()
            else _xml("entry", item).replace("<entry>", _entry(key), 1)
            for key, item in value.items()
        )
    elif isinstance(value, list):
        inner = "".join(_xml("item", item) for item in value)
    else:
        inner = "" if value is None else _escaped(str(value))
    return f"<{tag}>{inner}</{tag}>"


def _entry(key: str) -> str:
    quoted = _escaped(key).replace('"', "&quot;")
    return f'<entry key="{quoted}">'


def _escaped(text: str) -> str:
    # Control characters are not XML, and no parser would take them back.
    printable = "".join(c for c in text if c in "\t\n" or c >= " ")
    return printable.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
