"""The demo, as a person runs it."""

from __future__ import annotations

import re
import subprocess
import sys

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
