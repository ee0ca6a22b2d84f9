"""What the Elixir documents show is true: their examples run, in order, against the real daemon.

The Livebook, the client's README and the part of the project's README that is for Elixir. A comment
right above an example says what else is done with it: ``parsed`` (it is a fragment: only its syntax
is looked at) or ``exunit`` (it is a test file, run by ExUnit).
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests import readme
from tests.elixir.running import CLIENT, needs_elixir, run

if TYPE_CHECKING:
    from pathlib import Path

LIVEBOOK = CLIENT / "livebook" / "two_hop_rag.livemd"
DOCUMENTS = [readme.README, CLIENT / "README.md", LIVEBOOK]
ASH = CLIENT / "examples" / "ash"
PYTHON = re.compile(r'"/srv/[\w./-]*/bin/python"')
"""Where the documents say that Python is: the tests' own stands there instead."""

pytestmark = needs_elixir


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled client, in a folder of its own."""
    build = tmp_path_factory.mktemp("client")
    run(["mix", "compile", "--warnings-as-errors"], cwd=CLIENT, MIX_BUILD_PATH=str(build))
    return build / "lib" / "dspy_bridge" / "ebin"


def elixir(source: str, client: Path, folder: Path) -> str:
    script = folder / "example.exs"
    script.write_text(
        "{:ok, _} = Application.ensure_all_started(:dspy_bridge)\n"
        + PYTHON.sub(f'"{sys.executable}"', source)
    )
    return run(
        ["elixir", "-pa", str(client), str(script)],
        cwd=folder,
        DSPY_BRIDGE_PYTHON=sys.executable,
        XDG_STATE_HOME=str(folder),
    )


def examples(document: Path, note: str = "") -> list[str]:
    fences = readme.fences(document.read_text(encoding="utf-8"), "elixir")
    return [fence.body for fence in fences if fence.note == note]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(readme.ROOT)))
def test_examples_run_in_order(document: Path, client: Path, tmp_path: Path) -> None:
    bodies = [body for body in examples(document) if not body.startswith("Mix.install")]
    assert bodies
    elixir("\n".join(bodies), client, tmp_path)


def test_what_the_client_s_readme_says_of_tests_is_a_test_that_passes(
    client: Path, tmp_path: Path
) -> None:
    bodies = examples(CLIENT / "README.md", "exunit")
    assert bodies
    printed = elixir("ExUnit.start()\n" + "\n".join(bodies), client, tmp_path)
    assert re.search(r"^\d+ tests, 0 failures", printed, flags=re.MULTILINE), printed


def test_the_livebook_s_first_cell_installs_the_client_beside_it() -> None:
    first = examples(LIVEBOOK)[0]
    assert first == 'Mix.install([{:dspy_bridge, path: Path.expand("..", __DIR__)}])\n'


def test_every_fragment_and_file_that_is_not_run_here_is_elixir(tmp_path: Path) -> None:
    fragments = [
        body
        for document in (*DOCUMENTS, ASH / "README.md")
        for body in examples(document, "parsed" if document.parent != ASH else "")
    ]
    files = sorted([*ASH.rglob("*.ex"), *ASH.rglob("*.exs")])
    assert fragments
    assert files
    for number, body in enumerate(fragments):
        (tmp_path / f"{number}.exs").write_text(body)
    paths = [*map(str, files), *map(str, tmp_path.iterdir())]
    check = "for path <- System.argv(), do: Code.string_to_quoted!(File.read!(path), file: path)"
    run(["elixir", "-e", check, *paths], cwd=tmp_path)
