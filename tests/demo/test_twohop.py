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


def test_optimizing_raises_the_held_out_score_by_at_least_twenty_points(shown: str):
    scores = re.search(r"score ([\d.]+) before, ([\d.]+) after \((\d+) and (\d+) of 18", shown)
    assert scores
    assert float(scores[2]) - float(scores[1]) >= 0.2
    assert int(scores[4]) > int(scores[3])


def test_the_run_tells_what_it_learned(shown: str):
    assert re.search(r"completed in [\d.]+ s with \d+ LM calls: 0.\d+ before, [\d.]+ after", shown)
    assert re.search(r"learned \d+ demonstrations", shown)


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
