"""`dspy-bridge schema`: one document, made of what the code knows."""

from __future__ import annotations

import inspect
import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from bridge.commands.catalogue import FAMILIES
from bridge.commands.optimizer_defaults import CONFIG_DEFAULTS, CONFIG_NOTES
from bridge.commands.schema import document, limits, main
from bridge.settings import CONFIGURABLE, LIMIT_NAMES
from bridge.specs.optimizers import ROWS, split_config
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
    assert {row["target"] for row in DOCUMENT["host_calls"]} == set(HOST_CALL_TARGETS)


# Optimizers

RUNNABLE = [name for name, row in ROWS.items() if not row.unavailable]
OURS = {"KNNFewShot.k", "KNNFewShot.max_bootstrapped_demos", "GEPA.auto"}
"""Defaults that are the bridge's and not DSPy's."""


def test_it_has_every_optimizer_and_why_some_cannot_run() -> None:
    assert DOCUMENT["optimizers"].keys() == ROWS.keys()
    there = {name for name, row in DOCUMENT["optimizers"].items() if "config" in row}
    assert there == set(RUNNABLE)
    assert all(DOCUMENT["optimizers"][name]["not_in_this_version"] for name in ROWS.keys() - there)


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_default_of_a_config_is_a_value_that_it_takes(name: str) -> None:
    schema = DOCUMENT["optimizers"][name]["config"]
    keys = schema["properties"].items()
    defaults = {key: part["default"] for key, part in keys if "default" in part}
    assert Draft202012Validator(schema).is_valid(defaults)
    constructor, compiled = split_config(ROWS[name], defaults)
    assert {**constructor, **compiled} == defaults


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_defaults_of_a_config_are_those_of_dspy(name: str) -> None:
    known = _dspy_defaults(name)
    for key, part in DOCUMENT["optimizers"][name]["config"]["properties"].items():
        if f"{name}.{key}" in OURS:
            continue
        default = part.get("default")
        # What a note says is no value of DSPy's: null, or found out when it runs.
        assert default == known.get(key) or (default is None and "description" in part), key


def _dspy_defaults(name: str) -> dict[str, Any]:
    teleprompt = import_module("dspy.teleprompt")
    optuna = import_module("dspy.teleprompt.teleprompt_optuna")
    classes = [getattr(teleprompt, name, None) or getattr(optuna, name)]
    if name in {"InferRules", "KNNFewShot"}:
        # They hand what they do not know on.
        classes.append(teleprompt.BootstrapFewShot)
    found: dict[str, Any] = {}
    for owner in classes:
        for function in (owner.__init__, owner.compile):
            for key, parameter in inspect.signature(function).parameters.items():
                if parameter.default is not inspect.Parameter.empty:
                    found.setdefault(key, parameter.default)
    return found


def test_every_default_and_note_of_a_config_is_of_a_key_that_there_is() -> None:
    keys = {key for name in RUNNABLE for key in _keys_of(name)}
    own = {f"{name}.{key}" for name in RUNNABLE for key in _keys_of(name)}
    assert CONFIG_DEFAULTS.keys() | CONFIG_NOTES.keys() <= keys | own


def _keys_of(name: str) -> set[str]:
    return {*ROWS[name].constructor, *ROWS[name].compile}


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
