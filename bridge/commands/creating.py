"""`create_module` and `create_program`: specs into the registry. Nothing is built yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, SkipValidation

from bridge.commands.command import Command, Invocation
from bridge.specs.checking import Args
from bridge.specs.lms import LMSpec
from bridge.specs.modules import HostId, ModuleSpec, parse_module
from bridge.specs.programs import parse_program

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["COMMANDS", "hide_keys"]


class CreateModuleArgs(Args):
    """Arguments of `create_module`: a whole module spec."""

    id: Annotated[HostId, SkipValidation, Field(description="the host's own id")]
    type: Annotated[str, SkipValidation, Field(description="a name of `hello`'s `modules`")]
    signature: Annotated[
        Any, Field(description='"question -> answer: float", or {inputs, outputs, instructions}')
    ] = None
    config: Annotated[Any, Field(description="generation options and the type's own")] = None
    state: Annotated[Any, Field(description="{demos, instructions, predictors}")] = None
    tools: Annotated[
        Any, Field(description="[{name, description, parameters: JSON Schema}], the host's")
    ] = None
    lm: Annotated[Any, Field(description="an LM, or the name of one, for this module")] = None


class CreateProgramArgs(Args):
    """Arguments of `create_program`."""

    id: Annotated[HostId, SkipValidation, Field(description="the host's own id")]
    modules: Annotated[Any, Field(description="[{id, name}] or whole module specs")]
    forward_fn: Annotated[
        Any, Field(description="source that calls modules as `self.<name>(…)`")
    ] = None
    forward: Annotated[
        Any, Field(description='"host": the host wires the modules, by answering `forward` calls')
    ] = None
    signature: Annotated[Any, Field(description="the fields of a program that the host drives")] = (
        None
    )
    steps: Annotated[Any, Field(description="declarative wiring; the chain when left out")] = None
    tools: Annotated[Any, Field(description="what forward_fn calls beside the modules")] = None
    limits: Annotated[Any, Field(description="what a run of forward_fn may use, if less")] = None


def create_module(args: CreateModuleArgs, invocation: Invocation) -> dict[str, Any]:
    """Add a module, or replace the one of this id."""
    spec = parse_module(_said(args))
    hide_keys([spec], invocation)
    invocation.services.registry.put_module(spec)
    return {"id": spec.id, "type": spec.type, "version": spec.version}


def create_program(args: CreateProgramArgs, invocation: Invocation) -> dict[str, Any]:
    """Add a program over modules, or replace the one of this id; its wiring is checked now."""
    spec = parse_program(_said(args))
    hide_keys(spec.given, invocation)
    found = invocation.services.registry.put_program(spec)
    return {"id": spec.id, "version": found.version}


def _said(args: Args) -> dict[str, Any]:
    """The arguments as they came: what they hold is checked by the spec's own reader."""
    return {name: value for name, value in args if value is not None}


def hide_keys(specs: Iterable[ModuleSpec], invocation: Invocation) -> None:
    """Have the keys of these modules' LMs masked in all that the daemon writes from now on."""
    for spec in specs:
        if isinstance(spec.lm, LMSpec) and spec.lm.key is not None:
            invocation.services.secrets.add(spec.lm.key)


COMMANDS = (
    Command("create_module", CreateModuleArgs, create_module),
    Command("create_program", CreateProgramArgs, create_program),
)
