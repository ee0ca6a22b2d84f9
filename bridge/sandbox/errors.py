"""What happened in the sandbox, as the wire's errors, pointing into the source."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bridge.sandbox.monty import ExceededError, FailedError
from bridge.sandbox.values import ValueFaultError
from bridge.specs.source.reading import excerpt
from protocol.errors import BridgeError, ProgramError, SandboxLimit

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["answer_of"]

_HINTS: tuple[tuple[str, str], ...] = (
    (
        r"'Prediction' object has no attribute",
        "`.get('name')` gives None where a field may be missing",
    ),
    (
        r"'Prediction' object is not a mapping|dictionary update sequence",
        "write `prediction.toDict()` where a map is wanted",
    ),
    (r"'(str|list|dict|set|tuple)' object has no attribute '(\w+)'", "{has_method}"),
    (r"type object '(\w+)' has no attribute '(\w+)'", "write `lambda x: x.{1}()`"),
    (r"object has no len", "only built-in collections have a length here"),
    (
        r"coroutine",
        "`acall` is awaited: `await self.module.acall(…)`, or several by `asyncio.gather`",
    ),
    (r"does not yet support", "the sandbox runs a part of Python: the README says which"),
    (
        r"exceptions can only be called with zero or one string",
        "an exception takes one text: `raise ValueError('what is wrong')`",
    ),
    (r"Permission denied|not supported in this environment", "source has no files and no system"),
)


def answer_of(
    error: Exception, source: str, name: str, moved: Callable[[int], int] = lambda line: line
) -> BridgeError:
    """The wire's error for one of the sandbox's.

    Args:
        error: what a turn raised.
        source: the text that ran, for the line to show.
        name: what the text is called: `forward_fn`, `metric`.
        moved: the line in `source` that is meant by a line of what ran.
    """
    if isinstance(error, ExceededError):
        line = None if error.line is None else moved(error.line)
        where = name if line is None else f"{name}:{line}"
        return SandboxLimit(f"{where}: {error.message}", bound=error.bound, line=line)
    if isinstance(error, ValueFaultError):
        return ProgramError(f"{name}: {error}", path=error.path)
    if not isinstance(error, FailedError):
        raise error
    line = None if error.line is None else moved(error.line)
    where = name if line is None else f"{name}:{line}:{error.column}"
    hint = _hint(error.message)
    text = f"{where}: {error}" + (f" ({hint})" if hint else "")
    return ProgramError(
        text,
        kind=error.kind,
        line=line,
        column=error.column,
        hint=hint,
        excerpt=excerpt(source, line, error.column),
    )


def _hint(message: str) -> str | None:
    for pattern, hint in _HINTS:
        found = re.search(pattern, message)
        if found is None:
            continue
        if hint == "{has_method}":
            kinds = {"str": str, "list": list, "dict": dict, "set": set, "tuple": tuple}
            if not hasattr(kinds[found[1]], found[2]):
                return None
            return f"a method is called here, not passed on: write `lambda x: x.{found[2]}(…)`"
        return hint.format(*found.groups()) if "{" in hint else hint
    return None
