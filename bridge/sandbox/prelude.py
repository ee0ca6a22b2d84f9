"""What given source finds already there, itself source of the sandbox.

`self` is made inside the sandbox: what it has are names, and calling one asks us. So nothing of
the daemon's is ever within reach, and a program can be written down in the middle of a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.specs.source.check import Part

__all__ = ["CALL", "CALL_LATER", "PRELUDE", "program_prelude"]

CALL = "_call"
"""The function of ours that makes a call which the source waits for."""

CALL_LATER = "_call_later"
"""The one for a call that the source awaits, perhaps among others."""

PRELUDE = """\
import asyncio
import json
import math
import re


class Prediction:
    def __init__(self, /, **fields):
        self._names = list(fields)
        for name in fields:
            setattr(self, name, fields[name])

    def __getitem__(self, name):
        if name in self._names:
            return getattr(self, name)
        raise KeyError(name)

    def __setitem__(self, name, value):
        setattr(self, name, value)
        if name not in self._names:
            self._names.append(name)

    def __contains__(self, name):
        return name in self._names

    def __iter__(self):
        return iter(self._names)

    def __eq__(self, other):
        return isinstance(other, Prediction) and self.toDict() == other.toDict()

    def __repr__(self):
        return 'Prediction(' + ', '.join([k + '=' + repr(v) for k, v in self.items()]) + ')'

    def keys(self):
        return list(self._names)

    def values(self):
        return [getattr(self, name) for name in self._names]

    def items(self):
        return [(name, getattr(self, name)) for name in self._names]

    def get(self, name, default=None):
        return getattr(self, name) if name in self._names else default

    def toDict(self):
        return {name: getattr(self, name) for name in self._names}


class _Namespace:
    pass


dspy = _Namespace()
dspy.Prediction = Prediction
dspy.Example = Prediction
"""

_SELF = f"""

class _Module:
    def __init__(self, name):
        self._name = name

    def __call__(self, /, *given, **named):
        return Prediction(**{CALL}(self._name, given, named))

    async def acall(self, /, *given, **named):
        return Prediction(**await {CALL_LATER}(self._name, given, named))


class _Tool:
    def __init__(self, name):
        self._name = name

    def __call__(self, /, *given, **named):
        return {CALL}(self._name, given, named)

    async def acall(self, /, *given, **named):
        return await {CALL_LATER}(self._name, given, named)


self = _Namespace()
"""


def program_prelude(parts: Iterable[Part]) -> str:
    """The prelude of a program: `self` has its modules and tools."""
    lines = [
        f"setattr(self, {part.name!r}, {'_Tool' if part.is_tool else '_Module'}({part.name!r}))"
        for part in parts
    ]
    return PRELUDE + _SELF + "\n".join(lines) + "\n"
