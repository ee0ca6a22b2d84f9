"""The README is true: its examples run, its tables are the code's, its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bridge.client import Port
from bridge.commands.optimizing_models import MOST_INLINE
from bridge.commands.reference import BLOCKS
from bridge.datasets import MOST_EXAMPLES
from bridge.metrics import METRICS
from bridge.runs.store import MOST_KEPT
from bridge.runs.table import MOST_RUNNING
from bridge.specs.lm_providers import PROVIDERS
from bridge.specs.steps.nodes import OPERATORS, VERBS
from bridge.specs.types.reading import parse_type
from tests import readme

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = readme.text()
LANGUAGES = {"console", "json", "elixir", "sh", "text"}
EMBEDDED = {"lm": {"provider": "embedded", "model": "lexical"}}
ANYTHING = "..."
"""In a shown result: any value, or as a list's last item any more items."""


@pytest.mark.parametrize("name", BLOCKS)
def test_generated_block_is_current(name: str) -> None:
    assert readme.block(name, SOURCE) == readme.block(name, readme.refilled(SOURCE)), "make readme"


def test_every_fence_is_of_a_language_that_is_checked_here() -> None:
    assert {fence.language for fence in readme.fences(SOURCE)} <= LANGUAGES
    assert SOURCE.count("```") == 2 * len(readme.fences(SOURCE))


# Console examples


def test_console_examples_print_what_the_readme_says(tmp_path: Path) -> None:
    env = _shell_environment(tmp_path / "bin")
    work = tmp_path / "work"
    work.mkdir()
    for fence in readme.fences(SOURCE, "console"):
        for command, expected in _console_steps(fence.body):
            ran = subprocess.run(
                ["bash", "-c", command],
                cwd=work,
                env=env,
                stdout=subprocess.PIPE,
                text=True,
                timeout=60,
                check=False,
            )
            assert _pattern(expected).fullmatch(ran.stdout), (
                f"README line {fence.line}: {command}\nprinted:\n{ran.stdout}"
            )


def _shell_environment(shims: Path) -> dict[str, str]:
    """PATH with this Python's scripts first, and a `dspy-bridge` even where none is installed."""
    scripts = Path(sys.executable).parent
    shims.mkdir()
    if not (scripts / "dspy-bridge").exists():
        shim = shims / "dspy-bridge"
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bridge "$@"\n')
        shim.chmod(0o755)
    path = f"{scripts}:{shims}:{os.environ['PATH']}"
    # Sorting and wrapping must not depend on who runs this.
    return {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": str(readme.ROOT),
        "COLUMNS": "100",
        "XDG_STATE_HOME": str(shims.parent),
        "LC_ALL": "C",
    }


def _console_steps(body: str) -> Iterator[tuple[str, str]]:
    """Each command (``$ ``, continued by ``> ``) with the output under it."""
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        end = next((i for i, line in enumerate(lines[1:], 1) if not line.startswith("> ")), None)
        command = lines[0] + "".join(line.removeprefix("> ") for line in lines[1:end])
        yield command, "" if end is None else "".join(lines[end:])


def _pattern(expected: str) -> re.Pattern[str]:
    """``...`` stands for anything within a line; a line of nothing else for any lines."""
    lines = []
    for line in expected.splitlines(keepends=True):
        if line.strip() == "...":
            lines.append(r"(?:.*\n)*")
        else:
            lines.append(re.escape(line).replace(r"\.\.\.", ".*"))
    return re.compile("".join(lines))


# JSON examples


def test_json_examples_are_requests_that_succeed_in_order(tmp_path: Path) -> None:
    results: dict[Any, Any] = {}
    events: dict[Any, list[Any]] = {}
    argv = [sys.executable, "-m", "bridge", "--state-dir", str(tmp_path)]
    with Port(argv, stderr=subprocess.DEVNULL) as port:
        port.hello()
        for fence in readme.fences(SOURCE, "json"):
            if (shown := re.fullmatch(r"(whole )?result of (\d+)", fence.note)) is not None:
                (expected,) = _objects(fence.body)
                answered = results[int(shown[2])]
                keys = answered.keys() - {"_meta"} if shown[1] else expected.keys()
                found = {key: answered[key] for key in keys}
                assert _is_shown(found, expected), f"README line {fence.line}: {found}"
                continue
            if fence.note.startswith("events of "):
                told = iter(events[fence.note.removeprefix("events of ")])
                for expected in _objects(fence.body):
                    assert any(_is_shown(event, expected) for event in told), expected
                continue
            for frame in _objects(fence.body):
                # `cancel` names a request that has its answer already: so it says here, too.
                request = dict(frame)
                command, args = request.pop("command"), request.pop("args")
                told_here = events.setdefault(frame["id"], [])
                results[frame["id"]] = port.send(
                    command,
                    args,
                    on_event=lambda event, to=told_here: to.append(event.to_map()),
                    **request,
                ).result(60)
                if command == "configure":
                    port.call("configure", EMBEDDED)


def _is_shown(found: Any, shown: Any) -> bool:
    if shown == ANYTHING:
        return True
    if isinstance(shown, dict) and isinstance(found, dict):
        return shown.keys() == found.keys() and all(
            _is_shown(found[key], part) for key, part in shown.items()
        )
    if isinstance(shown, list) and isinstance(found, list):
        some = shown[:-1] if shown[-1:] == [ANYTHING] else shown
        return (len(found) == len(shown) or len(some) < len(shown) <= len(found)) and all(
            map(_is_shown, found, some)
        )
    return bool(found == shown)


