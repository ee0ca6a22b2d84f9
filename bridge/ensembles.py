"""An ensemble as data: a program that asks several others and answers what most of them say.

Law: it gives what `dspy.Ensemble` with `dspy.majority` gives. The vote is on the last output; the
other outputs are those of the first member whose answer has won, so that a reason fits its answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from bridge.registry import ModuleRunnable
from bridge.specs.programs import parse_program
from protocol.errors import InvalidArgs, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bridge.registry import ProgramRunnable, Registry, Runnable
    from bridge.specs.modules import HostId

__all__ = ["Ensemble", "ensemble_of"]

PATH = "config.programs"


@dataclass(frozen=True, slots=True)
class Ensemble:
    """A program over other programs.

    Attributes:
        wire: what `create_program` takes to make it.
        runnable: what that makes.
        programs: the programs it was drawn from.
        modules: the modules it was drawn from.
    """

    wire: dict[str, Any]
    runnable: ProgramRunnable
    programs: tuple[HostId, ...]
    modules: tuple[HostId, ...]


def ensemble_of(
    registry: Registry,
    program: Runnable,
    *,
    programs: Sequence[HostId] | None = None,
    size: int | None = None,
    seed: int = 0,
) -> Ensemble:
    """The ensemble that may take the place of `program`; the registry is as it was.

    Args:
        registry: knows the members.
        program: gives its id, and the fields that every member must have.
        programs: ids of programs, or of modules where no program has the id.
        size: how many of them are drawn; None for all.
        seed: what is drawn.

    Raises:
        InvalidArgs: a member has other fields or calls `program`, or there are too few.
        NotFound: a member is not here.
    """
    if isinstance(program, ModuleRunnable):
        raise InvalidArgs.at("module_id", "an ensemble is a program: name one that it replaces")
    if programs is None:
        raise InvalidArgs.at(PATH, "is missing: the ids of two or more programs or modules")
    if size is not None and size > len(programs):
        raise InvalidArgs.at("config.size", f"is more than the {len(programs)} programs there are")
    if program.shape.open:
        raise InvalidArgs.at(
            "program", "not all its outputs are known, and the last one is voted on"
        )
    both = program.shape.inputs.keys() & program.shape.outputs
    if both:
        raise InvalidArgs.at("program", f"{min(both)!r} is both an input and an output of it")
    members = [_member(registry, key, index) for index, key in enumerate(programs)]
    for index, (_, member) in enumerate(members):
        _check(program, member, f"{PATH}[{index}]")
    drawn = sorted(Random(seed).sample(range(len(members)), size or len(members)))  # noqa: S311
    wire = _wire(program, [(members[index][0], programs[index]) for index in drawn])
    spec = parse_program(wire)
    for module in spec.given:
        _check_free(registry, module.id)
    kinds = [(kind, key) for (kind, _), key in zip(members, programs, strict=True)]
    return Ensemble(
        wire,
        registry.fitted(spec, f"{PATH}."),
        tuple(key for kind, key in kinds if kind == "program"),
        tuple(key for kind, key in kinds if kind == "module"),
    )


def _member(registry: Registry, key: HostId, index: int) -> tuple[str, Runnable]:
    for kind, find in (("program", registry.program), ("module", registry.module)):
        try:
            find(key)
        except NotFound:
            continue
        return kind, registry.runnable(kind, key)
    text = f"{PATH}[{index}]: neither a program nor a module has the id {key!r}"
    raise NotFound(text, kind="program", id=key, need="spec")


def _check(program: ProgramRunnable, member: Runnable, path: str) -> None:
    if _calls(member, str(program.spec.id)):
        raise InvalidArgs.at(
            path, f"is or calls {program.spec.id!r}, whose place the ensemble takes: copy it first"
        )
    for what, theirs, ours in (
        ("inputs", member.shape.inputs, program.shape.inputs),
        ("outputs", member.shape.outputs, program.shape.outputs),
    ):
        if set(theirs) != set(ours):
            raise InvalidArgs.at(
                path, f"its {what} are {_listed(theirs)}, those of the program {_listed(ours)}"
            )


def _check_free(registry: Registry, module_id: HostId) -> None:
    try:
        there = registry.module(module_id)
    except NotFound:
        return
    # One of an earlier ensemble gives way.
    if there.type != "custom":
        raise InvalidArgs.at("program", f"the ensemble needs the id {module_id!r} for itself")


def _calls(runnable: Runnable, program_id: str) -> bool:
    if isinstance(runnable, ModuleRunnable):
        return False
    return str(runnable.spec.id) == program_id or any(
        _calls(part, program_id) for part in runnable.parts.values()
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _wire(program: ProgramRunnable, members: Sequence[tuple[str, HostId]]) -> dict[str, Any]:
    shape, program_id = program.shape, program.spec.id
    word = "member"
    while any(name.startswith(word) for name in (*shape.inputs, *shape.outputs)):
        word += "_"
    modules: list[dict[str, Any]] = []
    for number, (kind, key) in enumerate(members, 1):
        module: dict[str, Any] = {"id": key, "name": f"{word}_{number}"}
        if kind == "program":
            own = {"id": f"{program_id}.member_{number}", "type": "custom"}
            module |= {**own, "config": {"program": key}}
        modules.append(module)
    names = [module["name"] for module in modules]
    answers = {name: {out: f"${name}.{out}" for out in shape.outputs} for name in names}
    vote, winner = shape.outputs[-1], f"{word}_vote"
    steps: list[dict[str, Any]] = [{"call": name} for name in names]
    steps.append({"let": {winner: {"majority": [answers[name][vote] for name in names]}}})
    steps += [
        {
            "if": {"equals": [answers[name][vote], f"${winner}"]},
            "then": [{"output": answers[name]}],
        }
        for name in names[:-1]
    ]
    steps.append({"output": answers[names[-1]]})
    return {"id": program_id, "modules": modules, "steps": steps}
