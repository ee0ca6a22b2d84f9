"""A program as data: named modules, and the way from inputs to outputs.

The way is a `Steps` value, given as `steps` or made from the chain of modules; or it is source,
which runs in the sandbox; or the host goes it itself and calls the modules. References are resolved
against the registry only when the program is created and when it is run, so a module replaced
later is the one that runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bridge.specs.checking import Args, checked
from bridge.specs.modules import HostId, ModuleSpec, parse_module
from bridge.specs.signatures import SignatureSpec, parse_signature
from bridge.specs.source.check import Part, ProgramSource, check_program
from bridge.specs.steps.chain import check_chain
from bridge.specs.steps.reading import ModuleShape, Steps, parse_steps
from bridge.specs.tools import ToolSpec, parse_tools
from bridge.specs.version import version_of
from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ModuleRef", "ProgramSpec", "Wiring", "parse_program", "wire_up"]

MOST_MODULES = 200
"""Modules of one program."""


@dataclass(frozen=True, slots=True)
class ModuleRef:
    """A module of a program: the host's id, and the name the wiring calls it by."""

    id: str | int
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class ProgramSpec:
    """A program; `given` are the whole module specs that came with it.

    With `forward` "host" the host wires the modules; `signature` then says which fields the program
    has, where its modules' own fields do not tell. With `forward_fn` source does, with `tools`
    beside the modules and within `limits`.
    """

    id: str | int
    modules: tuple[ModuleRef, ...]
    steps: Steps | None
    forward: str | None = None
    signature: SignatureSpec | None = None
    given: tuple[ModuleSpec, ...] = ()
    forward_fn: str | None = None
    tools: tuple[ToolSpec, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)
    version: str = field(default="")

    def to_wire(self) -> dict[str, Any]:
        """The program as `create_program` takes it, its modules as references."""
        wire: dict[str, Any] = {
            "id": self.id,
            "modules": [{"id": ref.id, "name": ref.name} for ref in self.modules],
        }
        if self.steps is not None:
            wire["steps"] = self.steps.to_wire()
        if self.forward_fn is not None:
            wire["forward_fn"] = self.forward_fn
            if self.tools:
                wire["tools"] = [tool.to_wire() for tool in self.tools]
            if self.limits:
                wire["limits"] = dict(self.limits)
        if self.forward is not None:
            wire["forward"] = self.forward
        if self.signature is not None:
            wire["signature"] = self.signature.to_wire()
        return wire


@dataclass(frozen=True, slots=True)
class Wiring:
    """A program's checked way, the shapes it was checked with, and its own shape.

    Attributes:
        steps: what is done; None where source or the host does it.
        modules: the shape of each module by its name in the program.
        shape: the program's own.
        source: what runs in the sandbox instead.
    """

    steps: Steps | None
    modules: Mapping[str, ModuleShape]
    shape: ModuleShape
    source: ProgramSource | None = None


class SourceLimits(Args):
    """What a run of a program's source may use, where that is less than the daemon's limits."""

    cpu_ms: Annotated[int, Field(ge=1)] | None = None
    memory: Annotated[int, Field(ge=1_000_000)] | None = None
    recursion: Annotated[int, Field(ge=1)] | None = None
    calls: Annotated[int, Field(ge=0)] | None = None
    output: Annotated[int, Field(ge=1)] | None = None
    value: Annotated[int, Field(ge=1)] | None = None


class _ProgramArgs(Args):
    id: HostId
    modules: Annotated[list[Any], Field(min_length=1, max_length=MOST_MODULES)]
    forward_fn: str | None = None
    forward: Literal["host"] | None = None
    signature: Any = None
    steps: list[Any] | None = None
    tools: list[Any] | None = None
    limits: SourceLimits | None = None


class _RefArgs(Args):
    id: HostId
    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None


def parse_program(value: Any, path: str = "") -> ProgramSpec:
    """A `create_program` map as a spec.

    Raises:
        InvalidArgs: with the path of each fault.
        ProgramError: for the source of a tool.
    """
    args = checked(_ProgramArgs, value, path)
    here = f"{path}." if path else ""
    # The seed sends its serialized function, which is empty where it had none.
    source = args.forward_fn if args.forward_fn and args.forward_fn.strip() else None
    ways = {"forward_fn": source, "forward": args.forward, "steps": args.steps}
    given_ways = [name for name, way in ways.items() if way is not None]
    if len(given_ways) > 1:
        raise InvalidArgs.at(
            f"{here}{given_ways[-1]}", f"a program has one way, and {given_ways[0]} is one"
        )
    for name in ("limits", "tools"):
        if source is None and getattr(args, name):
            raise InvalidArgs.at(f"{here}{name}", "is for forward_fn, and there is none")
    refs, given = _modules(args.modules, f"{here}modules")
    steps = None if args.steps is None else parse_steps(args.steps, f"{here}steps")
    spec = ProgramSpec(
        args.id,
        tuple(refs),
        steps,
        forward=args.forward,
        signature=_signature(args, f"{here}signature"),
        forward_fn=source,
        tools=_tools(args.tools, refs, f"{here}tools"),
        limits={} if args.limits is None else args.limits.model_dump(exclude_none=True),
        given=tuple(given),
    )
    content = {key: item for key, item in spec.to_wire().items() if key != "id"}
    return replace(spec, version=version_of(content))