def test_what_is_shown_of_a_result_is_compared_with_it() -> None:
    found = {"score": 1.0, "rows": [{"index": 0}, {"index": 1}, {"index": 2}]}
    assert _is_shown(found, {"score": "...", "rows": [{"index": 0}, "..."]})
    assert not _is_shown(found, {"score": 0.5, "rows": [{"index": 0}, "..."]})
    assert not _is_shown(found, {"score": 1.0})
    assert not _is_shown(found, {"score": 1.0, "rows": [{"index": 0}]})
    assert not _is_shown(found, {"score": 1.0, "rows": [{"index": 1}, "..."]})


def _objects(body: str) -> list[Any]:
    decoder = json.JSONDecoder()
    found = []
    rest = body.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        found.append(value)
        rest = rest[end:].strip()
    return found


# Elixir and shell examples


@pytest.mark.parametrize("fence", readme.fences(SOURCE, "elixir"), ids=lambda f: f"line {f.line}")
def test_elixir_example_is_elixir(fence: readme.Fence) -> None:
    elixir = shutil.which("elixir")
    if elixir is None:
        # Without Elixir all that can be said is that every block that opens is closed.
        opened = re.findall(r"\bdo$|\bfn\b", fence.body, flags=re.MULTILINE)
        assert len(opened) == len(re.findall(r"\bend\b", fence.body))
        return
    check = "Code.string_to_quoted!(IO.read(:stdio, :all))"
    subprocess.run([elixir, "-e", check], input=fence.body, text=True, check=True, timeout=60)


@pytest.mark.parametrize("fence", readme.fences(SOURCE, "sh"), ids=lambda f: f"line {f.line}")
def test_shell_example_is_bash_and_its_make_targets_exist(fence: readme.Fence) -> None:
    subprocess.run(["bash", "-n"], input=fence.body, text=True, check=True, timeout=60)
    makefile = (readme.ROOT / "Makefile").read_text()
    targets = makefile.partition(".PHONY:")[2].partition("\n")[0].split()
    assert set(re.findall(r"^make (\w+)", fence.body, flags=re.MULTILINE)) <= set(targets)


# Tables and links


def test_dependency_table_is_pyproject() -> None:
    project = tomllib.loads((readme.ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    extras, dev = optional["optimizers"], optional["dev"]
    # Tests run every optimizer.
    assert set(extras) <= set(dev)
    declared = [*project["dependencies"], *extras, *(each for each in dev if each not in extras)]
    rows = readme.table(SOURCE, "| Package | Version | Why |")
    assert [f"{name}{version}".replace("`", "") for name, version, _ in rows] == declared
    assert all(why for _, _, why in rows)


def test_type_table_spellings_all_mean_the_type_of_their_row() -> None:
    rows = readme.table(SOURCE, "| Type | Elixir and Ash | JSON Schema | Python |")
    assert rows
    for first, *others in rows:
        meaning = json.loads(first.strip("`"))
        for spelling in re.findall(r"`([^`]+)`", " ".join(others)):
            # What begins like JSON is sent as JSON; an Elixir tuple is sent as text.
            value = json.loads(spelling) if re.match(r'\{"|\[', spelling) else spelling
            assert parse_type(value, "type").to_wire() == meaning, spelling


def test_step_tables_have_every_verb_and_operator() -> None:
    rows = readme.table(SOURCE, "| Step | What it does |")
    keys = [re.findall(r'"(\w+)"', step) for step, _ in rows]
    assert {verb: set(rest) for verb, *rest in keys} == {
        verb: set(beside) for verb, beside in VERBS.items()
    }
    listed = SOURCE.partition("is an expression:\n")[2].partition("\n")[0]
    assert re.findall(r"`(\w+)`", listed) == sorted(OPERATORS)


def test_metric_table_has_every_metric_with_its_defaults() -> None:
    rows = readme.table(SOURCE, "| Metric | Score | `field` | `gold` |")
    assert [row[0].strip("`") for row in rows] == list(METRICS)
    for name, _, field, gold in rows:
        metric = METRICS[name.strip("`")]
        label = metric.gold or ("the field's name" if metric.needs_label else "")
        assert (field.strip("`"), gold.strip("`")) == (metric.field, label)


def test_bounds_of_runs_and_datasets_are_the_code_s() -> None:
    rows = readme.table(SOURCE, "| Bound | What it is |")
    bounds = [int(bound.replace(",", "")) for bound, _ in rows]
    assert bounds == [MOST_RUNNING, MOST_KEPT, MOST_INLINE, MOST_EXAMPLES]


def test_provider_table_has_every_provider_of_its_own() -> None:
    rows = readme.table(SOURCE, "| Provider | What it is |")
    named = re.findall(r"`(\w+)`", " ".join(first for first, _ in rows))
    assert sorted([*named, "host"]) == sorted(PROVIDERS)


def test_every_link_within_the_readme_leads_to_a_heading() -> None:
    headings = re.findall(r"^#+ (.+)$", SOURCE, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", SOURCE)) <= anchors


def test_every_file_that_the_readme_names_exists() -> None:
    named = re.findall(r"`((?:bridge|tests|requirements|protocol)/[\w./]+)`", SOURCE)
    assert [path for path in named if not (readme.ROOT / path).exists()] == []
