"""Files that nobody should have written: a page that does nothing, or an error; never more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.report.page import page
from bridge.report.reading import NotARunError, read_run
from tests.report.outline import Element, assert_inert
from tests.report.sample import two_hop_run
from tests.report.strategies import HOSTILE, damaged_runs, poisoned, values

if TYPE_CHECKING:
    from collections.abc import Iterator

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
few = settings(unhurried, max_examples=30)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_in_every_place_does_nothing(text: str) -> None:
    run = poisoned(two_hop_run(), text)
    result = run["result"]
    # Names are the host's, too: of modules, LMs and fields.
    result["optimized_program"]["modules"] = {
        text + name: module for name, module in result["optimized_program"]["modules"].items()
    }
    result["stats"]["usage"] = {text: {"calls": 1, "cost": None}}
    for row in result["rows"]["before"] + result["rows"]["after"]:
        row["example"] = {text + key: value for key, value in row["example"].items()}
        row["prediction"] = {text: {text: [text]}, text + "answer": text}
    run["error"] = {"code": text, "message": text, "details": {text: text}}
    assert_inert(page(run))


@pytest.mark.parametrize("text", HOSTILE[:12])
def test_hostile_text_is_shown_as_it_is(text: str) -> None:
    said = everything(assert_inert(page({"run_id": "r", "program_id": text})))
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    assert shown in said


def everything(element: Element) -> str:
    return "".join(texts(element))


def texts(element: Element) -> Iterator[str]:
    for child in element.children:
        if isinstance(child, str):
            yield child
        else:
            yield from texts(child)


def test_no_control_character_and_no_override_is_in_the_page() -> None:
    codes = [*range(0x20), *range(0x7F, 0xA0), 0xD800, 0xDFFF, 0xFFFE, 0xFFFF, 0x202D, 0x202E]
    everything_bad = "".join(map(chr, codes))
    said = page(poisoned(two_hop_run(), everything_bad))
    assert set(said) & set(everything_bad) <= {"\n", "\t"}


def test_very_long_values_are_cut_and_the_page_says_so() -> None:
    run = two_hop_run()
    for row in run["result"]["rows"]["after"]:
        row["prediction"] = {"answer": "long " * 100_000}
    said = page(run)
    assert len(said) < 2_000_000
    assert "more are not in this page" in said


def test_very_many_rows_trials_and_modules_are_cut() -> None:
    run = two_hop_run()
    result = run["result"]
    result["rows"] = {
        side: [{**row, "index": at} for at in range(600)]
        for side, (row, *_) in result["rows"].items()
    }
    run["history"] = [{"trial": at, "score": at % 7, "tokens": at} for at in range(5_000)]
    result["module_demos"] = {f"m{at}": [{"x": at}] * 70 for at in range(3)}
    result["module_instructions"] = {f"m{at}": "Answer." for at in range(300)}
    result["warnings"] = ["again"] * 5_000
    root = assert_inert(page(run))
    assert len(root.all("tr")) < 2_000
    assert len(root.all("article")) <= 200
    assert all(len(each.children) <= 60 for each in root.all("ol", "demos"))


def test_long_instructions_are_compared_in_time_or_not_at_all() -> None:
    run = two_hop_run()
    run["result"]["original"]["generate_answer"]["instructions"] = "a b c " * 15_000
    run["result"]["optimized_program"]["modules"]["generate_answer"]["instructions"] = (
        "b a c " * 15_000
    )
    assert "Too long to compare" in page(run)


@pytest.mark.parametrize("number", ["1e400", "-1e308", "1e308", "9" * 400, "-0.0", "1e-320"])
def test_numbers_that_nothing_can_be_drawn_with_do_no_harm(number: str) -> None:
    text = json.dumps(two_hop_run())
    for place in ("0.722", "0.167", "1284", "1795341600.25", "41.65"):
        data = text.replace(place, number).encode()
        try:
            run = read_run(data)
        except NotARunError:
            continue
        markup = page(run)
        assert_inert(markup)
        assert "NaN" not in markup
        assert "nan" not in markup
        assert "inf" not in markup.replace("information", "")


@few
@given(damaged_runs())
def test_a_damaged_run_is_a_page(run: dict[str, Any]) -> None:
    assert_inert(page(run))


@unhurried
@given(values)
def test_any_json_is_a_page_or_a_clear_error(value: Any) -> None:
    assert_page_or_error(orjson.dumps(value))


@unhurried
@given(st.binary(max_size=200))
def test_any_bytes_are_a_page_or_a_clear_error(data: bytes) -> None:
    assert_page_or_error(data)


@unhurried
@given(st.dictionaries(st.sampled_from(["run_id", "result", "history", "progress"]), values))
def test_any_value_may_stand_in_any_place_of_a_run(run: dict[str, Any]) -> None:
    if run:
        assert_page_or_error(orjson.dumps(run))


def test_deep_nesting_is_a_page_or_a_clear_error() -> None:
    for depth in (100, 300, 1_000, 100_000):
        assert_page_or_error(b'{"run_id":1,"error":' + b"[" * depth + b"]" * depth + b"}")


def assert_page_or_error(data: bytes) -> None:
    try:
        run = read_run(data)
    except NotARunError:
        return
    assert_inert(page(run))
