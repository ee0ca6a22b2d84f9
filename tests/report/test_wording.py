"""Texts compared word by word: nothing is lost, and the marks are where the changes are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.report.wording import MOST_WORDS, compare

prompts = st.text(st.sampled_from("ab .,'-\n\t日本\u0301é_$%"), max_size=60) | st.text(max_size=60)


@given(prompts, prompts)
def test_the_pieces_of_a_text_joined_are_the_text(before: str, after: str) -> None:
    pieces = compare(before, after)
    assert pieces is not None
    assert ["".join(text for text, _ in side) for side in pieces] == [before, after]


@given(prompts, prompts)
def test_what_is_not_marked_is_in_both(before: str, after: str) -> None:
    pieces = compare(before, after)
    assert pieces is not None
    kept = ["".join("".join(text.split()) for text, mark in side if not mark) for side in pieces]
    assert kept[0] == kept[1]


@given(prompts)
def test_equal_texts_have_no_marks(text: str) -> None:
    pieces = compare(text, text)
    assert pieces is not None
    assert not any(mark for side in pieces for _, mark in side)


def test_one_changed_word_is_all_that_is_marked() -> None:
    assert compare("Answer the long question.", "Answer the short question.") == (
        [("Answer the ", False), ("long ", True), ("question.", False)],
        [("Answer the ", False), ("short ", True), ("question.", False)],
    )


def test_an_insertion_leaves_the_other_side_unmarked() -> None:
    pieces = compare("Answer briefly.", "Answer briefly. Cite your source.")
    assert pieces is not None
    assert not any(mark for _, mark in pieces[0])


def test_a_word_or_two_in_common_amid_changes_belong_to_the_change() -> None:
    before, after = "take a red pen of mine now", "take one blue pen or yours now"
    assert compare(before, after) == (
        [("take ", False), ("a red pen of mine ", True), ("now", False)],
        [("take ", False), ("one blue pen or yours ", True), ("now", False)],
    )


def test_scripts_without_spaces_are_compared_by_the_character() -> None:
    pieces = compare("質問に答える。", "質問に短く答える。")
    assert pieces is not None
    assert [text for text, mark in pieces[1] if mark] == ["短く"]


def test_texts_beyond_the_bound_are_not_compared() -> None:
    assert compare("a " * (MOST_WORDS + 1), "b") is None
