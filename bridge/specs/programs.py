"""A program as data: named modules, and the way from inputs to outputs.

The way is a `Steps` value, given as `steps` or made from the chain of modules; or it is source,
which runs in the sandbox. References are resolved against the registry only when the program is
created and when it is run, so a module replaced later is the one that runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from bridge.specs.chain import check_chain
from bridge.specs.checking import Args, checked
from bridge.specs.modules import HostId, ModuleSpec, parse_module
from bridge.specs.source_check import Part, ProgramSource, check_program
from bridge.specs.steps import ModuleShape, Steps, parse_steps
from bridge.specs.version import version_of
from protocol.errors import InvalidArgs, Unsupported

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
    """A program; `given` are the whole module specs that came with it."""

    id: str | int
    modules: tuple[ModuleRef, ...]
    steps: Steps | None
    given: tuple[ModuleSpec, ...] = ()
    forward_fn: str | None = None
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
            if self.limits:
                wire["limits"] = dict(self.limits)
        return wire


@dataclass(frozen=True, slots=True)
class Wiring:
    """A program's checked way, the shapes it was checked with, and its own shape.

    Attributes:
        steps: what is done; None where source does it.
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
    forward: str | None = None
    steps: list[Any] | None = None
    limits: SourceLimits | None = None


class _RefArgs(Args):
    id: HostId
    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None


def parse_program(value: Any, path: str = "") -> ProgramSpec:
    """A `create_program` map as a spec.

    Raises:
        InvalidArgs: with the path of each fault.
        Unsupported: for a `forward` on the host.
    """
    args = checked(_ProgramArgs, value, path)
    here = f"{path}." if path else ""
    # The seed sends its serialized function, which is empty where it had none.
    source = args.forward_fn if args.forward_fn and args.forward_fn.strip() else None
    if source is not None and args.steps is not None:
        raise InvalidArgs.at(f"{here}steps", "a program has one way: steps, or forward_fn")
    if source is None and args.limits is not None:
        raise InvalidArgs.at(f"{here}limits", "are those of forward_fn, and there is none")
    if args.forward is not None:
        raise Unsupported(f"{here}forward: programs whose forward is the host's are not in yet")
    refs, given = _modules(args.modules, f"{here}modules")
    steps = None if args.steps is None else parse_steps(args.steps, f"{here}steps")
    limits = {} if args.limits is None else args.limits.model_dump(exclude_none=True)
    spec = ProgramSpec(args.id, tuple(refs), steps, tuple(given), source, limits)
    content = {key: item for key, item in spec.to_wire().items() if key != "id"}
    return replace(spec, version=version_of(content))


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
        source = check_program(spec.forward_fn, parts, f"{path}forward_fn")
        return Wiring(None, shapes, source.shape, source)
    if spec.steps is None:
        chain = [(ref.name, shapes[ref.name]) for ref in spec.modules]
        plan = check_chain(chain, f"{path}modules")
        return Wiring(plan.steps, shapes, ModuleShape(plan.inputs, plan.outputs, plan.open))
    return Wiring(spec.steps, shapes, spec.steps.check(None, shapes, f"{path}steps"))
