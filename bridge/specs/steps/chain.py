"""The wiring of a program that says nothing about it: its modules one after another.

Law: the steps a chain stands for are made here and checked like any others, so there is one
engine; what differs is only whose fault an unfed input is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bridge.specs.checking import nearest
from bridge.specs.steps.nodes import Call
from bridge.specs.steps.reading import ModuleShape, Steps
from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ChainPlan", "check_chain"]


@dataclass(frozen=True, slots=True)
class ChainPlan:
    """A chain as steps.

    Attributes:
        steps: one call per module, in order.
        inputs: the first module's: name -> required. Optional there but required by a later
            module, which nothing else feeds, is required.
        outputs: the last module's.
        open: whether the last module may have others.
    """

    steps: Steps
    inputs: Mapping[str, bool]
    outputs: tuple[str, ...]
    open: bool = False


def check_chain(modules: Sequence[tuple[str, ModuleShape]], path: str = "modules") -> ChainPlan:
    """The chain of these modules, outputs feeding inputs by name.

    Raises:
        InvalidArgs: no modules, a name twice, or required inputs that neither the program's
            inputs nor an earlier module's outputs give: every one, with what there is.
    """
    if not modules:
        raise InvalidArgs.at(path, "a program has at least one module")
    first = modules[0][1]
    available = [*first.inputs]
    seen: dict[str, int] = {}
    faults: list[dict[str, Any]] = []
    for index, (name, shape) in enumerate(modules):
        here = f"{path}[{index}]"
        if name in seen:
            faults.append(
                {"path": f"{here}.name", "message": f"{name!r} names {path}[{seen[name]}], too"}
            )
        seen.setdefault(name, index)
        for field, required in shape.inputs.items():
            if required and field not in available:
                faults.append(_unfed(here, name, field, available))
        available += [field for field in shape.outputs if field not in available]
    if faults:
        raise InvalidArgs.of(faults)
    steps = Steps(tuple(Call(name) for name, _ in modules))
    shape = steps.check(tuple(first.inputs), dict(modules), path)
    return ChainPlan(steps, shape.inputs, shape.outputs, shape.open)


def _unfed(path: str, module: str, field: str, available: list[str]) -> dict[str, Any]:
    close = nearest(field, available)
    hint = f"; did you mean {close!r}?" if close is not None else ""
    message = (
        f"module {module!r} needs {field!r}, which neither the inputs of the first module nor the "
        f"outputs before it give (available: {', '.join(available) or 'nothing'}){hint}"
    )
    fault = {"path": f"{path}.inputs.{field}", "message": message}
    return fault if close is None else {**fault, "nearest": close}
