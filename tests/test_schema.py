"""`dspy-bridge schema`: one document, made of what the code knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from bridge.commands.catalogue import FAMILIES
from bridge.commands.schema import document, limits, main
from bridge.settings import CONFIGURABLE, LIMIT_NAMES
from protocol import HOST_CALL_TARGETS
from protocol.errors import CODES

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = document()


def _schemas(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if value.get("type") == "object" and "properties" in value:
            yield value
            return
        for item in value.values():
            yield from _schemas(item)


def test_every_schema_in_it_is_a_json_schema() -> None:
    found = list(_schemas(DOCUMENT))
    assert len(found) > len(DOCUMENT["commands"])
    for schema in found:
        Draft202012Validator.check_schema(schema)


def test_it_has_every_command_with_a_summary() -> None:
    names = {name for names in FAMILIES.values() for name in names}
    assert DOCUMENT["commands"].keys() == names
    assert all(row["summary"] for row in DOCUMENT["commands"].values())


def test_it_has_every_error_with_a_meaning() -> None:
    assert tuple(row["code"] for row in DOCUMENT["errors"]) == CODES
    assert all(row["meaning"] for row in DOCUMENT["errors"])


def test_it_has_every_limit_with_its_reason() -> None:
    assert tuple(row["name"] for row in limits()) == LIMIT_NAMES
    assert {row["name"] for row in limits() if row["configurable"]} == CONFIGURABLE
    assert all(row["reason"] for row in limits())


def test_it_has_every_host_call_target() -> None:
    assert tuple(row["target"] for row in DOCUMENT["host_calls"]) == HOST_CALL_TARGETS


def test_a_request_of_the_wire_is_valid_under_its_schema() -> None:
    validator = Draft202012Validator(DOCUMENT["protocol"]["from_host"]["Request"])
    good = {"id": 1, "command": "ping", "args": {}, "budget": {"lm_calls": 3}, "lm": "fast"}
    assert validator.is_valid(good)
    assert not validator.is_valid({**good, "budget": {"lm_cals": 3}})
    assert not validator.is_valid({**good, "dead_line": 1})
    assert not validator.is_valid({"id": 1})


def test_schema_prints_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(DOCUMENT))


def test_schema_prints_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--command", "forward"]) == 0
    assert json.loads(capsys.readouterr().out) == DOCUMENT["commands"]["forward"]


def test_a_misspelt_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["--command", "forwrad"])
    assert refused.value.code == 2
    assert "'forward'" in capsys.readouterr().err


def test_markdown_prints_a_block(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--markdown"]) == 0
    printed = capsys.readouterr().out
    assert all(f"`{code}`" in printed for code in CODES)
