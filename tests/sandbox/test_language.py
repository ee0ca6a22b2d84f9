"""What the bridge says the sandbox's Python has, the sandbox has; and nothing else."""

from __future__ import annotations

import builtins
import sys

import pytest

from bridge.sandbox.monty import Called, Ended, FailedError
from bridge.sandbox.sandbox import sandbox
from bridge.specs.source.language import BUILTINS, LACKING, MODULES
from bridge.specs.source.reading import language_faults, parse_source


def never():
    """The check of a request that goes on."""


def outcome(source):
    """None, or the class of the exception that the source ended with."""
    with sandbox.session(sandbox.bounds, never) as session:
        try:
            turn = session.start(source, {})
        except FailedError as error:
            return error.kind
        if isinstance(turn, Called):
            # A call of what nobody has is ours to answer.
            return "NameError"
        assert isinstance(turn, Ended)
        return None


def test_the_builtins_are_those_of_the_sandbox():
    public = [name for name in dir(builtins) if not name.startswith("_")]
    names = [name for name in public if name not in {"None", "True", "False"}]
    there = {name for name in names if outcome(f"x = {name}") is None}
    assert there == BUILTINS
    assert set(names) - there >= LACKING


def test_the_modules_are_those_of_the_sandbox():
    names = sorted(name for name in sys.stdlib_module_names if not name.startswith("_"))
    there = {name for name in names if outcome(f"import {name}") is None}
    assert there == MODULES - {"__future__"}


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    yield 1",
        "def f():\n    yield from []",
        "x = 1\ndel x",
        "async def f():\n    async for x in []:\n        pass",
        "async def f():\n    async with x:\n        pass",
        "async def f():\n    return [x async for x in []]",
        "try:\n    pass\nexcept* ValueError:\n    pass",
        "class A(dict):\n    pass",
        "class A:\n    @property\n    def f(self):\n        return 1",
        "from os import *",
        "import socket",
        "import dspy",
    ],
)
def test_what_is_refused_at_creation_would_have_failed(source):
    assert list(language_faults(parse_source(source, "source"))) != []
    assert outcome(source) is not None


@pytest.mark.parametrize(
    "source",
    [
        "x = [a * b for a in range(3) for b in range(2) if a]",
        "match 3:\n    case 3:\n        x = 1",
        "class A:\n    def f(self):\n        return 1\nA().f()",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nP(1)",
        "def f():\n    n = 1\n    def g():\n        nonlocal n\n        n = 2\n    g()\nf()",
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    str(error)\nfinally:\n    pass",
        "while True:\n    break\nelse:\n    pass",
        "f'{3.14159:.2f}'\n'a {}'.format(1)\n'%s' % 2",
        "async def f():\n    return 1\nawait f()",
        "a, *b = [1, 2, 3]",
        "for i in range(3):\n    if i == 1:\n        return i",
    ],
)
def test_what_the_readme_promises_runs(source):
    assert list(language_faults(parse_source(source, "source"))) == []
    assert outcome(source) is None
