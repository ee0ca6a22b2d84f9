"""A real daemon answers the golden frames: each bad one by its code, each ping by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import vectors
from tests.daemon.raw_daemon import RawDaemon, written

GOLDEN = json.loads(vectors.VECTORS.read_text(encoding="ascii"))
TO_DAEMON = [case for case in GOLDEN["bad"] if case["direction"] == "to_daemon"]
HELLO = {"id": "hello", "command": "hello", "args": {"protocol": [2], "accepts": []}}


def frame_of(case: dict[str, Any]) -> bytes:
    frame = bytes.fromhex(case["hex"])
    # A header over the limit is all that the file holds of its frame.
    return frame + bytes(int.from_bytes(frame, "big") if case["name"].startswith("a header") else 0)


def test_bad_frames_are_answered_with_their_codes_and_the_connection_goes_on() -> None:
    cases = [case for case in TO_DAEMON if "code" in case]
    with RawDaemon() as daemon:
        assert daemon.ask(HELLO)["result"]["protocol"] == 2
        writing = daemon.write_behind(b"".join(map(frame_of, cases)) + written({**HELLO, "id": 0}))
        answers = [daemon.message() for _ in range(len(cases) + 1)]
        writing.join()
    errors = [answer for answer in answers if "error" in answer]
    assert [(each["error"]["code"], each["id"]) for each in errors] == [
        (case["code"], case["id"]) for case in cases
    ]


def test_golden_pings_come_back_as_they_were_sent() -> None:
    cases = [
        case
        for case in GOLDEN["cases"]
        if case["direction"] == "to_daemon" and case["message"].get("command") == "ping"
    ]
    with RawDaemon() as daemon:
        assert daemon.ask(HELLO)["result"]["protocol"] == 2
        for case in cases:
            if case["version"] == 1 and "colour" in case["message"]:
                continue
            daemon.write(bytes.fromhex(case["hex"]))
            answer = daemon.message()
            sent = vectors.meant(case["message"])
            assert answer == {"id": sent["id"], "result": sent.get("args", {})}, case["name"]


@pytest.mark.parametrize(
    "case", [case for case in TO_DAEMON if "exit" in case], ids=lambda case: str(case["name"])
)
def test_stream_that_cannot_be_read_on_ends_the_daemon(case: dict[str, Any]) -> None:
    with RawDaemon() as daemon:
        daemon.write(bytes.fromhex(case["hex"]))
        daemon.end_input()
        assert daemon.status() == case["exit"]
