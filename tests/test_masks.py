"""The masks over many secrets: what one search for each would find, at a price that stays."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import secrets as module
from bridge.secrets import MOST_SEARCHED, SHORTEST_SECRET, Secrets

KEYS = [f"sk-{number * 7919:_>20}-{number:x}" for number in range(MOST_SEARCHED + 40)]

texts = st.lists(
    st.one_of(
        st.sampled_from(KEYS), st.text("sk-_0123abc", max_size=9), st.sampled_from(["é", "ÿ\n"])
    ),
    max_size=12,
).map("".join)


@pytest.fixture(scope="module")
def many() -> Secrets:
    secrets = Secrets()
    for key in KEYS:
        secrets.add(key)
    return secrets


def one_by_one(text: str) -> str:
    for key in sorted(KEYS, key=len, reverse=True):
        text = text.replace(key, "*" * len(key))
    return text


@given(text=texts, block=st.sampled_from([4, 16, 64, 65_536]))
def test_of_many_secrets_each_is_found_wherever_it_lies(many, text, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        assert many.mask_text(text) == one_by_one(text)
        assert many.mask_bytes(text.encode()) == one_by_one(text).encode()


def test_the_shortest_secrets_are_found_among_many_at_every_place(many):
    short = "q" * (SHORTEST_SECRET - 1) + "z"
    many.add(short)
    for before in range(9):
        assert short.encode() not in many.mask_bytes(b"." * before + short.encode() + b"....")


def test_what_is_forgotten_is_not_searched_for_any_more(monkeypatch):
    monkeypatch.setattr(module, "MOST_SECRETS", MOST_SEARCHED + 10)
    secrets = Secrets()
    for key in KEYS:
        secrets.add(key)
    forgotten, remembered = KEYS[0], KEYS[-1]
    assert secrets.mask_text(forgotten + remembered) == forgotten + "*" * len(remembered)
    assert len(secrets._spellings) == MOST_SEARCHED + 10


def test_ten_times_as_many_secrets_cost_a_reply_about_the_same():
    payload = b'{"id": 1, "result": {"answer": "The capital of France is Paris."}}' * 8

    def seconds(count: int) -> float:
        secrets = Secrets()
        for number in range(count):
            secrets.add(f"sk-proj-{number * 7919:032x}")
        rounds = []
        for _ in range(5):
            begun = time.thread_time()
            for _ in range(200):
                secrets.mask_bytes(payload)
            rounds.append(time.thread_time() - begun)
        return min(rounds)

    assert seconds(5_000) < 4 * seconds(500)


def test_a_secret_that_comes_while_beginnings_are_made_is_among_them(monkeypatch):
    secrets = Secrets()
    secrets.add("sk-first-key-0001")
    adding = threading.Thread(target=secrets.add, args=("sk-brand-new-key-7777",))

    class Overtaken(module._Beginnings):
        def __init__(self, spellings):
            super().__init__(spellings)
            if not adding.ident:
                adding.start()
                adding.join(0.2)

    monkeypatch.setattr(module, "_Beginnings", Overtaken)
    secrets.safe("abc")
    adding.join()
    text = "the key is sk-brand-new"
    assert secrets.safe(text) == len("the key is ")
