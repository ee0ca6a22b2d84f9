"""Tools as DSPy calls them, answered by the host or by source in the sandbox.

Law: what goes wrong with a tool is told to the LM in words, without a line of our own code in it;
what ends the request (its budget, a cancel, a connection without host calls) ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dspy
from pydantic import PrivateAttr

from bridge.engine.conversion import plain
from bridge.sandbox.functions import tool_of
from bridge.scope import Stopped, current_module, current_scope
from protocol.errors import BridgeError, InvalidArgs, Unsupported

if TYPE_CHECKING:
    from bridge.specs.tools import ToolSpec

__all__ = ["BridgeTool", "call_tool"]


class BridgeTool(dspy.Tool):  # type: ignore[misc]
    """One tool of a module."""

    _spec: Any = PrivateAttr()

    def __init__(self, spec: ToolSpec) -> None:
        super().__init__(
            func=_never,
            name=spec.name,
            desc=spec.description,
            args=dict(spec.parameters["properties"]),
            arg_types={},
        )
        self._spec = spec

    def __call__(self, **kwargs: Any) -> Any:
        """The tool's result in plain values, or what went wrong in words."""
        scope = current_scope.get()
        args = {name: plain(value) for name, value in kwargs.items()}
        faults = self._spec.schema.faults(args)
        if faults:
            said = "; ".join(f"{path}: {text}" if path else text for path, text in faults)
            return f"Execution error in {self.name}: {said}"
        self._tell("tool_start")
        try:
            return _answer(self._spec, args)
        except Unsupported as error:
            # No turn of the LM could mend this.
            scope.stop(error)
            raise Stopped(error) from error
        except BridgeError as error:
            return f"Execution error in {self.name}: {error.message}"
        finally:
            self._tell("tool_end")

    def _tell(self, what: str) -> None:
        """Where a streamed request is, for its host."""
        stream, module = current_scope.get().stream, current_module.get()
        if stream is not None:
            module_id = None if module is None else module.module_id
            stream.status({"status": what, "tool": self.name, "module_id": module_id})

    def format_as_litellm_function_call(self) -> dict[str, Any]:
        """The tool as providers take it: with the schema as the host gave it."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.desc,
                "parameters": dict(self._spec.parameters),
            },
        }

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> BridgeTool:
        return self


def call_tool(spec: ToolSpec, args: dict[str, Any]) -> Any:
    """What a tool answers to plain arguments.

    Raises:
        InvalidArgs: they do not fit its schema, and it was not asked.
        BridgeError: it failed.
        Stopped: the request is over.
    """
    faults = spec.schema.faults(args)
    if faults:
        raise InvalidArgs.of(
            [
                {"path": f"{spec.name}.{path}" if path else spec.name, "message": text}
                for path, text in faults
            ]
        )
    return _answer(spec, args)


def _answer(spec: ToolSpec, args: dict[str, Any]) -> Any:
    """What the host, or the tool's own source, says."""
    scope = current_scope.get()
    if spec.source is not None:
        return tool_of(spec.source).run(args, scope.check)
    return scope.ask_host("tool", spec.name, args)


def _never(**_: Any) -> None:
    """DSPy reads a tool's arguments from its function where none are given; these are."""
