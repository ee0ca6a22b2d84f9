"""A prompt with what the embedded LM has found out about it.

Law of this file: each finding is made at most once for a prompt, and only when it is needed.
"""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Final

from bridge.embedded.evidence import Evidence, gather
from bridge.embedded.text import DATE, NUMBER, YEAR, Ask, read_question, stems

if TYPE_CHECKING:
    from bridge.embedded.prompt import Demo, Prompt

__all__ = ["REASON_NAME", "Reading"]

REASON_NAME = re.compile(r"reasoning|rationale|thought|explanation|justification")
_QUESTION_NAMES: Final = frozenset({"question", "query", "claim", "topic", "request"})


class Reading:
    """A prompt with what has been found out about it; each finding is made once, when needed."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        self.question_field = _question_field(prompt)
        self.question = prompt.inputs.get(self.question_field, "")

    @functools.cached_property
    def context(self) -> str:
        """Every input but the question; the question itself when it stands alone."""
        rest = [v for k, v in self.prompt.inputs.items() if k != self.question_field and v]
        return "\n".join(_plain(v) for v in rest)

    @functools.cached_property
    def text(self) -> str:
        """What there is to read: the context, or else the question."""
        return self.context or self.question

    @functools.cached_property
    def ask(self) -> Ask:
        """What the question wants, the kind of thing corrected by demonstrations of its like."""
        ask = read_question(self.question)
        for demo in self.prompt.demos:
            like = read_question(demo.inputs.get(self.question_field, ""))
            if like.asker == ask.asker and like.sort == ask.sort:
                kinds = {_kind_of(v) for k, v in demo.outputs.items() if not REASON_NAME.search(k)}
                if ask.kind == "year" and "date" in kinds:
                    return ask._replace(kind="date")
                if ask.kind == "name" and kinds & {"year", "number"}:
                    return ask._replace(kind="year" if "year" in kinds else "number")
        return ask

    def ask_for(self, name: str) -> Ask:
        """The question asked; where the prompt asks none, the field's name stands for one."""
        if self.ask.asker or not name:
            return self.ask
        return read_question(f"which {name.replace('_', ' ')}")

    @functools.cached_property
    def evidence(self) -> Evidence:
        """What the context says about the question."""
        return gather(self.ask, self.text)

    @functools.cached_property
    def words(self) -> frozenset[str]:
        """The content stems of all inputs."""
        return stems("\n".join(self.prompt.inputs.values()))

    @functools.cached_property
    def similarities(self) -> list[float]:
        """For each demonstration, how alike its inputs are to these (Jaccard, 0 to 1)."""
        names = self.prompt.inputs
        result = []
        for demo in self.prompt.demos:
            theirs = stems("\n".join(demo.inputs.get(n, "") for n in names))
            union = len(theirs | self.words)
            result.append(len(theirs & self.words) / union if union else 0.0)
        return result

    def examples(self, name: str) -> list[tuple[float, Demo, str]]:
        """(similarity, demonstration, value) wherever `name` was supplied, most similar first."""
        found = [
            (similarity, demo, demo.outputs[name])
            for similarity, demo in zip(self.similarities, self.prompt.demos, strict=True)
            if demo.outputs.get(name)
        ]
        return sorted(found, key=lambda e: -e[0])


def _question_field(prompt: Prompt) -> str:
    inputs = {k: v for k, v in prompt.inputs.items() if v} or prompt.inputs
    for name in inputs:
        if name in _QUESTION_NAMES:
            return name
    asking = [name for name, value in inputs.items() if value.rstrip().endswith("?")]
    return min(asking or inputs, key=lambda n: len(inputs[n]), default="")


def _plain(value: str) -> str:
    """A JSON list of texts as lines; anything else as it is."""
    if value.startswith("["):
        try:
            items = json.loads(value)
        except (ValueError, RecursionError):
            return value
        if isinstance(items, list):
            return "\n".join(i if isinstance(i, str) else json.dumps(i) for i in items)
    return value


def _kind_of(value: str) -> str:
    value = value.strip()
    if YEAR.fullmatch(value):
        return "year"
    if DATE.fullmatch(value):
        return "date"
    return "number" if NUMBER.fullmatch(value) else "text"
