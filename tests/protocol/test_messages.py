"""Envelopes: `protocol.messages` and `protocol.checks`."""

from __future__ import annotations

import pytest
from hypothesis import given

from protocol.checks import MAX_ID_LENGTH
from protocol.errors import InvalidMessage
from protocol.messages import (
    CancelCall,
    ErrorReply,
    Event,
    HostAnswer,
    HostCall,
    Reply,
    Request,
    id_of,
    parse_from_daemon,
    parse_from_host,
)
from tests.protocol.strategies import from_daemon, from_host, patient, requests, values


def faults(version, message):
    with pytest.raises(InvalidMessage) as caught:
        parse_from_host(version, message)
    return {fault["path"]: fault for fault in caught.value.details["faults"]}


def request(**more):
    return {"id": 1, "command": "ping", "args": {}, **more}


# --- round trips ------------------------------------------------------------------------------


@patient
@given(from_host)
def test_what_a_host_sends_survives_its_map(message):
    assert parse_from_host(2, message.to_map()) == message


@patient
@given(from_daemon)
def test_what_the_daemon_sends_survives_its_map(message):
    assert parse_from_daemon(message.to_map()) == message


@patient
@given(requests)
def test_a_request_map_has_no_key_that_is_not_set(message):
    wire = message.to_map()
    assert None not in [value for key, value in wire.items() if key != "args"]
    assert list(wire)[:3] == ["id", "command", "args"]


def test_a_bare_request_is_three_keys():
    assert Request(1, "ping", {}).to_map() == {"id": 1, "command": "ping", "args": {}}


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (Reply(1, None), {"id": 1, "result": None}),
        (ErrorReply(None, "busy: later"), {"id": None, "error": "busy: later"}),
        (Event("ready", None, {}), {"event": "ready", "id": None, "data": {}}),
        (
            HostCall(3, "tool", "search", {"q": "x"}, 1),
            {"call": 3, "target": "tool", "name": "search", "args": {"q": "x"}, "id": 1},
        ),
        (CancelCall(3), {"cancel_call": 3}),
        (HostAnswer(3, result=None), {"call": 3, "result": None}),
        (HostAnswer(3, error="no"), {"call": 3, "error": "no"}),
    ],
)
def test_every_message_has_one_wire_map(message, wire):
    assert message.to_map() == wire


def test_messages_cannot_be_changed():
    with pytest.raises(AttributeError):
        Request(1, "ping", {}).id = 2


# --- requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("args", [{}, {"args": None}, {"args": {}}])
def test_args_may_be_missing_or_null(version, args):
    assert parse_from_host(version, {"id": 1, "command": "ping", **args}) == Request(1, "ping", {})


@pytest.mark.parametrize("id_", [0, -1, 2**64 - 1, 10**30, "", "a", "x" * MAX_ID_LENGTH])
def test_an_id_is_any_integer_or_a_string(id_):
    assert parse_from_host(2, request(id=id_)).id == id_


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("id_", [True, None, 1.0, [], {}, b"a", "x" * (MAX_ID_LENGTH + 1)])
def test_no_other_value_is_an_id(version, id_):
    assert list(faults(version, request(id=id_))) == ["id"]


def test_version_1_reads_three_keys_and_ignores_the_others():
    message = request(deadline_ms=5, stream="yes", whatever=1, call=3)
    assert parse_from_host(1, message) == Request(1, "ping", {})


def test_version_1_has_no_answers_to_host_calls():
    assert set(faults(1, {"call": 1, "result": 2})) == {"id", "command"}


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("id", None),
        ("command", None),
        ("command", 7),
        ("args", []),
        ("args", "x"),
        ("deadline_ms", 1.0),
        ("deadline_ms", True),
        ("deadline_ms", -1),
        ("deadline_ms", "100"),
        ("budget", 7),
        ("budget", {"lm_cals": 1}),
        ("budget", {"lm_calls": 1.5}),
        ("budget", {"tokens": -1}),
        ("budget", {"cost_usd": True}),
        ("budget", {"seconds": float("nan")}),
        ("budget", {"seconds": float("inf")}),
        ("stream", 1),
        ("tenant", 1),
        ("lm", 1),
        ("trace", "on"),
        ("trace", {}),
        ("trace", {"traceparent": 1}),
        ("parent", 1.5),
        ("parent", False),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_by_its_key(key, wrong):
    assert list(faults(2, request(**{key: wrong}))) == [key]


def test_a_missing_key_is_named():
    assert set(faults(2, {})) == {"id", "command"}


def test_null_is_the_same_as_leaving_an_option_out():
    options = ("deadline_ms", "budget", "stream", "tenant", "lm", "trace", "parent")
    assert parse_from_host(2, request(**dict.fromkeys(options))) == Request(1, "ping", {})


