"""Programs that say nothing of their wiring."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.specs.steps.chain import check_chain
from bridge.specs.steps.reading import ModuleShape
from protocol.errors import InvalidArgs

OUTLINE = ModuleShape({"topic": True, "style": False}, ("outline",))
DRAFT = ModuleShape({"topic": True, "outline": True}, ("draft", "title"))


def faults(modules: Any) -> dict[str, dict[str, Any]]:
    with pytest.raises(InvalidArgs) as caught:
        check_chain(modules, "modules")
    return {fault["path"]: fault for fault in caught.value.details["faults"]}


def test_one_module_is_called() -> None:
    plan = check_chain([("outline", OUTLINE)])
    assert plan.steps.to_wire() == [{"call": "outline"}]
    assert plan.inputs == {"topic": True, "style": False}
    assert plan.outputs == ("outline",)


def test_outputs_feed_inputs_by_name() -> None:
    plan = check_chain([("outline", OUTLINE), ("draft", DRAFT)])
    assert plan.steps.to_wire() == [{"call": "outline"}, {"call": "draft"}]
    assert plan.inputs == {"topic": True, "style": False}
    assert plan.outputs == ("draft", "title")


def test_an_input_that_nothing_feeds_is_a_fault_that_names_the_nearest() -> None:
    review = ModuleShape({"drafts": True, "judge": True}, ("grade",))
    found = faults([("outline", OUTLINE), ("draft", DRAFT), ("review", review)])
    assert set(found) == {"modules[2].inputs.drafts", "modules[2].inputs.judge"}
    assert found["modules[2].inputs.drafts"]["nearest"] == "draft"


def test_the_order_of_modules_matters() -> None:
    assert set(faults([("draft", OUTLINE), ("x", ModuleShape({"title": True}, ()))])) == {
        "modules[1].inputs.title"
    }


def test_an_optional_input_that_nothing_feeds_stays_out() -> None:
    plan = check_chain([("a", OUTLINE), ("b", ModuleShape({"tone": False}, ("x",)))])
    assert list(plan.inputs) == ["topic", "style"]


def test_an_optional_input_that_a_later_module_needs_is_required() -> None:
    plan = check_chain([("a", OUTLINE), ("b", ModuleShape({"style": True}, ("x",)))])
    assert plan.inputs == {"topic": True, "style": True}


def test_a_module_named_like_an_input_does_not_feed_it() -> None:
    plan = check_chain(
        [("topic", OUTLINE), ("b", ModuleShape({"topic": True, "outline": True}, ("x",)))]
    )
    assert plan.inputs == {"topic": True, "style": False}


def test_a_program_without_modules_is_refused() -> None:
    assert set(faults([])) == {"modules"}


def test_two_modules_of_one_name_are_refused() -> None:
    assert set(faults([("a", OUTLINE), ("a", OUTLINE)])) == {"modules[1].name"}
