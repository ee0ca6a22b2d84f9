"""Source that is one function, called with plain values: metrics, rewards and tools."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bridge.sandbox.prelude import PRELUDE
from bridge.sandbox.sandbox import sandbox
from bridge.specs.source.tools import ToolText, read_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.sandbox.monty import Seat, Turn
    from bridge.specs.source.functions import FunctionSource
    from protocol.errors import BridgeError

__all__ = ["ToolSource", "call_function", "tool_of"]


def call_function(
    source: FunctionSource, values: Mapping[str, Mapping[str, Any]], check: Callable[[], None]
) -> Any:
    """What a metric or reward gives for these values.

    Args:
        source: checked.
        values: maps by the kind's parameters; those that are left out are None. In the source
            their fields are attributes and items alike.
        check: raises when the request is over.

    Raises:
        ProgramError: the source raised, or gave no data.
        SandboxLimit: it used more than it may.
    """
    given = {f"_{name}": dict(value) for name, value in values.items()}
    wrapped = {
        name: f"Prediction(**_{name})" if name in values else "None"
        for name in source.kind.parameters
    }
    if source.name is not None:
        arguments = ", ".join(list(wrapped.values())[: source.takes])
        waits = "await " if source.is_async else ""
        text = f"\n{source.text}\nreturn {waits}{source.name}({arguments})\n"
    else:
        binding = "; ".join(f"{name} = {value}" for name, value in wrapped.items())
        text = f"{binding}\n{source.text}\n"
    return _run(text, given, source.text, source.kind.name, check)


@dataclass(frozen=True, slots=True)
class ToolSource:
    """A tool in source.

    Attributes:
        name: the function's name.
        description: its docstring.
        parameters: the JSON Schema (type object) of its arguments.
        text: the source.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    text: str
    is_async: bool

    def run(self, arguments: Mapping[str, Any], check: Callable[[], None]) -> Any:
        """What the tool gives for arguments by name; raises as `call_function`.

        Args:
            arguments: plain values.
            check: raises when the request is over: `Scope.check`.
        """
        waits = "await " if self.is_async else ""
        text = f"\n{self.text}\nreturn {waits}{self.name}(**_arguments)\n"
        return _run(text, {"_arguments": dict(arguments)}, self.text, self.name, check)


def tool_of(source: str | ToolText, path: str = "code") -> ToolSource:
    """The tool that this source defines, with its schema from annotations and docstring.

    Raises:
        ProgramError: the source is wrong; nothing has been run.
    """
    text = read_tool(source, path) if isinstance(source, str) else source
    return ToolSource(text.name, text.description, text.parameters, text.text, text.is_async)


def _run(
    text: str, given: Mapping[str, Any], source: str, name: str, check: Callable[[], None]
) -> Any:
    from bridge.sandbox.errors import answer_of  # noqa: PLC0415 - imports the engine
    from bridge.sandbox.monty import Called, Ended, ExceededError, FailedError  # noqa: PLC0415
    from bridge.sandbox.values import ValueFaultError  # noqa: PLC0415

    bounds = sandbox.bounds
    image = sandbox.image(PRELUDE, bounds, check)
    failure: BridgeError | None = None
    value: Any = None
    with sandbox.session(bounds, check, image) as session:
        try:
            turn = session.start(text, given)
            while not isinstance(turn, Ended):
                check()
                # Nothing of ours can be called here, and so nothing can be waited for.
                called = turn.name if isinstance(turn, Called) else "await"
                turn = session.turn(partial(_refuse, called))
            value = turn.value
        except (FailedError, ExceededError, ValueFaultError) as error:
            # One line of ours stands above the source.
            failure = answer_of(error, source, name, lambda line: line - 1)
    if failure is not None:
        raise failure
    return value


def _refuse(name: str, seat: Seat) -> Turn:
    return seat.refuse("NameError", f"name '{name}' is not defined")
