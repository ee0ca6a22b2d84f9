"""The built-in metrics, and the maps that name them."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.metrics import (
    METRICS,
    contains,
    exact_match,
    f1_score,
    max_words,
    normalize,
    parse_metric,
    parse_reward,
    passage_match,
)
from protocol.errors import InvalidArgs, MetricError, Unsupported

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
DATA = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


# What Elixir 1.14 answers for String.downcase |> String.trim |> String.replace(punct, "").
@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("  Paris.  ", "paris"),
        (" . a", " a"),
        ("foo_bar $5 a+b <c> ^ ` | ~", "foobar 5 ab c    "),
        ("“hi”。", "“hi”。"),
        ("ÄÖÜ ß", "äöü ß"),
        ("ΟΔΟΣ", "οδοσ"),
        ("İ", "i̇"),
        ("\u00a0x\u00a0", "x"),
        ("\u200bx", "\u200bx"),
        ("\x1cx\x1f", "\x1cx\x1f"),
        ("a  b", "a  b"),
    ],
)
def test_normalization_is_that_of_the_elixir_host(text: str, normalized: str) -> None:
    assert normalize(text) == normalized


def test_exact_match_looks_past_case_punctuation_and_outer_space() -> None:
    assert exact_match({"answer": "Paris"}, {"answer": " paris!"}) == 1.0
    assert exact_match({"answer": "Paris"}, {"answer": "London"}) == 0.0


def test_exact_match_tells_letters_apart_beyond_ascii() -> None:
    assert exact_match({"answer": "Köln"}, {"answer": "Käln"}) == 0.0


def test_exact_match_compares_numbers_as_numbers() -> None:
    assert exact_match({"answer": 10}, {"answer": 1.0}) == 0.0
    assert exact_match({"answer": 10}, {"answer": 10.0}) == 1.0
    assert exact_match({"answer": "10"}, {"answer": 1.0}) == 0.0
    assert exact_match({"answer": "42"}, {"answer": 42}) == 1.0
    assert exact_match({"answer": True}, {"answer": 1}) == 0.0


def test_exact_match_compares_lists_and_maps_part_by_part() -> None:
    assert exact_match({"answer": ["A", 1]}, {"answer": ["a.", 1]}) == 1.0
    assert exact_match({"answer": ["a", "b"]}, {"answer": ["b", "a"]}) == 0.0
    assert exact_match({"answer": {"x": "A"}}, {"answer": {"x": "a"}}) == 1.0


def test_f1_counts_each_word_once() -> None:
    score = f1_score({"answer": "the the tower"}, {"answer": "tower tower"})
    assert score == pytest.approx(2 / 3)


def test_f1_of_no_words_is_zero() -> None:
    assert f1_score({"answer": "!!!"}, {"answer": "..."}) == 0.0


def test_words_are_not_broken_at_no_break_spaces() -> None:
    assert f1_score({"answer": "a\u00a0b"}, {"answer": "a b"}) == 0.0
    assert f1_score({"answer": "a\u2003b"}, {"answer": "a b"}) == 1.0


@given(st.text(), st.text())
def test_f1_is_symmetric_and_within_0_and_1(one: str, other: str) -> None:
    there = f1_score({"answer": one}, {"answer": other})
    back = f1_score({"answer": other}, {"answer": one})
    assert there == back
    assert 0.0 <= there <= 1.0


@given(st.text())
def test_equal_texts_with_a_word_score_1_everywhere(text: str) -> None:
    same = ({"answer": text}, {"answer": text})
    assert exact_match(*same) == 1.0
    assert contains(*same) == 1.0
    assert f1_score(*same) in (0.0, 1.0)


def test_passage_match_is_the_share_of_gold_passages_cited() -> None:
    example = {"gold_passages": ["a", "b"]}
    assert passage_match(example, {"citations": ["b", "c"]}) == 0.5
    assert passage_match(example, {}) == 0.0
    assert passage_match(example, {"citations": ["A"]}) == 0.0


def test_passage_match_without_gold_passages_is_1() -> None:
    assert passage_match({}, {"citations": ["a"]}) == 1.0
    assert passage_match({"gold_passages": None}, {}) == 1.0
    assert passage_match({"gold_passages": []}, {}) == 1.0


def test_repeating_a_citation_cannot_score_over_1() -> None:
    assert passage_match({"gold_passages": ["a"]}, {"citations": ["a", "a"]}) == 1.0


def test_contains_finds_the_normalized_label() -> None:
    assert contains({"answer": "Gustave Eiffel"}, {"answer": "It was gustave eiffel."}) == 1.0
    assert contains({"answer": "Eiffel"}, {"answer": "Paris"}) == 0.0


def test_an_empty_label_is_not_contained_in_everything() -> None:
    assert contains({"answer": ""}, {"answer": "Paris"}) == 0.0
    assert contains({"answer": ""}, {"answer": ""}) == 1.0


def test_max_words_falls_with_every_word_too_many() -> None:
    assert max_words({}, {"answer": "one two"}, limit=2) == 1.0
    assert max_words({}, {"answer": "one two three four"}, limit=2) == 0.5
    assert max_words({}, {}, limit=2) == 0.0


@pytest.mark.parametrize("function", [exact_match, f1_score, contains])
def test_a_missing_label_is_a_metric_error_that_names_it(function: Any) -> None:
    with pytest.raises(MetricError) as caught:
        function({"question": "?"}, {"answer": "x"})
    assert caught.value.details["field"] == "answer"


@pytest.mark.parametrize("function", [exact_match, f1_score, contains, max_words])
def test_a_missing_prediction_scores_0(function: Any) -> None:
    assert function({"answer": None}, {}) == 0.0


@given(DATA, DATA)
def test_any_data_scores_a_float_within_0_and_1(label: Any, found: Any) -> None:
    example = {"answer": label, "gold_passages": label}
    prediction = {"answer": found, "citations": found}
    for row in METRICS.values():
        value = {"name": row.name, **({"limit": 3} if "limit" in row.keys else {})}
        score = parse_metric(value)(example, prediction)
        assert type(score) is float
        assert 0.0 <= score <= 1.0


def test_a_metric_may_look_at_any_field_and_any_label() -> None:
    metric = parse_metric({"name": "exact_match", "field": "city", "gold": "label"})
    assert metric({"label": "Paris"}, {"city": "paris"}) == 1.0


def test_a_bare_name_has_the_defaults_of_the_host() -> None:
    metric = parse_metric("passage_match")
    assert (metric.field, metric.gold) == ("citations", "gold_passages")


def test_a_threshold_makes_the_score_pass_or_fail() -> None:
    metric = parse_metric({"name": "f1_score", "threshold": 0.5})
    assert metric({"answer": "a b"}, {"answer": "a c"}) == 1.0
    assert metric({"answer": "a b c d"}, {"answer": "a"}) == 0.0


@pytest.mark.parametrize(
    "value", ["exact_match", {"name": "max_words", "limit": 3, "threshold": 1}]
)
def test_a_metric_survives_the_wire(value: Any) -> None:
    metric = parse_metric(value)
    assert parse_metric(metric.to_wire()) == metric


def test_a_misspelt_metric_names_the_nearest() -> None:
    with pytest.raises(InvalidArgs) as caught:
        parse_metric("exact_mach")
    assert caught.value.details["faults"][0]["nearest"] == "exact_match"


@pytest.mark.parametrize("value", ["custom", {"name": "custom"}])
def test_custom_is_refused_and_never_a_silent_default(value: Any) -> None:
    with pytest.raises(InvalidArgs):
        parse_metric(value, "metric")


@pytest.mark.parametrize("value", [{"host": "m"}, {"code": "1"}, {"lm": "semantic_f1"}])
def test_metrics_from_elsewhere_are_unsupported_here(value: Any) -> None:
    with pytest.raises(Unsupported):
        parse_metric(value)
    with pytest.raises(Unsupported):
        parse_reward(value)


def test_every_fault_of_a_metric_is_reported_with_its_path() -> None:
    with pytest.raises(InvalidArgs) as caught:
        parse_metric({"name": "f1_score", "feild": "a", "gold": 1, "threshold": 2}, "metric")
    paths = {fault["path"] for fault in caught.value.details["faults"]}
    assert paths == {"metric.feild", "metric.gold", "metric.threshold"}


@pytest.mark.parametrize("limit", [None, 0, True, "3"])
def test_max_words_needs_a_number_of_words(limit: Any) -> None:
    with pytest.raises(InvalidArgs):
        parse_metric({"name": "max_words", "limit": limit})


@given(DATA)
def test_any_data_is_a_metric_or_an_error_of_ours(value: Any) -> None:
    for parse in (parse_metric, parse_reward):
        with contextlib.suppress(InvalidArgs, Unsupported):
            parse(value)


def test_a_reward_compares_with_a_given_value() -> None:
    reward = parse_reward({"name": "contains", "expected": "Paris"})
    assert reward({}, {"answer": "in Paris"}) == 1.0
    assert parse_reward(reward.to_wire()) == reward


def test_a_reward_compares_with_an_input_field() -> None:
    reward = parse_reward({"name": "f1_score", "field": "summary", "against": "text"})
    assert reward({"text": "a b"}, {"summary": "b a"}) == 1.0
    assert parse_reward(reward.to_wire()) == reward


def test_a_reward_against_an_input_that_is_not_there_is_a_metric_error() -> None:
    with pytest.raises(MetricError):
        parse_reward({"name": "contains", "against": "text"})({}, {"answer": "x"})


def test_a_reward_may_need_nothing_to_compare_with() -> None:
    reward = parse_reward({"name": "max_words", "limit": 1})
    assert reward({}, {"answer": "one two"}) == 0.5
    assert parse_reward(reward.to_wire()) == reward


@pytest.mark.parametrize(
    "value",
    [
        "exact_match",
        {"name": "exact_match", "expected": 1, "against": "x"},
        {"name": "exact_match", "against": 1},
        {"name": "exact_match", "expected": 1, "gold": "x"},
        {"name": "max_words", "limit": 1, "expected": 1},
        "custom",
        None,
    ],
)
def test_a_reward_that_does_not_say_what_it_compares_with_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgs):
        parse_reward(value)