def _signature(args: _ProgramArgs, path: str) -> SignatureSpec | None:
    if args.signature is None:
        return None
    if args.forward is None:
        raise InvalidArgs.at(path, "is for a program with forward 'host'; others have their own")
    return parse_signature(args.signature, path)


def _tools(items: list[Any] | None, refs: list[ModuleRef], path: str) -> tuple[ToolSpec, ...]:
    taken = {ref.name: "a module of the program has it" for ref in refs}
    return () if not items else parse_tools(items, path, taken)


def _modules(items: list[Any], path: str) -> tuple[list[ModuleRef], list[ModuleSpec]]:
    refs: list[ModuleRef] = []
    given: list[ModuleSpec] = []
    for index, item in enumerate(items):
        where = f"{path}[{index}]"
        if not isinstance(item, dict):
            raise InvalidArgs.at(where, "is a map: {id, name}, or a whole module spec")
        name = item.get("name")
        if "type" in item:
            spec = parse_module({k: v for k, v in item.items() if k != "name"}, where)
            given.append(spec)
            module_id = spec.id
            checked(_RefArgs, {"id": module_id, "name": name}, where)
        else:
            ref = checked(_RefArgs, item, where)
            module_id = ref.id
        refs.append(ModuleRef(module_id, _name(name, module_id, index, where)))
    _check_names(refs, path)
    return refs, given


def _name(name: str | None, module_id: str | int, index: int, where: str) -> str:
    if name is not None:
        if not name.isidentifier() or name.startswith("_"):
            raise InvalidArgs.at(f"{where}.name", f"{name!r} is not an identifier")
        return name
    # The seed's serialize_module sends no name: the id serves where it can, else the position.
    text = str(module_id)
    return text if text.isidentifier() and not text.startswith("_") else f"module_{index + 1}"


def _check_names(refs: list[ModuleRef], path: str) -> None:
    seen: dict[str, int] = {}
    for index, ref in enumerate(refs):
        if ref.name in seen:
            raise InvalidArgs.at(
                f"{path}[{index}].name", f"{ref.name!r} is also the name of [{seen[ref.name]}]"
            )
        seen[ref.name] = index


def wire_up(spec: ProgramSpec, shapes: Mapping[str, ModuleShape], path: str = "") -> Wiring:
    """The program's checked way over modules of these shapes (by name).

    Raises:
        InvalidArgs: steps or a chain do not hold together.
        ProgramError: source does not, or is no Python.
    """
    if spec.forward_fn is not None:
        parts = [
            Part(name, shape.inputs, None if shape.open else shape.outputs)
            for name, shape in shapes.items()
        ]
        parts += [Part(tool.name, tool.arguments(), None, is_tool=True) for tool in spec.tools]
        source = check_program(spec.forward_fn, parts, f"{path}forward_fn")
        return Wiring(None, shapes, source.shape, source)
    if spec.forward is not None:
        return Wiring(None, shapes, _host_shape(spec, shapes))
    if spec.steps is None:
        chain = [(ref.name, shapes[ref.name]) for ref in spec.modules]
        plan = check_chain(chain, f"{path}modules")
        return Wiring(plan.steps, shapes, ModuleShape(plan.inputs, plan.outputs, plan.open))
    return Wiring(spec.steps, shapes, spec.steps.check(None, shapes, f"{path}steps"))


def _host_shape(spec: ProgramSpec, shapes: Mapping[str, ModuleShape]) -> ModuleShape:
    """The fields of a program that the host wires: as it says, else as its modules tell.

    Then its inputs are what no module of it gives another, and its outputs may be any.
    """
    if spec.signature is not None:
        inputs = {item.name: not item.optional for item in spec.signature.inputs}
        return ModuleShape(inputs, tuple(item.name for item in spec.signature.outputs))
    made = tuple(dict.fromkeys(name for shape in shapes.values() for name in shape.outputs))
    inputs = {
        name: required
        for shape in shapes.values()
        for name, required in shape.inputs.items()
        if name not in made
    }
    return ModuleShape(inputs, made, open=True)
