"""Numbers and axes: as a person reads them, for any number that there is."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.report.charts import axis
from bridge.report.figures import MINUS, count, duration, moment, money, plural, score, signed
from bridge.report.trials import read_trials, spending, thinned

numbers = st.floats(-1e15, 1e15, allow_nan=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.500"),
        (1, "1.000"),
        (-0.25, f"{MINUS}0.250"),
        (42.0, "42.0"),
        (0.0001, f"1.0e{MINUS}04"),
    ],
)
def test_scores_have_three_decimals(value: float, text: str) -> None:
    assert score(value) == text


def test_a_difference_has_a_sign() -> None:
    assert [signed(0.25), signed(-0.25), signed(0.0)] == ["+0.250", f"{MINUS}0.250", "0.000"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "no known price"),
        (0.0, "$0.00"),
        (0.25, "$0.25"),
        (0.0042, "$0.0042"),
        (1234.5, "$1,234.50"),
        (1e-12, "$0.00000000"),
    ],
)
def test_money_shows_what_counts(value: float | None, text: str) -> None:
    assert money(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123, "12 ms"),
        (3.44, "3.4 s"),
        (59.97, "1 min 0 s"),
        (125, "2 min 5 s"),
        (4320, "1 h 12 min"),
    ],
)
def test_durations_are_told_in_the_unit_that_suits_them(value: float, text: str) -> None:
    assert duration(value) == text


def test_counts_have_their_noun() -> None:
    assert [plural(1, "row"), plural(1200, "row")] == ["1 row", "1,200 rows"]


def test_a_moment_may_be_seconds_or_text_or_nonsense() -> None:
    assert moment(0) == "1 January 1970, 00:00:00 UTC"
    assert moment("2026-11-22T10:00:00Z") == "2026-11-22T10:00:00Z"
    assert moment(1e14) is None
    assert moment([]) is None


@given(numbers)
def test_any_number_has_a_text(value: float) -> None:
    for text in (score, signed, count, money, duration):
        assert text(value)
    moment(value)


@given(st.lists(numbers, min_size=1, max_size=20))
def test_an_axis_holds_its_values_between_few_even_marks(values: list[float]) -> None:
    marks = axis(values)
    step = marks[1] - marks[0]
    assert 2 <= len(marks) <= 12
    assert step > 0
    slack = 1e-5 * step
    assert marks[0] <= min(values) + slack
    assert max(values) <= marks[-1] + slack
    assert all(math.isclose(b - a, step, rel_tol=1e-3) for a, b in pairwise(marks))


def test_scores_that_are_all_the_same_have_an_axis() -> None:
    assert axis([0.5, 0.5])[0] <= 0.5 <= axis([0.5, 0.5])[-1]
    assert axis([0.0]) == axis([1.0])


def test_reports_without_a_score_are_no_trials() -> None:
    history = [{"trial": 0, "score": None}, {"trial": 1, "score": 0.5}, {"trial": 1}, None]
    assert [(trial.name, trial.score) for trial in read_trials(history)] == [("1", 0.5)]


def test_the_last_score_of_a_trial_counts() -> None:
    history = [{"trial": 1, "score": 0.5}, {"trial": 1, "score": 0.6}]
    assert [trial.score for trial in read_trials(history)] == [0.6]


def test_the_best_so_far_is_found_where_it_is_not_told() -> None:
    history = [{"score": value} for value in (0.2, 0.5, 0.3)]
    assert [trial.best for trial in read_trials(history)] == [0.2, 0.5, 0.5]


def test_each_trial_took_what_was_added_since_the_one_before() -> None:
    history = [{"score": 1, "tokens": total, "cost": None} for total in (10, 15, 40)]
    taken = spending(read_trials(history))
    assert taken is not None
    assert (taken.unit, taken.values) == ("tokens", (10, 5, 25))


def test_a_unit_that_some_trials_lack_is_not_drawn() -> None:
    history = [{"score": 1, "cost": 1.0, "lm_calls": 3}, {"score": 1, "lm_calls": 9}]
    taken = spending(read_trials(history))
    assert taken is not None
    assert taken.unit == "lm_calls"


@given(st.integers(1, 2_000), st.integers(2, 300))
def test_thinning_keeps_the_last_and_the_bound(total: int, most: int) -> None:
    trials = read_trials([{"trial": at, "score": 0} for at in range(total)])
    kept = thinned(trials, most)
    assert kept[-1] == trials[-1]
    assert len(kept) <= most + 1
