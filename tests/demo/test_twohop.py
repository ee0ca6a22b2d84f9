"""The demo, as a person runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def shown() -> str:
    result = subprocess.run(
        [sys.executable, "-m", "bridge", "demo", "--questions", "18"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_the_host_drives_two_hops_with_five_forwards(shown: str):
    assert "question  What is the capital of the country where the Eiffel Tower" in shown
    assert "query 2 " in shown
    assert "- Paris is the capital of France." in shown


def test_both_passages_are_found_for_most_questions(shown: str):
    found = re.search(r"both passages found for (\d+)", shown)
    assert found
    assert int(found[1]) >= 16


def test_demonstrations_in_a_modules_state_raise_the_score_by_half(shown: str):
    counts = re.search(r"exactly right: (\d+) of 18 as it is, (\d+) of 18 after", shown)
    assert counts
    assert int(counts[2]) - int(counts[1]) >= 9


def test_an_unknown_lm_ends_the_demo_with_the_daemons_error():
    result = subprocess.run(
        [sys.executable, "-m", "bridge", "demo", "--lm", "opnai/gpt"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1
    assert "openai" in result.stderr


def test_the_readme_shows_what_the_demo_prints():
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    promised = readme.partition("<!-- demo:begin -->\n```text\n")[2].partition("```")[0]
    printed = subprocess.run(
        [sys.executable, "-m", "bridge", "demo"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "COLUMNS": "118"},
    ).stdout
    assert _without_measures(printed) == _without_measures(promised)


def _without_measures(text: str) -> str:
    """The text without what differs from run to run: the process, the Python, times, memory."""
    text = re.sub(r"pid \d+, Python [\d.]+", "pid N, Python N", text)
    return re.sub(r"[\d.]+ (ms|s|MB)\b", r"N \1", text)
