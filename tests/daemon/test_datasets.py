"""`put_dataset`: examples under the host's id, wherever examples may stand."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.daemon.asking import faults, new_id, refused
from tests.daemon.optimizing import PATIENCE, TRAIN, local, open_daemon, request, two_hop

QA = {"id": "qa", "type": "predict", "signature": "question -> answer"}

ROWS = st.lists(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
        max_size=4,
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with open_daemon(tmp_path_factory.mktemp("state")) as port:
        port.call("create_module", QA)
        yield port


def put(port, key, examples, **more):
    return port.call("put_dataset", {"id": key, "examples": examples, **more})


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, data=st.data())
def test_pieces_make_the_same_dataset_as_all_at_once(daemon, rows, data):
    whole, pieces = new_id("d"), new_id("d")
    kept = put(daemon, whole, rows)
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=3).map(sorted))
    made = put(daemon, pieces, [])
    for begin, end in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        made = put(daemon, pieces, rows[begin:end], append=True)
    assert kept == {"id": whole, "count": len(rows), "version": made["version"]}
    assert made["count"] == len(rows)
    assert daemon.call("get", {"kind": "dataset", "id": pieces})["examples"] == rows


def test_other_examples_or_another_order_are_another_version(daemon):
    one, two = {"question": "a"}, {"question": "b"}
    versions = {put(daemon, "v", rows)["version"] for rows in ([], [one], [one, two], [two, one])}
    assert len(versions) == 4


def test_without_append_the_old_examples_are_gone(daemon):
    put(daemon, "replaced", TRAIN[:4])
    assert put(daemon, "replaced", TRAIN[:1])["count"] == 1
    assert daemon.call("get", {"kind": "dataset", "id": "replaced"})["examples"] == TRAIN[:1]


def test_an_id_may_be_a_number_and_is_the_same_as_its_text(daemon):
    assert put(daemon, 7, TRAIN[:1])["id"] == 7
    assert put(daemon, "7", TRAIN[:1], append=True)["count"] == 2


def test_datasets_are_listed_and_deleted(daemon):
    kept = put(daemon, "listed", TRAIN[:2])
    assert kept in daemon.call("list", {"kind": "dataset"})["datasets"]
    assert daemon.call("delete", {"kind": "dataset", "id": "listed"})["deleted"]
    assert kept not in daemon.call("list")["datasets"]
    for command in ("get", "delete"):
        error = refused(daemon, command, {"kind": "dataset", "id": "listed"})
        assert (error["code"], error["details"]["need"]) == ("not_found", "dataset")


def test_a_run_learns_from_datasets_by_their_ids(daemon):
    put(daemon, "train", TRAIN[:4])
    put(daemon, "val", TRAIN[4:8])
    given = request("LabeledFewShot", trainset="train", valset="val", program=two_hop("ds:"))
    result = daemon.call("optimize", given, timeout=PATIENCE)
    assert [row["example"] for row in result["rows"]] == TRAIN[4:8]
    asked = {demo["question"] for demo in result["module_demos"]["ds:generate_answer"]}
    assert asked == {row["question"] for row in TRAIN[:4]}
    assert result["scores"]["val"] == result["score"]


def test_what_is_in_flight_keeps_the_examples_it_began_with(daemon, lm_server):
    model = "begun+slow-300"
    put(daemon, "changing", [{"question": "old", "answer": "x"}])
    args = {"module_id": "qa", "devset": "changing", "metric": "exact_match"}
    # Sent together: they take effect in order of arrival.
    future = daemon.send("evaluate", args, lm=local(lm_server, model))
    put(daemon, "changing", [{"question": "new", "answer": "x"}])
    assert future.result(PATIENCE)["rows"][0]["example"]["question"] == "old"
    assert daemon.call("evaluate", args)["rows"][0]["example"]["question"] == "new"


def test_an_unknown_dataset_is_not_found_and_says_what_to_send(daemon):
    args = {"module_id": "qa", "devset": "nowhere", "metric": "exact_match"}
    error = refused(daemon, "evaluate", args)
    assert (error["code"], error["details"]["need"]) == ("not_found", "dataset")
    assert error["details"]["id"] == "nowhere"


def test_an_empty_dataset_may_be_kept_but_not_learned_from(daemon):
    put(daemon, "empty", [])
    args = {"module_id": "qa", "devset": "empty", "metric": "exact_match"}
    assert faults(daemon, "evaluate", args).keys() == {"devset"}


@pytest.mark.parametrize(
    ("args", "path"),
    [
        ({"examples": []}, "id"),
        ({"id": "x"}, "examples"),
        ({"id": "x", "examples": [{"a": 1}, "text"]}, "examples[1]"),
        ({"id": "x", "examples": [], "apend": True}, "apend"),
    ],
)
def test_a_mistake_is_named_with_its_place(daemon, args, path):
    assert path in faults(daemon, "put_dataset", args)
