"""Whatever prints, no frame is torn: stray output goes to standard error, and stdin is empty."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.daemon.raw_daemon import ROOT, RawDaemon, packed, written

if TYPE_CHECKING:
    from collections.abc import Iterator

NOISY = (sys.executable, str(ROOT / "tests" / "noisy_daemon.py"))
LINES_A_CALL = 100
CALLS = 100


@pytest.fixture
def noisy() -> Iterator[RawDaemon]:
    with RawDaemon(argv=NOISY) as daemon:
        for message in (
            {
                "id": "lm",
                "command": "configure",
                "args": {"lm": {"provider": "embedded", "model": "echo"}},
            },
            {
                "id": "module",
                "command": "create_module",
                "args": {"id": "m", "type": "predict", "signature": "question -> answer"},
            },
        ):
            assert "result" in daemon.ask(message)
        yield daemon


def forward(number: int) -> dict[str, object]:
    inputs = {"question": f"question {number}"}
    return {"id": number, "command": "forward", "args": {"module_id": "m", "inputs": inputs}}


def test_ten_thousand_lines_by_each_way_of_printing_tear_no_frame(noisy: RawDaemon) -> None:
    for number in range(CALLS):
        encode = packed if number % 2 else written
        noisy.write(encode(forward(number)))
    answers = [noisy.message() for _ in range(CALLS)]
    wanted = [{"id": n, "result": {"answer": f"question {n}"}} for n in range(CALLS)]
    assert sorted(answers, key=lambda answer: answer["id"]) == wanted

    noisy.end_input()
    assert noisy.everything() == b""
    assert noisy.status() == 0
    log = noisy.log()
    # The proof that the noise was made, and where it went.
    for way in ("by print ", "by os.write ", "by echo ", "by tqdm"):
        assert log.count(way) >= LINES_A_CALL * CALLS, way


def test_reading_standard_input_inside_the_daemon_finds_its_end_at_once(noisy: RawDaemon) -> None:
    # The ping behind the forward is what a thief would find.
    noisy.write(written(forward(1)) + written({"id": 2, "command": "ping", "args": {"n": 2}}))
    answers = {answer["id"]: answer["result"] for answer in (noisy.message(), noisy.message())}
    assert answers == {1: {"answer": "question 1"}, 2: {"n": 2}}
