"""The locks pin what pyproject asks for, exactly, and say nothing about where it comes from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
RUNTIME = (ROOT / "requirements/runtime.lock").read_text().splitlines()
DEV = (ROOT / "requirements/dev.lock").read_text().splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _pins(lines: list[str]) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in (x.split("==") for x in lines)}


def test_every_line_is_one_exact_pin() -> None:
    assert DEV[0] == "-r runtime.lock"
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in [*RUNTIME, *DEV[1:]])


def test_a_package_is_pinned_once() -> None:
    names = [canonicalize_name(line.split("==")[0]) for line in [*RUNTIME, *DEV[1:]]]
    assert len(names) == len(set(names))


def test_pins_are_what_the_project_allows() -> None:
    for declared, pins in (
        (PROJECT["dependencies"], _pins(RUNTIME)),
        (PROJECT["optional-dependencies"]["dev"], _pins(DEV[1:])),
    ):
        for requirement in map(Requirement, declared):
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])
