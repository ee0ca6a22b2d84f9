"""The adapters' short ways: what they read is what DSPy's own adapter reads."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine.adapters import ChatAdapter

SIGNATURES = [
    dspy.Signature("question -> answer"),
    dspy.Signature("question -> reasoning, answer"),
    dspy.Signature("question -> answer, score: float"),
]
PIECES = [
    "[[ ## answer ## ]]",
    "  [[ ## reasoning ## ]] said beside it",
    "[[ ## score ## ]]\n0.5",
    "[[ ## completed ## ]]",
    "[[ ## other ## ]]",
    "[[ ## answer ## ]] again",
    "text",
    "  text with spaces  ",
    "[[ ##",
    "",
    "a\rb\x0bc\u2028d",
]

completions = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=9).map(
    "\n".join
)


def parsed(adapter: Any, signature: Any, completion: str) -> Any:
    try:
        fields = adapter.parse(signature, completion)
    except AdapterParseError as error:
        return str(error)
    return list(fields.items())


@given(signature=st.sampled_from(SIGNATURES), completion=completions)
def test_a_completion_is_read_as_dspy_reads_it(signature, completion):
    expected = parsed(dspy.ChatAdapter(), signature, completion)
    assert parsed(ChatAdapter(), signature, completion) == expected


def test_a_whole_reply_in_text_is_read_without_asking_dspy(monkeypatch):
    def refuse(*_: object) -> None:
        pytest.fail("DSPy was asked")

    monkeypatch.setattr(dspy.ChatAdapter, "parse", refuse)
    reply = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
    assert ChatAdapter().parse(SIGNATURES[0], reply) == {"answer": "Paris"}
