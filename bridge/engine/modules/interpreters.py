"""The sandbox as DSPy's `CodeInterpreter`, for the modules whose LM writes code."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError, FinalOutput

from bridge.engine.conversion import plain
from bridge.sandbox.repl import Outcome, Repl, SubmittedError
from bridge.scope import current_scope
from bridge.turnstile import turnstile
from protocol.errors import ProgramError, SandboxLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["SandboxInterpreter"]


class SandboxInterpreter:
    """One session; what it raises that the LM can repair is a `CodeExecutionError`."""

    execution_instructions = (
        "Code runs in a small sandboxed Python. State persists across executions. There are no "
        "files, no network and no third-party packages; import only asyncio, base64, bisect, "
        "collections, copy, csv, dataclasses, datetime, decimal, functools, hashlib, itertools, "
        "json, math, random, re, time, typing. There is no class inheritance, no `yield`, no "
        "`del`, no `with open`; methods cannot be passed as values (write a lambda)."
    )

    def __init__(self, preamble: Sequence[str] = ()) -> None:
        self._preamble = list(preamble)
        self.tools: dict[str, Callable[..., Any]] = {}
        self.output_fields: list[dict[str, Any]] | None = None
        self._repl: Repl | None = Repl(current_scope.get().check)

    def start(self) -> None:
        """Nothing is needed before the first piece of code."""

    def shutdown(self) -> None:
        """Forget the session."""
        self._repl = None

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """Run a piece of code: its last expression's value, else what it printed, or FinalOutput.

        Raises:
            CodeExecutionError: the code failed, or used more than it may.
            SyntaxError: it is no Python.
            CodeInterpreterError: the session is over.
        """
        if self._repl is None:
            raise CodeInterpreterError("the session has been shut down")
        given = {name: plain(value) for name, value in (variables or {}).items()}
        try:
            while self._preamble:
                self._repl.run(self._preamble.pop(0), {}, self._answer)
            outcome = self._repl.run(code, given, self._answer)
        except (ProgramError, SandboxLimit) as error:
            raise CodeExecutionError(error.message) from None
        return _said(outcome)

    def _answer(self, name: str, args: list[Any], named: dict[str, Any]) -> Any:
        if name == "SUBMIT":
            raise SubmittedError(self._final(args, named))
        tool = self.tools.get(name)
        if tool is None:
            raise LookupError(name)
        if args:
            # Tools take their arguments by name.
            bound = inspect.signature(tool).bind(*args, **named).arguments
            named = {**bound.pop("kwargs", {}), **bound} if "kwargs" in bound else dict(bound)
        if name == "llm_query_batched":
            # It waits for threads of its own.
            with turnstile.outside():
                return plain(tool(**named))
        return plain(tool(**named))

    def _final(self, args: list[Any], named: dict[str, Any]) -> Any:
        if not self.output_fields:
            return named if named and not args else {"output": args[0] if args else None}
        names = [field["name"] for field in self.output_fields]
        return {**dict(zip(names, args, strict=False)), **named}


def _said(outcome: Outcome) -> Any:
    if outcome.submitted is not None:
        return FinalOutput(plain(outcome.submitted[0]))
    return plain(outcome.value) if outcome.value is not None else (outcome.printed or None)
