"""What leaves the sandbox is plain, and small enough to be written out."""

from __future__ import annotations

import datetime as dt
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sandbox.values import DEEPEST, NODE, ValueFaultError, received

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.text() | st.floats(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)
HOSTILE = st.recursive(
    st.none()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.builds(object)
    | st.just(...)
    | st.just(int)
    | st.builds(ValueError, st.text())
    | st.dates()
    | st.timedeltas(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner)
    ),
    max_leaves=20,
)


def written(value):
    return len(json.dumps(value, ensure_ascii=False))


def is_finite(value):
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    return all(map(is_finite, value)) if isinstance(value, list) else True


@given(PLAIN)
def test_plain_data_comes_through_as_it_is(value):
    if is_finite(value):
        assert received(value, "v", 10**6) == value
    else:
        with pytest.raises(ValueFaultError, match="no number that JSON has"):
            received(value, "v", 10**6)


@given(HOSTILE, st.integers(0, 2_000))
def test_whatever_comes_out_is_json_and_no_larger_than_was_allowed(value, budget):
    try:
        found = received(value, "v", budget)
    except ValueFaultError:
        return
    text = json.dumps(found, ensure_ascii=False, default=lambda item: item.hex())
    # A character may be written as six, and quotes and commas are not counted one by one.
    assert len(text) <= 12 * budget + NODE


def test_a_list_within_itself_many_times_over_is_paid_for_as_often_as_it_is_written():
    value: list[object] = ["x" * 10]
    for _ in range(40):
        value = [value, value]
    with pytest.raises(ValueFaultError, match="larger") as caught:
        received(value, "the result", 1_000_000)
    assert caught.value.too_large


def test_a_list_within_itself_ends_at_the_deepest_level():
    value: list[object] = []
    value.append(value)
    with pytest.raises(ValueFaultError, match=f"deeper than {DEEPEST}"):
        received(value, "v", 10**9)


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({"a": [1, {"b": math.nan}]}, r"v\.a\[1\]\.b", "nan"),
        ({"a": {1: 2}}, r"v\.a", "a key that is an integer"),
        ([{(1, 2): 3}], r"v\[0\]", "a key that is a tuple"),
        ([0, print], r"v\[1\]", "builtin_function_or_method"),
        ([ValueError("x" * 10**6)], r"v\[0\]", "an exception"),
        (2**5000, "v", "bits"),
    ],
)
def test_what_is_wrong_is_said_with_its_path_and_not_with_its_text(value, path, reason):
    with pytest.raises(ValueFaultError, match=f"^{path}: .*{reason}") as caught:
        received(value, "v", 10**6)
    assert len(str(caught.value)) < 200


def test_dates_travel_as_text_and_sets_as_lists():
    given_ = {"day": dt.date(2026, 1, 2), "set": {1}, "pair": (1, 2)}
    assert received(given_, "v", 1000) == {"day": "2026-01-02", "set": [1], "pair": [1, 2]}
