"""The passage index: what it finds, in which order, and what it refuses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.retrieval import MAX_K, MAX_TEXT_CHARS, PassageIndex
from protocol.errors import InvalidArgs

TEXTS = [
    "The Eiffel Tower is located in Paris, France.",
    "Paris is the capital of France.",
    "The Seine flows through Paris.",
    "Málaga is a city in Spain.",
]


@pytest.fixture(scope="module")
def index():
    return PassageIndex(TEXTS)


def test_the_passage_with_most_of_the_words_comes_first(index):
    assert index.search("capital of France", 2)[0].text == TEXTS[1]


def test_at_most_k_passages_are_found(index):
    assert len(index.search("Paris", 2)) == 2


def test_scores_fall_and_are_positive(index):
    scores = [p.score for p in index.search("Paris France capital", 4)]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0


def test_word_forms_and_accents_match(index):
    assert index.search("flowing", 1)[0].text == TEXTS[2]
    assert index.search("malaga", 1)[0].text == TEXTS[3]


def test_stop_words_do_not_find_passages_beside_other_words(index):
    assert index.search("the zebra", 4) == []


def test_stop_words_alone_are_searched_for(index):
    assert index.search("through", 4)[0].text == TEXTS[2]
    assert index.search("the", 4) != []


@pytest.mark.parametrize("query", ["", "  ", "?!", '"'])
def test_a_query_without_words_finds_nothing(index, query):
    assert index.search(query, 3) == []


def test_ties_keep_the_order_given():
    index = PassageIndex(["red fox", "red fox", "red fox"])
    assert [p.id for p in index.search("fox", 3)] == ["1", "2", "3"]


def test_ids_are_the_callers_or_the_place():
    index = PassageIndex([{"text": "red fox", "id": "a"}, "red hen", {"text": "red cow", "id": 7}])
    assert {p.id for p in index.search("red", 3)} == {"a", "2", "7"}


def test_every_faulty_passage_is_named():
    with pytest.raises(InvalidArgs) as caught:
        PassageIndex(["ok", " ", {"id": "x"}, {"text": "y", "id": "1"}, "z" * (MAX_TEXT_CHARS + 1)])
    paths = [fault["path"] for fault in caught.value.details["faults"]]
    assert paths == ["passages[1].text", "passages[2].text", "passages[3].id", "passages[4].text"]


@pytest.mark.parametrize("k", [0, -1, MAX_K + 1, True, 1.5])
def test_k_out_of_bounds_is_refused(index, k):
    with pytest.raises(InvalidArgs):
        index.search("Paris", k)


def test_an_empty_index_finds_nothing():
    assert PassageIndex([]).search("anything", 3) == []


def test_many_threads_get_what_one_gets(index):
    queries = ["Paris", "France capital", "Seine", "Spain"] * 50
    alone = [index.search(q, 3) for q in queries]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda q: index.search(q, 3), queries)) == alone


@given(st.text(), st.integers(1, 5))
def test_no_query_is_syntax(query, k):
    assert len(PassageIndex(TEXTS).search(query, k)) <= k


@given(st.lists(st.text(st.characters(categories=["Ll"]), min_size=1), min_size=1, max_size=8))
def test_a_search_is_deterministic(words):
    one, two = PassageIndex(words), PassageIndex(words)
    assert one.search(words[0], 5) == two.search(words[0], 5)
