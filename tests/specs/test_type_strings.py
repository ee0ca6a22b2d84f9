"""Python annotations and literals as text: a grammar, never an evaluation."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.specs.types.model import Array, Scalar
from bridge.specs.types.strings import parse_annotation, parse_literal
from protocol.errors import InvalidArgs
from tests.specs.strategies import FLOATS, INTEGERS, unhurried


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("list[", 6),
        ("list[str", 9),
        ("list[str]]", 10),
        ("int |", 6),
        ("int + str", 5),
        ("list['str']", 6),
        ("dict[int, str]", 1),
        ("Literal[x]", 9),
        ("Literal['x", 9),
        ("a.b.", 5),
    ],
)
def test_what_is_no_annotation_is_refused_with_its_column(text, column):
    with pytest.raises(InvalidArgs) as caught:
        parse_annotation(text, "t")
    assert caught.value.details["faults"][0]["column"] == column


def test_an_unknown_name_is_never_imported():
    assert "sched" not in sys.modules
    with pytest.raises(InvalidArgs):
        parse_annotation("sched", "t")
    with pytest.raises(InvalidArgs):
        parse_annotation("sched.scheduler", "t")
    assert "sched" not in sys.modules


def test_space_and_line_ends_mean_nothing():
    assert parse_annotation("\n list [\tstr\r\n] ", "t") == Array(Scalar("string"))


@unhurried
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), INTEGERS, FLOATS, st.text()),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)
        ),
        max_leaves=10,
    )
)
def test_json_and_python_literals_mean_their_value(value):
    assert parse_literal(json.dumps(value, ensure_ascii=False), "t") == value


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("'a\\'b'", "a'b"),
        ('"\\x41\\u00e9\\U0001F600"', "Aé😀"),
        ("1_000", 1000),
        (".5", 0.5),
        ("1.", 1.0),
        ("+3", 3),
        ("[1, 2,]", [1, 2]),
        ("True", True),
        ("nil", None),
        ("{}", {}),
    ],
)
def test_a_literal_means_its_value(text, wanted):
    assert parse_literal(text, "t") == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[1",
        "{'a'}",
        "{1: 2}",
        "1 2",
        "9" * 30,
        "1e999",
        "'\\ud800'",
        "(1, 2)",
        "1e",
        "--1",
    ],
)
def test_what_is_no_literal_is_refused(text):
    with pytest.raises(InvalidArgs):
        parse_literal(text, "t")


@unhurried
@given(st.one_of(st.text(), st.text(alphabet="[]{}(),|.:'\"\\ aLN1e-_", max_size=50)))
def test_any_text_is_a_literal_or_invalid_args(text):
    try:
        parse_literal(text, "t")
    except InvalidArgs:
        return
