"""Tools in source: what an LM is told of them, and what they give."""

from __future__ import annotations

import pytest

from bridge.sandbox.functions import tool_of
from protocol.errors import ProgramError, SandboxLimit

LOOKUP = '''
WORDS = {"dog": "Hund", "cat": "Katze"}

def clean(word):
    return word.strip().lower()

def lookup(word: str, limit: int = 3, kinds: list[str] | None = None) -> str:
    """Look a word up in the dictionary.

    Args:
        word: what to look up,
            in English.
        limit (int): how many.

    Returns:
        The German word.
    """
    return WORDS[clean(word)]
'''


def never():
    """The check of a request that goes on."""


def test_name_description_and_schema_come_from_the_function():
    tool = tool_of(LOOKUP)
    assert (tool.name, tool.description) == ("lookup", "Look a word up in the dictionary.")
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "word": {"type": "string", "description": "what to look up, in English."},
            "limit": {"type": "integer", "description": "how many.", "default": 3},
            "kinds": {
                "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}],
                "default": None,
            },
        },
        "required": ["word"],
    }


def test_it_runs_with_arguments_by_name():
    assert tool_of(LOOKUP).run({"word": " Dog "}, never) == "Hund"


def test_what_it_raises_points_into_the_source():
    with pytest.raises(ProgramError) as caught:
        tool_of(LOOKUP).run({"word": "cow"}, never)
    details = caught.value.details
    assert (details["kind"], details["line"]) == ("KeyError", 18)
    assert details["excerpt"].startswith("    return WORDS[")


def test_it_cannot_run_for_ever():
    tool = tool_of("def spin() -> int:\n    '''Spin.'''\n    while True:\n        pass")
    with pytest.raises(SandboxLimit):
        tool.run({}, never)


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        ("float", {"type": "number"}),
        ("Literal['a', 'b']", {"enum": ["a", "b"]}),
        ("dict[str, int]", {"type": "object", "additionalProperties": {"type": "integer"}}),
        ("bool | None", {"anyOf": [{"type": "boolean"}, {"type": "null"}]}),
        ("'str'", {"type": "string"}),
    ],
)
def test_annotations_are_types(annotation, schema):
    tool = tool_of(f"def f(x: {annotation}):\n    return x")
    assert tool.parameters["properties"]["x"] == schema


@pytest.mark.parametrize(
    "source",
    [
        "x = 1",
        "def f(*args):\n    return 1",
        "def f(x: Colour):\n    return x",
        "def f(:",
        "def f():\n    return there",
    ],
)
def test_what_is_no_tool_is_refused(source):
    with pytest.raises(ProgramError):
        tool_of(source)
