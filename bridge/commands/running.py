"""`forward`, `execute`, `batch`: modules and programs at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from bridge.commands.command import Command, Invocation, Work
from bridge.specs.checking import Args
from bridge.specs.lms import LMOptions
from bridge.specs.modules import HostId

if TYPE_CHECKING:
    from bridge.registry import Runnable

__all__ = ["COMMANDS"]

MOST_ROWS = 100_000
"""Rows of one batch."""

ConfigField = Annotated[
    LMOptions | None, Field(description="generation options for this request only")
]


class ForwardArgs(Args):
    """Arguments of `forward`."""

    module_id: HostId
    inputs: Annotated[
        dict[str, Any], Field(default_factory=dict, description="input fields by name")
    ]
    config: ConfigField = None


class ExecuteArgs(Args):
    """Arguments of `execute`."""

    program_id: HostId
    inputs: Annotated[
        dict[str, Any], Field(default_factory=dict, description="input fields by name")
    ]
    config: ConfigField = None


class BatchArgs(Args):
    """Arguments of `batch`: one of `module_id` and `program_id`."""

    module_id: HostId | None = None
    program_id: HostId | None = None
    inputs: Annotated[
        list[dict[str, Any]], Field(description="one map a row", max_length=MOST_ROWS)
    ]
    max_concurrency: Annotated[int, Field(ge=1, description="rows at once")] = 16
    max_errors: Annotated[
        int | None, Field(ge=0, description="rows that may fail; all when left out")
    ] = None
    config: ConfigField = None

    @model_validator(mode="after")
    def _one_of_two(self) -> BatchArgs:
        if (self.module_id is None) == (self.program_id is None):
            raise ValueError("name one of module_id and program_id")
        return self


def forward(args: ForwardArgs, invocation: Invocation) -> Work:
    """Call a module; the result is its output fields by name."""
    found = invocation.services.registry.runnable("module", args.module_id)
    return _call(found, args.inputs, args.config)


def execute(args: ExecuteArgs, invocation: Invocation) -> Work:
    """Call a program; the result is its output fields by name."""
    found = invocation.services.registry.runnable("program", args.program_id)
    invocation.scope.program_id = str(args.program_id)
    return _call(found, args.inputs, args.config)


def batch(args: BatchArgs, invocation: Invocation) -> Work:
    """Call a module or program once a row; rows `{index, outputs, error}` come in order."""
    registry = invocation.services.registry
    if args.program_id is not None:
        found = registry.runnable("program", args.program_id)
        invocation.scope.program_id = str(args.program_id)
    else:
        # The model has seen to it that one of the two is there.
        found = registry.runnable("module", args.module_id or 0)
    options = args.config.given() if args.config else {}
    at_once = min(args.max_concurrency, invocation.services.limits().max_batch_concurrency)
    return Work(
        lambda engine: engine.batch(
            found, args.inputs, options, max_concurrency=at_once, max_errors=args.max_errors
        )
    )


def _call(found: Runnable, inputs: dict[str, Any], config: LMOptions | None) -> Work:
    options = config.given() if config else {}
    return Work(lambda engine: engine.answer(found, inputs, options))


COMMANDS = (
    Command("forward", ForwardArgs, forward, streams=True, within=True),
    Command("execute", ExecuteArgs, execute, streams=True, within=True),
    Command("batch", BatchArgs, batch, within=True),
)
