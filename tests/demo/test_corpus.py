"""The demo's data: consistent, answerable, and held-out questions held out."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from bridge.embedded.text import names

SEED_PASSAGES = [
    "The Eiffel Tower is located in Paris, France.",
    "Construction of the Eiffel Tower began in 1887.",
    "The tower was designed by Gustave Eiffel.",
    "Paris is the capital of France.",
]
SEED_QUESTIONS = {
    "What is the capital of the country where the Eiffel Tower is located?": "Paris",
    "Who designed the tower that was built in 1887 in Paris?": "Gustave Eiffel",
}


def rows(name: str) -> list[dict]:
    text = resources.files("bridge").joinpath("demo", name).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


CORPUS = rows("corpus.jsonl")
QUESTIONS = rows("questions.jsonl")
TEXTS = {row["text"] for row in CORPUS}


def test_the_corpus_has_more_than_two_hundred_distinct_passages():
    assert len(TEXTS) == len(CORPUS) >= 220
    assert len({row["id"] for row in CORPUS}) == len(CORPUS)
    assert all(set(row) == {"id", "title", "text"} for row in CORPUS)


@pytest.mark.parametrize("text", SEED_PASSAGES)
def test_the_seeds_passages_are_there_verbatim(text):
    assert text in TEXTS


def test_the_seeds_questions_are_there():
    answers = {row["question"]: row["answer"] for row in QUESTIONS}
    assert {q: answers.get(q) for q in SEED_QUESTIONS} == SEED_QUESTIONS


def test_every_gold_passage_is_in_the_corpus_verbatim():
    assert {text for row in QUESTIONS for text in row["gold_passages"]} <= TEXTS


def test_every_answer_stands_in_its_last_gold_passage():
    for row in QUESTIONS:
        assert row["answer"] in row["gold_passages"][-1], row["question"]


def test_every_answer_needs_two_different_passages():
    for row in QUESTIONS:
        assert len(set(row["gold_passages"])) == 2, row["question"]


def test_the_second_passage_is_reached_by_a_name_or_word_of_the_first():
    for row in QUESTIONS:
        first, second = (text.lower() for text in row["gold_passages"])
        words = {w for n in names(row["gold_passages"][0]) for w in n.text.lower().split()}
        assert any(word in second for word in words), (first, second)


def test_no_question_says_its_answer():
    for row in QUESTIONS:
        if row["question"] not in SEED_QUESTIONS:
            assert row["answer"] not in row["question"], row["question"]


def test_each_split_is_large_enough_and_no_question_is_in_two():
    splits = {
        split: [row["question"] for row in QUESTIONS if row["split"] == split]
        for split in ("train", "dev", "heldout")
    }
    assert all(len(questions) >= 15 for questions in splits.values())
    every = [question for questions in splits.values() for question in questions]
    assert len(set(every)) == len(every) == len(QUESTIONS)


def test_held_out_questions_start_from_passages_that_train_does_not():
    train = {row["gold_passages"][0] for row in QUESTIONS if row["split"] == "train"}
    heldout = {row["gold_passages"][0] for row in QUESTIONS if row["split"] == "heldout"}
    assert not train & heldout
