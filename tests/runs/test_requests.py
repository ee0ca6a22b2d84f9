"""What of a request is kept to be repeated: all of it but keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.runs.requests import PROGRAM, keepable, kept_lm, repeated
from protocol.errors import InvalidArgs

KEY = "sk-never-on-disk"

NAMES = st.text(min_size=1, max_size=8)
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
LMS = st.fixed_dictionaries(
    {"provider": st.just("openai"), "model": NAMES}, optional={"api_key": st.just(KEY)}
)
MODULES = st.fixed_dictionaries(
    {"id": NAMES, "signature": st.dictionaries(NAMES | st.just("api_key"), VALUES, max_size=3)},
    optional={"lm": LMS | NAMES},
)
REQUESTS = st.fixed_dictionaries(
    {"optimizer": NAMES, "trainset": st.lists(st.dictionaries(NAMES, VALUES, max_size=3))},
    optional={
        "program": st.fixed_dictionaries({"id": NAMES, "modules": st.lists(MODULES, max_size=3)})
        | NAMES,
        "config": st.dictionaries(
            NAMES,
            VALUES | LMS | st.fixed_dictionaries({"lm": LMS}),
            max_size=3,
        ),
    },
)


@given(REQUESTS)
def test_no_key_is_kept_and_everything_else_is(request_):
    kept = keepable(request_)
    assert KEY not in str(kept)
    had_key = KEY in str(request_)
    assert bool(kept["withheld"]) == had_key
    if not had_key:
        assert repeated(kept, {}) == request_


@given(REQUESTS)
def test_what_was_kept_without_its_key_is_asked_for_again(request_):
    kept = keepable(request_)
    if not kept["withheld"]:
        return
    with pytest.raises(InvalidArgs) as caught:
        repeated(kept, {})
    paths = [fault["path"] for fault in caught.value.details["faults"]]
    assert paths == kept["withheld"]
    assert repeated(kept, {name: request_[name] for name in paths}) == request_


@given(REQUESTS)
def test_the_request_itself_is_not_changed(request_):
    before = repr(request_)
    keepable(request_)
    assert repr(request_) == before


@pytest.mark.parametrize("name", PROGRAM)
def test_a_program_that_is_named_anew_takes_the_old_ones_place(name):
    kept = keepable({"program": {"id": "p", "modules": []}, "seed": 1})
    assert repeated(kept, {name: "other"}) == {name: "other", "seed": 1}


def test_labels_named_like_a_key_are_kept():
    rows = [{"question": "Which header?", "api_key": "the label"}]
    assert keepable({"trainset": rows})["trainset"] == rows


@given(LMS | NAMES)
def test_the_lm_of_the_envelope_is_kept_unless_it_has_a_key(lm):
    kept = keepable({"seed": 1}, lm)
    assert KEY not in str(kept)
    assert repeated(kept, {}) == {"seed": 1}
    if "api_key" not in lm:
        assert kept_lm(kept) == lm
        return
    with pytest.raises(InvalidArgs) as caught:
        kept_lm(kept)
    assert [fault["path"] for fault in caught.value.details["faults"]] == ["lm"]
