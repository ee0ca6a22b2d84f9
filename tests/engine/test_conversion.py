"""Whatever a program returns can be sent: plain values for both codecs, or a typed error."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid

import dspy
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine.conversion import DEEPEST, plain, plain_fields
from protocol import Codec, decode, encode
from protocol.errors import ProgramError


class Colour(enum.Enum):
    RED = "red"


class Point(pydantic.BaseModel):
    x: int
    label: str | None = None


class Odd:
    def __str__(self):
        return "odd"


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.text(st.characters(categories=["Cs", "Ll"])),
    st.binary(),
    st.dates(),
    st.datetimes(),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
    st.complex_numbers(),
    st.just(Colour.RED),
    st.builds(Odd),
    st.builds(Point, x=st.integers()),
    st.builds(dspy.Code, code=st.text()),
    st.builds(dspy.Reasoning, content=st.text()),
    st.just(dspy.Image("https://host.invalid/a.png")),
)
HASHABLE = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary())
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.sets(HASHABLE, max_size=4),
        st.frozensets(HASHABLE, max_size=4),
        st.dictionaries(HASHABLE, inner, max_size=4),
        st.builds(lambda value: dspy.Prediction({"inner": value}), inner),
    ),
    max_leaves=15,
)


@given(VALUES)
def test_what_plain_makes_can_be_written_by_both_codecs(value):
    message = {"id": 1, "result": {"value": plain(value)}}
    for codec in Codec:
        _, received = decode(encode(codec, message).payload)
        assert "value" in received["result"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (dt.date(2024, 1, 2), "2024-01-02"),
        (decimal.Decimal("1.50"), "1.50"),
        (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        (Colour.RED, "red"),
        (Odd(), "odd"),
        (Point(x=1), {"x": 1, "label": None}),
        ({"a": [Point(x=1)]}, {"a": [{"x": 1, "label": None}]}),
        ((1, {2}), [1, [2]]),
        ({1: "a"}, {"1": "a"}),
        (dspy.Code(code="x"), "x"),
        (dspy.Reasoning(content="because"), "because"),
        (dspy.Image("https://host.invalid/a.png"), {"url": "https://host.invalid/a.png"}),
        (dspy.File(file_id="f"), {"file_id": "f"}),
        (dspy.Audio(data="AA", audio_format="wav"), {"data": "AA", "audio_format": "wav"}),
        (dspy.History(messages=[{"a": 1}]), {"messages": [{"a": 1}]}),
        (dspy.Example(a=dt.date(2024, 1, 2)), {"a": "2024-01-02"}),
    ],
)
def test_values_have_the_plain_form_that_inputs_take(value, expected):
    assert plain(value) == expected


def test_what_is_nested_too_deep_or_in_a_circle_is_a_program_error():
    circle = []
    circle.append(circle)
    deep = {}
    for _ in range(DEEPEST + 1):
        deep = {"d": deep}
    for value in (circle, deep):
        with pytest.raises(ProgramError):
            plain(value)


def test_a_program_that_returned_nothing_is_a_program_error():
    with pytest.raises(ProgramError):
        plain_fields(None)


def test_fields_that_dspy_hides_are_fields():
    assert plain_fields(dspy.Prediction({"dspy_x": 1, "self": 2})) == {"dspy_x": 1, "self": 2}