def test_every_option_is_read():
    options = {
        "deadline_ms": 0,
        "budget": {"lm_calls": 3, "tokens": None, "cost_usd": 0.5, "seconds": 2},
        "stream": True,
        "tenant": "acme",
        "lm": {"model": "m"},
        "trace": {"traceparent": "00-1-2-01"},
        "parent": 9,
    }
    assert parse_from_host(2, request(**options)) == Request(1, "ping", {}, **options)


@pytest.mark.parametrize(
    ("unknown", "nearest"),
    [("deadline", "deadline_ms"), ("arg", "args"), ("comand", "command"), ("tennant", "tenant")],
)
def test_an_unknown_key_is_told_with_the_nearest_right_one(unknown, nearest):
    assert faults(2, request(**{unknown: 1}))[unknown]["nearest"] == nearest


def test_a_key_like_no_other_is_told_without_a_nearest_one():
    assert "nearest" not in faults(2, request(zzzzzzzz=1))["zzzzzzzz"]


def test_all_faults_are_told_at_once():
    message = {"id": True, "args": [], "deadline": 1, "stream": 1, "xyz": 2}
    assert set(faults(2, message)) == {"id", "command", "args", "deadline", "stream", "xyz"}


def test_the_faults_have_a_bound():
    message = request(**{f"key{number}": 1 for number in range(1000)}, **{"k" * 100_000: 1})
    with pytest.raises(InvalidMessage) as caught:
        parse_from_host(2, message)
    assert len(caught.value.details["faults"]) == 32
    assert len(str(caught.value.to_wire())) < 10_000


def test_a_misspelt_budget_is_told_with_the_right_key():
    assert "lm_calls" in faults(2, request(budget={"lm_cals": 1}))["budget"]["message"]


# --- answers ----------------------------------------------------------------------------------


@patient
@given(values)
def test_an_answer_carries_any_result(result):
    assert parse_from_host(2, {"call": 1, "result": result}) == HostAnswer(1, result)


@pytest.mark.parametrize(
    "error", ["text", {"code": "c", "message": "m"}, {"code": "c", "message": "m", "details": {}}]
)
def test_an_answer_carries_an_error_as_text_or_map(error):
    assert parse_from_host(2, {"call": 1, "error": error}) == HostAnswer(1, None, error)


def test_an_answer_with_both_keys_is_told_by_the_one_that_is_not_null():
    assert parse_from_host(2, {"call": 1, "result": 5, "error": None}) == HostAnswer(1, 5)
    assert parse_from_host(2, {"call": 1, "result": None, "error": "x"}) == HostAnswer(1, None, "x")


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"call": 1}, "result"),
        ({"call": 1, "error": None}, "result"),
        ({"call": 1, "result": 1, "error": "x"}, "error"),
        ({"call": None, "result": 1}, "call"),
        ({"call": True, "result": 1}, "call"),
        ({"call": 1, "error": 5}, "error"),
        ({"call": 1, "error": {"code": "c"}}, "error"),
        ({"call": 1, "error": {"code": 1, "message": "m"}}, "error"),
        ({"call": 1, "results": 1, "result": 1}, "results"),
    ],
)
def test_a_broken_answer_is_named_by_its_key(wrong, path):
    assert list(faults(2, wrong)) == [path]


# --- the other side ---------------------------------------------------------------------------


def test_a_client_ignores_keys_it_does_not_know():
    assert parse_from_daemon({"id": 1, "result": 2, "new": 3}) == Reply(1, 2)


def test_an_event_or_host_call_needs_no_id():
    assert parse_from_daemon({"event": "ready", "data": {}}) == Event("ready", None, {})
    call = {"call": 1, "target": "lm", "name": "m", "args": {}}
    assert parse_from_daemon(call) == HostCall(1, "lm", "m", {}, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"id": 1},
        {"result": 1},
        {"id": None, "result": 1},
        {"id": 1, "error": None},
        {"id": 1, "error": {"code": "x"}},
        {"event": 1, "data": {}},
        {"event": "ready"},
        {"call": 1, "target": "tool", "args": {}},
        {"call": 1, "target": "tool", "name": "n", "args": []},
        {"cancel_call": None},
    ],
)
def test_what_is_no_message_of_the_daemon_is_refused(wrong):
    with pytest.raises(InvalidMessage):
        parse_from_daemon(wrong)


def test_the_code_of_an_error_reply_reads_the_same_in_both_versions():
    assert ErrorReply(1, "not_found: no module: x").code == "not_found"
    assert ErrorReply(1, {"code": "not_found", "message": "no module: x"}).code == "not_found"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"id": 7}, 7),
        ({"id": "a", "command": 1}, "a"),
        ({"id": 2**64 - 1}, 2**64 - 1),
        ({"id": True}, None),
        ({"id": 1.0}, None),
        ({"id": []}, None),
        ({"id": "x" * (MAX_ID_LENGTH + 1)}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_id_of_a_broken_message_is_read_where_it_can_be(message, expected):
    assert id_of(message) == expected
