"""Names: what is refused, and that what is not refused works in DSPy."""

from __future__ import annotations

import warnings

import dspy
import pytest
from dspy.utils.dummies import DummyLM

from bridge.specs.names import (
    MODULE_RESERVED,
    RESERVED,
    RESERVED_PREFIXES,
    name_fault,
    object_name_fault,
    reserved_for,
)


@pytest.mark.parametrize(
    "name", ["question", "q1", "größe", "schema", "json", "model_name", "a" * 64]
)
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_plain_names_are_allowed(name, side):
    assert name_fault(name, side) is None


@pytest.mark.parametrize(
    "name",
    ["", "1a", "a-b", "a b", "a?", "class", "None", "_a", "dspy_split", "model_dump", "a" * 65,
     "ﬁeld", "signature", "fields", "instructions", "model_config", "self", "base", "augmented",
     "completions"],
)  # fmt: skip
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_what_can_be_no_name_is_refused(name, side):
    assert name_fault(name, side) is not None


@pytest.mark.parametrize("name", ["demos", "config", "lm", "new_signature", "prediction"])
def test_call_arguments_are_refused_as_inputs_only(name):
    assert name_fault(name, "inputs") is not None
    assert name_fault(name, "outputs") is None


@pytest.mark.parametrize("name", ["keys", "items", "values", "get", "toDict", "inputs", "copy"])
def test_methods_of_a_prediction_are_refused_as_outputs_only(name):
    assert name_fault(name, "inputs") is None
    assert name_fault(name, "outputs") is not None


def test_every_reason_says_something():
    rows = [
        *RESERVED.values(),
        *(row for rows in MODULE_RESERVED.values() for row in rows.values()),
    ]
    assert all(row.reason for row in rows)


def test_a_module_type_reserves_by_side():
    assert "reasoning" in reserved_for("chain_of_thought", "inputs")
    assert "reasoning" not in reserved_for("chain_of_thought", "outputs")
    assert "reasoning" in reserved_for("chain_of_thought")
    assert reserved_for("predict") == {}


def test_a_field_of_an_object_may_be_a_keyword_but_not_pydantics():
    assert object_name_fault("class") is None
    assert object_name_fault("model_config") is not None
    assert object_name_fault("_x") is not None


def _suspects():
    kinds = (dspy.Signature, type(dspy.Signature), dspy.Prediction, dspy.Module)
    return {name for kind in kinds for name in dir(kind)} | set(RESERVED) | {
        *("dspy_x", "args", "kwargs", "name", "type", "cls", "fn", "completed", "score", "trace"),
    }  # fmt: skip


def _use(name, side):
    """One name through the life of a signature; True if all of it works."""
    given, told = (name, "zz") if side == "inputs" else ("zz", name)
    adapter = dspy.ChatAdapter()
    signature = dspy.Signature(
        {given: (str, dspy.InputField(desc="i")), told: (str, dspy.OutputField(desc="o"))}, "Do."
    )
    assert list(signature.input_fields) == [given]
    assert list(signature.output_fields) == [told]
    assert signature.instructions == "Do."
    rows = [dspy.Example(**{given: f"in{n}", told: "OUT"}).with_inputs(given) for n in (1, 2)]
    assert all(row.inputs().toDict() == {given: row[given]} and len(row) == 2 for row in rows)
    with dspy.context(lm=DummyLM([{told: "OUT"}] * 8, adapter=adapter), adapter=adapter):
        predict = dspy.Predict(signature)
        predict.demos = [rows[0]]
        answer = predict(**{given: "HERE"})
        prompt = str(dspy.settings.lm.history[-1]["messages"])
        assert "HERE" in prompt
        assert "in1" in prompt
        assert answer.toDict() == {told: "OUT"}
        assert getattr(answer, told) == "OUT"
        trained = dspy.BootstrapFewShot(
            metric=lambda row, found, trace=None: row[told] == found[told],
            max_labeled_demos=0,
            max_bootstrapped_demos=1,
            max_errors=0,
        ).compile(dspy.Predict(signature), trainset=rows)
        assert trained.demos[0][told] == "OUT"
        predict.load_state(trained.dump_state())
    return True


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_every_name_that_is_allowed_works_in_dspy(side):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        allowed = sorted(name for name in _suspects() if name_fault(name, side) is None)
        assert len(allowed) > 30
        assert all(_use(name, side) for name in allowed)


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_every_name_that_is_reserved_breaks_in_dspy(side):
    # These only fail in ways this test does not try: as JSON schemas, with maps for values, or
    # in another version of pydantic.
    elsewhere = {"prediction", *(name for name in RESERVED if name.startswith("model_"))}
    broken = [name for name, row in RESERVED.items() if row.side in {None, side}]
    broken += [f"{prefix}x" for prefix in RESERVED_PREFIXES if not prefix.startswith("model_")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in sorted(set(broken) - elsewhere):
            try:
                worked = _use(name, side)
            except Exception:
                worked = False
            assert not worked, name
