"""A program as data: named modules, and the way from inputs to outputs.

The way is a `Steps` value, given as `steps` or made from the chain of modules, or the host goes it
itself and calls the modules. References
are resolved against the registry only when the program is created and when it is run, so a module
replaced later is the one that runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bridge.specs.chain import check_chain
from bridge.specs.checking import Args, checked
from bridge.specs.modules import HostId, ModuleSpec, parse_module
from bridge.specs.signatures import SignatureSpec, parse_signature
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
    """A program; `given` are the whole module specs that came with it.

    With `forward` "host" the host wires the modules; `signature` then says which fields the program
    has, where its modules' own fields do not tell.
    """

    id: str | int
    modules: tuple[ModuleRef, ...]
    steps: Steps | None
    forward: str | None = None
    signature: SignatureSpec | None = None
    given: tuple[ModuleSpec, ...] = ()
    version: str = field(default="")

    def to_wire(self) -> dict[str, Any]:
        """The program as `create_program` takes it, its modules as references."""
        wire: dict[str, Any] = {
            "id": self.id,
            "modules": [{"id": ref.id, "name": ref.name} for ref in self.modules],
        }
        if self.steps is not None:
            wire["steps"] = self.steps.to_wire()
        if self.forward is not None:
            wire["forward"] = self.forward
        if self.signature is not None:
            wire["signature"] = self.signature.to_wire()
        return wire


@dataclass(frozen=True, slots=True)
class Wiring:
    """A program's checked way: its steps, the shapes they were checked with, and its own shape.

    `steps` is None where the host wires the modules.
    """

    steps: Steps | None
    modules: Mapping[str, ModuleShape]
    shape: ModuleShape


class _ProgramArgs(Args):
    id: HostId
    modules: Annotated[list[Any], Field(min_length=1, max_length=MOST_MODULES)]
    forward_fn: str | None = None
    forward: Literal["host"] | None = None
    signature: Any = None
    steps: list[Any] | None = None


class _RefArgs(Args):
    id: HostId
    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None


def parse_program(value: Any, path: str = "") -> ProgramSpec:
    """A `create_program` map as a spec.

    Raises:
        InvalidArgs: with the path of each fault.
        Unsupported: for `forward_fn` source.
    """
    args = checked(_ProgramArgs, value, path)
    here = f"{path}." if path else ""
    if args.forward_fn is not None and args.forward_fn.strip():
        raise Unsupported(
            f"{here}forward_fn: source needs the sandbox, which this version has not; "
            "wire the modules with `steps`, or leave it out and they are chained"
        )
    refs, given = _modules(args.modules, f"{here}modules")
    steps = None if args.steps is None else parse_steps(args.steps, f"{here}steps")
    if args.forward is not None and steps is not None:
        raise InvalidArgs.at(f"{here}steps", "a program whose forward is the host's has none")
    signature = _signature(args, f"{here}signature")
    spec = ProgramSpec(args.id, tuple(refs), steps, args.forward, signature, tuple(given))
    content = {key: item for key, item in spec.to_wire().items() if key != "id"}
    return replace(spec, version=version_of(content))


def _signature(args: _ProgramArgs, path: str) -> SignatureSpec | None:
    if args.signature is None:
        return None
    if args.forward is None:
        raise InvalidArgs.at(path, "is for a program with forward 'host'; others have their own")
    return parse_signature(args.signature, path)


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
    """The program's checked way over modules of these shapes (by name); raise InvalidArgs."""
    if spec.forward is not None:
        return Wiring(None, shapes, _host_shape(spec, shapes))
    if spec.steps is None:
        chain = [(ref.name, shapes[ref.name]) for ref in spec.modules]
        plan = check_chain(chain, f"{path}modules")
        return Wiring(plan.steps, shapes, ModuleShape(plan.inputs, plan.outputs))
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
