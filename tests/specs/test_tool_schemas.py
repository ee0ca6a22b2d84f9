"""The JSON Schema of a tool's arguments: whole, finite, and asked at each call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bridge.specs.tool_schemas import MOST_FAULTS, read_schema
from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from pathlib import Path

TREE = {
    "properties": {"root": {"$ref": "#/$defs/node"}},
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "below": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name"],
        }
    },
}


def refused(parameters: dict[str, Any]) -> str:
    """The path of what is wrong."""
    with pytest.raises(InvalidArgs) as caught:
        read_schema(parameters, "parameters")
    path: str = caught.value.details["faults"][0]["path"]
    return path


def test_references_within_the_schema_are_followed_as_deep_as_the_value_is() -> None:
    schema = read_schema(TREE, "parameters")
    assert schema.faults({"root": {"name": "a", "below": [{"name": "b"}]}}) == []
    [(path, message)] = schema.faults({"root": {"name": "a", "below": [{"name": 5}]}})
    assert path == "root.below.0.name"
    assert "5" in message


@pytest.mark.parametrize(
    "reference",
    [
        "http://127.0.0.1:9/schema.json",
        "https://json-schema.org/draft/2020-12/schema",
        "file:///etc/hostname",
        "schema.json",
        "#/$defs/nowhere",
        "#nowhere",
        "",
    ],
)
def test_a_reference_to_elsewhere_is_refused(reference: str) -> None:
    parameters = {"properties": {"a": {"items": {"$ref": reference}}}}
    assert refused(parameters) == "parameters.properties.a.items.$ref"


@pytest.mark.parametrize("key", ["$id", "$dynamicRef", "$recursiveRef"])
def test_what_would_change_the_meaning_of_references_is_refused(key: str) -> None:
    assert (
        refused({"properties": {"a": {key: "#/properties/a"}}}) == f"parameters.properties.a.{key}"
    )


@pytest.mark.parametrize(
    "circle",
    [
        {"$ref": "#/properties/a"},
        {"allOf": [{"$ref": "#/properties/a"}]},
        {"anyOf": [{"type": "null"}, {"not": {"$ref": "#/properties/a"}}]},
        {"if": {"$ref": "#/$defs/other"}},
    ],
)
def test_a_schema_that_no_value_would_end_is_refused(circle: dict[str, Any]) -> None:
    defs = {"other": {"then": {"$ref": "#/properties/a"}}}
    path = refused({"properties": {"a": circle}, "$defs": defs})
    assert path.startswith("parameters.")


def test_data_in_a_schema_is_no_reference() -> None:
    parameters = {"properties": {"a": {"enum": [{"$ref": "http://127.0.0.1:9/"}]}}}
    assert (
        read_schema(parameters, "parameters").faults({"a": {"$ref": "http://127.0.0.1:9/"}}) == []
    )


def test_nothing_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"type": "string"}')
    assert refused({"$ref": (tmp_path / "schema.json").as_uri()}) == "parameters.$ref"


def test_the_faults_of_one_call_are_bounded() -> None:
    schema = read_schema({"properties": {"a": {"items": {"type": "string"}}}}, "parameters")
    assert len(schema.faults({"a": list(range(1000))})) == MOST_FAULTS


@pytest.mark.parametrize("name", ["default", "enum", "const", "examples"])
def test_an_argument_may_be_called_as_a_keyword_is_and_is_looked_at(name: str) -> None:
    properties = {name: {"$ref": "http://127.0.0.1:9/"}}
    assert refused({"properties": properties}) == f"parameters.properties.{name}.$ref"


@pytest.mark.parametrize("name", ["$ref", "$id", "properties", "not", "if"])
def test_the_name_of_an_argument_means_nothing_else(name: str) -> None:
    schema = read_schema({"properties": {name: {"type": "string"}}}, "parameters")
    assert schema.faults({name: "a"}) == []
    [(path, _)] = schema.faults({name: 1})
    assert path == name


def test_arguments_too_deep_to_be_looked_at_are_refused() -> None:
    deep: dict[str, Any] = {"name": "a"}
    for _ in range(1_000):
        deep = {"name": "a", "below": [deep]}
    assert read_schema(TREE, "parameters").faults({"root": deep}) != []
