"""Any signature that can be parsed can be built, and any value can be read and answered."""

from __future__ import annotations

import dspy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.engine.signatures import MARKER, FieldReader, build_signature, without_markers
from bridge.specs.signatures import SignatureSpec, parse_signature
from bridge.specs.types.model import MEDIA, FieldSpec, Media, Object, Scalar
from protocol.errors import InvalidArgs
from tests.specs.strategies import json_values, signatures, types, values_of

SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SLOW
@given(signatures())
def test_every_signature_builds_and_dspy_writes_a_prompt_for_it(spec):
    built = build_signature(spec)
    assert list(built.input_fields) == [field.name for field in spec.inputs]
    assert list(built.output_fields) == [field.name for field in spec.outputs]
    assert dspy.ChatAdapter().format_system_message(built)
    assert build_signature(parse_signature(spec.to_wire())).equals(built)


ANSWER = FieldSpec("answer", Scalar("string"))


def paths_of_refusal(reader, value):
    """Where a value of the field `x` was found wrong; None for a value that was read."""
    try:
        reader.read({"x": value}, "inputs")
    except InvalidArgs as error:
        return [fault["path"] for fault in error.details["faults"]]
    return None


@SLOW
@given(st.data())
def test_a_value_is_refused_at_its_field_or_can_be_written_into_a_prompt(data):
    kind = data.draw(types())
    value = data.draw(values_of(kind) | json_values())
    field = FieldSpec("x", kind)
    reader = FieldReader((field,))
    paths = paths_of_refusal(reader, value)
    if paths is None:
        read = reader.read({"x": value}, "inputs")
        signature = build_signature(SignatureSpec((field,), (ANSWER,)))
        assert dspy.ChatAdapter().format(signature, [], read)
    else:
        assert paths
        assert all(path.startswith("inputs.x") for path in paths)


@SLOW
@given(st.data())
def test_a_value_that_fits_its_type_is_never_refused_where_only_the_type_decides(data):
    plain = st.sampled_from(["string", "integer", "float", "boolean", "any"]).map(Scalar)
    kind = data.draw(plain)
    value = data.draw(values_of(kind))
    read = FieldReader((FieldSpec("x", kind),)).read({"x": value}, "inputs")
    wanted = float(value) if kind == Scalar("float") else without_markers(value)
    assert wanted == read["x"]


@given(st.sampled_from(MEDIA), json_values())
def test_no_value_makes_a_media_type_fail_otherwise_than_by_invalid_args(name, value):
    assert paths_of_refusal(FieldReader((FieldSpec("x", Media(name)),)), value) != []


@given(
    st.lists(st.sampled_from(["<", MARKER, "CUSTOM-TYPE-", "<<CUSTOM", "-TYPE-", "START", ">>"]))
)
def test_no_text_holds_a_marker_after_it_was_made_harmless(pieces):
    text = "".join(pieces)
    clean = without_markers(text)
    assert MARKER not in clean
    assert without_markers(clean) == clean


def test_a_value_without_markers_is_the_very_same_value():
    value = {"a": ["b", {"c": "d"}], "e": 1}
    assert without_markers(value) is value


def test_a_demonstration_keeps_what_does_not_fit_its_field():
    reader = FieldReader((FieldSpec("n", Scalar("integer")),))
    assert reader.read_some({"n": "5", "more": "x"}) == {"n": 5, "more": "x"}
    assert reader.read_some({"n": "five"}) == {"n": "five"}


def test_an_object_without_a_name_is_called_after_its_field():
    person = Object((FieldSpec("name", Scalar("string")),))
    spec = parse_signature({"inputs": {"q": "string"}, "outputs": {"home_town": person.to_wire()}})
    assert "HomeTown" in dspy.ChatAdapter().format_system_message(build_signature(spec))
