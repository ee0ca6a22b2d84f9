"""What `hello` tells from plain data is what the registries hold."""

from __future__ import annotations

from importlib import import_module
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.commands import catalogue, greeting
from bridge.commands.configuring import ConfigureArgs, TwoStepArgs
from bridge.commands.greeting_models import HelloArgs
from bridge.commands.table import COMMANDS
from bridge.metrics import METRICS
from bridge.specs.lm_providers import LITELLM, PROVIDERS, provider_names
from bridge.specs.module_types import MODULE_TYPES
from protocol import VERSIONS


def test_the_commands_told_are_the_commands_there_are() -> None:
    told = [name for names in catalogue.FAMILIES.values() for name in names]
    assert told == list(COMMANDS)


@pytest.mark.parametrize("family", catalogue.FAMILIES)
def test_each_family_is_a_file_that_holds_its_commands(family: str) -> None:
    held_by = {"greeting": "greeting_models"}.get(family, family)
    module = import_module(f"bridge.commands.{held_by}")
    assert tuple(command.name for command in module.COMMANDS) == catalogue.FAMILIES[family]


def test_every_command_says_in_a_line_what_it_does() -> None:
    for command in COMMANDS.values():
        assert command.summary.endswith("."), command.name


def test_the_modules_told_are_the_modules_there_are() -> None:
    assert set(catalogue.MODULES) == set(MODULE_TYPES)


def test_the_metrics_told_are_the_metrics_there_are() -> None:
    assert set(catalogue.METRICS) == set(METRICS)


def test_the_adapters_told_are_those_that_configure_takes() -> None:
    named, two_step, _ = get_args(ConfigureArgs.model_fields["adapter"].annotation)
    taken = {*get_args(named), *get_args(two_step.model_fields["name"].annotation)}
    assert two_step is TwoStepArgs
    assert set(catalogue.ADAPTERS) == taken


def test_the_adapters_told_are_those_that_the_engine_has() -> None:
    runtime = import_module("bridge.engine.runtime")
    assert set(catalogue.ADAPTERS) == {*runtime.ADAPTERS, "two_step"}


def test_the_versions_of_hello_are_those_of_the_protocol() -> None:
    assert greeting.PROTOCOLS == VERSIONS


def test_the_litellm_providers_are_those_of_the_installed_litellm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Its import would ask the network for prices.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = import_module("litellm")
    installed = {getattr(item, "value", item) for item in litellm.provider_list}
    assert sorted(LITELLM) == sorted(installed - set(PROVIDERS))
    assert len(provider_names()) == len(LITELLM) + len(PROVIDERS)


# `hello` is checked by hand before pydantic is there; both checks are one

scalars = st.none() | st.booleans() | st.integers(-1, 4) | st.floats() | st.text(max_size=3)
anything = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=3), scalars)
hello_args = st.fixed_dictionaries(
    {},
    optional={
        "protocol": st.lists(st.integers(0, 4) | scalars, max_size=3) | anything,
        "accepts": st.lists(st.sampled_from(["events", "calls", "chunks"]) | scalars, max_size=3)
        | anything,
        "client": st.dictionaries(
            st.sampled_from(["name", "version", "nom"]), st.text(max_size=3) | scalars, max_size=2
        )
        | anything,
        "protokol": anything,
    },
)


def keys_of(faults: list[dict[str, Any]]) -> set[str]:
    return {str(fault["path"]).partition(".")[0].partition("[")[0] for fault in faults}


@settings(deadline=None, max_examples=500)
@given(args=hello_args)
def test_hello_is_checked_by_hand_as_its_model_checks_it(args: dict[str, Any]) -> None:
    by_model: set[str] = set()
    try:
        HelloArgs.model_validate(args)
    except ValidationError as error:
        by_model = {str(item["loc"][0]) for item in error.errors()}
    assert keys_of(greeting._faults(args)) == by_model
