"""The golden frames are current, and `protocol` reads and writes them as they say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from protocol import Codec, FramingError, decode, encode, encode_frame
from protocol.session import DaemonSession, HostSession, Received, Refused
from tests import vectors
from tests.protocol.link import take

GOLDEN = json.loads(vectors.VECTORS.read_text(encoding="ascii"))
CASES = GOLDEN["cases"]
REFUSED = [case for case in GOLDEN["bad"] if "code" in case]
ENDINGS = [case for case in GOLDEN["bad"] if "exit" in case]


def named(case: dict[str, Any]) -> str:
    return str(case["name"])


def received(case: dict[str, Any]) -> list[Any]:
    """What the side that the frame goes to makes of it."""
    frame = bytes.fromhex(case["hex"])
    if case["direction"] == "to_host":
        return list(HostSession().receive_data(frame))
    daemon = DaemonSession()
    if case["version"] > 1:
        daemon.upgrade(case["version"])
    return take(daemon, frame)


def test_the_file_is_current() -> None:
    assert vectors.VECTORS.read_text(encoding="ascii") == vectors.text(), "python -m tests.vectors"


def test_names_are_unique() -> None:
    names = [named(case) for case in [*CASES, *GOLDEN["bad"]]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_frame_decodes_to_its_message(case: dict[str, Any]) -> None:
    frame = bytes.fromhex(case["hex"])
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert decode(frame[4:]) == (Codec(case["codec"]), vectors.meant(case["message"]))


@pytest.mark.parametrize("case", [case for case in CASES if case["canonical"]], ids=named)
def test_message_encodes_to_its_frame(case: dict[str, Any]) -> None:
    message = vectors.meant(case["message"])
    assert encode_frame(encode(Codec(case["codec"]), message).payload).hex() == case["hex"]


@pytest.mark.parametrize("case", CASES, ids=named)
def test_session_takes_the_frame_as_the_message_it_is(case: dict[str, Any]) -> None:
    (item,) = received(case)
    message = item.message if isinstance(item, Received) else item
    wire = vectors.meant(case["message"])
    if case["version"] == 1 and case["direction"] == "to_daemon":
        wire = {key: wire[key] for key in ("id", "command", "args")}
    assert message.to_map() == {"args": {}, **wire} if "command" in wire else wire


@pytest.mark.parametrize("case", REFUSED, ids=named)
def test_bad_frame_is_refused_with_its_code(case: dict[str, Any]) -> None:
    (item,) = received(case)
    assert isinstance(item, Refused)
    assert (item.error.code, item.id) == (case["code"], case["id"])


@pytest.mark.parametrize("case", ENDINGS, ids=named)
def test_stream_that_cannot_be_read_on_is_a_framing_error(case: dict[str, Any]) -> None:
    daemon = DaemonSession()

    def whole_stream() -> list[Any]:
        return [*take(daemon, bytes.fromhex(case["hex"])), *take(daemon)]

    if case["exit"] == 0:
        assert whole_stream() == []
        return
    with pytest.raises(FramingError):
        whole_stream()


@pytest.mark.parametrize("key", ["command", "call", "result", "error", "event", "cancel_call"])
def test_every_kind_of_message_has_cases_in_both_codecs(key: str) -> None:
    codecs = {case["codec"] for case in CASES if key in case["message"]}
    assert codecs == {codec.value for codec in Codec}
