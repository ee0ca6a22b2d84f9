"""What a run's LMs answered, from the file and to it."""

from __future__ import annotations

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from dspy.lm15 import Message, Response, TextPart, Usage
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine.runs.record import LMRecord
from bridge.scope import Budget
from bridge.specs.lms import parse_lm
from tests.engine.workshop import CONFIGS, Watched, Workshop

SPEC: Any = parse_lm({"model": "embedded/lexical", "api_key": "secret"}, "lm")
OTHER: Any = parse_lm({"model": "embedded/echo"}, "lm")


def said(text: str) -> Response:
    return Response(
        id="r",
        model="m",
        message=Message.assistant([TextPart(text)]),
        finish_reason="stop",
        usage=Usage(input_tokens=1, output_tokens=2),
    )


def test_what_was_kept_is_replayed_with_its_usage(tmp_path: Path) -> None:
    LMRecord(tmp_path / "calls").keep(SPEC, b"request", said("hello"))
    found = LMRecord(tmp_path / "calls").replay(SPEC, b"request")
    assert found is not None
    assert (found.text, found.usage.output_tokens) == ("hello", 2)


def test_a_record_does_not_replay_to_itself(tmp_path: Path) -> None:
    record = LMRecord(tmp_path / "calls")
    record.keep(SPEC, b"request", said("hello"))
    assert record.replay(SPEC, b"request") is None


def test_another_lm_and_another_request_have_answers_of_their_own(tmp_path: Path) -> None:
    LMRecord(tmp_path / "calls").keep(SPEC, b"request", said("hello"))
    record = LMRecord(tmp_path / "calls")
    assert record.replay(OTHER, b"request") is None
    assert record.replay(SPEC, b"another") is None


@given(st.lists(st.integers(0, 3), max_size=30), st.randoms())
def test_the_nth_equal_request_gets_the_nth_answer_in_whatever_order_requests_come(
    keys: list[int], random: Any
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls"
        record = LMRecord(path)
        for number, key in enumerate(keys):
            record.keep(SPEC, b"%d" % key, said(f"{key}:{number}"))
        record.close()
        again, order = LMRecord(path), list(keys)
        random.shuffle(order)
        answers: dict[int, list[Any]] = {key: [] for key in keys}
        for key in order:
            found = again.replay(SPEC, b"%d" % key)
            assert found is not None
            answers[key].append(found.text)
        again.close()
        for key, texts in answers.items():
            assert texts == [f"{key}:{n}" for n, k in enumerate(keys) if k == key]


@pytest.mark.parametrize("torn", [b'{"k":"ab', b'{"k":"zz","r":{}}\n', b"\xff\n", b"[1]\n"])
def test_a_damaged_line_is_left_out_and_the_next_one_is_whole(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "calls"
    LMRecord(path).keep(SPEC, b"one", said("1"))
    with path.open("ab") as file:
        file.write(torn)
    LMRecord(path).keep(SPEC, b"two", said("2"))
    record = LMRecord(path)
    assert [getattr(record.replay(SPEC, key), "text", None) for key in (b"one", b"two")] == [
        "1",
        "2",
    ]


def test_lines_from_many_threads_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    record = LMRecord(path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: record.keep(SPEC, b"%d" % n, said("x" * 5_000)), range(64)))
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 64


def test_the_file_is_for_its_owner_and_holds_no_credential(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "calls"
    LMRecord(path).keep(SPEC, b"request", said("hello"))
    assert path.stat().st_mode & 0o077 == 0
    assert b"secret" not in path.read_bytes()


def test_a_secret_that_an_lm_repeats_is_masked_in_the_file(tmp_path: Path) -> None:
    def mask(line: bytes) -> bytes:
        return line.replace(b"sk-12345678", b"***********")

    LMRecord(tmp_path / "calls", mask).keep(SPEC, b"request", said('your key is "sk-12345678"'))
    assert b"sk-12345678" not in (tmp_path / "calls").read_bytes()
    found = LMRecord(tmp_path / "calls").replay(SPEC, b"request")
    assert found is not None
    assert found.text == 'your key is "***********"'


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_plan_asks_nothing_anew_and_comes_to_the_same_result(
    name: str, tmp_path: Path
) -> None:
    first = Workshop().optimize(name, record=tmp_path / "calls", seed=7)
    second = Workshop().optimize(name, record=tmp_path / "calls", seed=7)
    assert second["stats"]["lm_calls"] == 0
    assert second["stats"]["cached_calls"] == first["stats"]["lm_calls"]
    changing = {"stats", "traces"}
    assert {k: v for k, v in second.items() if k not in changing} == {
        k: v for k, v in first.items() if k not in changing
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_that_died_pays_only_for_what_it_had_not_asked(name: str, tmp_path: Path) -> None:
    path = tmp_path / "calls"
    whole = Workshop().optimize(name, record=path)
    lines = path.read_bytes().splitlines(keepends=True)
    left = lines[: len(lines) * 3 // 5]
    path.write_bytes(b"".join(left) + lines[-1][:40])
    shop = Workshop()
    lm = shop.behind(Watched)
    resumed = shop.optimize(name, record=path)
    assert resumed["stats"]["cached_calls"] >= 0.9 * len(left)
    assert lm.calls == resumed["stats"]["lm_calls"] <= len(lines) - 0.9 * len(left)
    assert resumed["optimized_program"] == whole["optimized_program"]


def test_replayed_calls_spend_nothing_of_the_budget(tmp_path: Path) -> None:
    calls = Workshop().optimize("BootstrapFewShot", record=tmp_path / "calls")["stats"]["lm_calls"]
    again = Workshop().optimize(
        "BootstrapFewShot", record=tmp_path / "calls", budget=Budget(lm_calls=1)
    )
    assert again["status"] == "completed"
    assert again["stats"]["cached_calls"] == calls
