"""A tool as data: what the LM is told of it, and the JSON Schema of its arguments.

Who answers it, the host or given source, is not told to the LM.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from bridge.specs.checking import Args, checked
from bridge.specs.source.tools import ToolText, read_tool
from bridge.specs.tool_schemas import ToolSchema, read_schema
from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MOST_TOOLS", "ToolSpec", "parse_tools"]

MOST_TOOLS = 128
"""Tools of one module: providers take no more, and no LM chooses well among as many."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""What every provider takes, and what can be called as a function in source."""


class _ToolArgs(Args):
    name: str | None = None
    description: Annotated[str, Field(max_length=10_000)] = ""
    parameters: dict[str, Any] | None = None
    code: Annotated[str, Field(max_length=100_000)] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ToolSpec:
    """One tool; `source` answers it in the sandbox, without one the host does."""

    name: str
    description: str
    schema: ToolSchema
    source: ToolText | None = None

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The JSON Schema of the arguments, of type object, written out in full."""
        return self.schema.schema

    def arguments(self) -> dict[str, bool]:
        """The arguments by name, in order, each with whether it must be given."""
        required = self.parameters.get("required", ())
        return {name: name in required for name in self.parameters["properties"]}

    def to_wire(self) -> dict[str, Any]:
        """``{name, description, parameters, code?}``."""
        return {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
            **({} if self.source is None else {"code": self.source.text}),
        }


def parse_tools(value: Any, path: str, reserved: Mapping[str, str]) -> tuple[ToolSpec, ...]:
    """A module's `tools`: ``{name, description?, parameters?}``, or with ``code`` and less.

    Args:
        value: what stands on the wire.
        path: where.
        reserved: names that the module keeps for itself, each with its reason.

    Raises:
        InvalidArgs: with the path of what is wrong.
        ProgramError: for a tool's source.
    """
    if not isinstance(value, list):
        raise InvalidArgs.at(path, "is a list of maps {name, description, parameters}")
    if len(value) > MOST_TOOLS:
        raise InvalidArgs.at(path, f"{len(value)} are more than {MOST_TOOLS}")
    tools: dict[str, ToolSpec] = {}
    for index, item in enumerate(value):
        tool = _tool(item, f"{path}[{index}]", reserved)
        if tool.name in tools:
            raise InvalidArgs.at(f"{path}[{index}].name", f"{tool.name!r} is there twice")
        tools[tool.name] = tool
    return tuple(tools.values())


def _tool(item: Any, path: str, reserved: Mapping[str, str]) -> ToolSpec:
    given = checked(_ToolArgs, item, path)
    source = None
    if given.code is not None:
        source = read_tool(given.code, f"{path}.code", given.name)
    name = given.name or (None if source is None else source.name)
    if name is None:
        raise InvalidArgs.at(f"{path}.name", "is missing")
    if NAME.fullmatch(name) is None:
        raise InvalidArgs.at(
            f"{path}.name", f"{name[:80]!r} is not a name: use letters, digits and _"
        )
    if name in reserved:
        raise InvalidArgs.at(f"{path}.name", f"{name!r} is reserved: {reserved[name]}")
    parameters, description = given.parameters, given.description
    if source is not None:
        parameters, description = parameters or source.parameters, description or source.description
    return ToolSpec(name, description, read_schema(parameters, f"{path}.parameters"), source)
