"""What leads a program from inputs to outputs: steps, source in the sandbox, or the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from bridge.engine.conversion import plain
from bridge.engine.failures import explain
from bridge.engine.modules.tools import call_tool
from bridge.engine.ways.lanes import CallLanes, parallel_map
from bridge.engine.ways.steps import follow_steps, run_steps
from bridge.sandbox.programs import Program
from bridge.scope import current_scope
from protocol.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from bridge.registry import ProgramRunnable
    from bridge.specs.programs import ProgramSpec
    from bridge.specs.source.check import ProgramSource
    from bridge.specs.steps.reading import ModuleShape, Steps
    from bridge.strand import Wait

    Call = Callable[[str, dict[str, Any]], Mapping[str, Any]]

__all__ = ["StepsWay", "Way", "way_of"]


class Way(Protocol):
    """A program's way. Any thread, many at once.

    One that has a `follow`, too, can be awaited.
    """

    def run(self, inputs: Mapping[str, Any], call: Call) -> Mapping[str, Any]:
        """The output fields; `call` calls a module by its name in the program."""


def way_of(runnable: ProgramRunnable) -> Way:
    """The way of this program."""
    wiring, spec = runnable.wiring, runnable.spec
    if spec.forward == "host":
        return HostWay(spec.id, wiring.shape)
    if wiring.source is not None:
        return SourceWay(wiring.source, spec)
    assert wiring.steps is not None, "a program has one of the two"  # noqa: S101
    return StepsWay(wiring.steps, wiring.modules)


class StepsWay:
    """Steps, given or made from a chain."""

    def __init__(self, steps: Steps, modules: Mapping[str, ModuleShape]) -> None:
        self._steps = steps
        self._modules = modules

    def run(self, inputs: Mapping[str, Any], call: Call) -> Mapping[str, Any]:
        """Run the steps."""
        return run_steps(self._steps, inputs, call, **self._how())

    async def follow(
        self,
        inputs: Mapping[str, Any],
        call: Callable[[str, dict[str, Any]], Coroutine[Wait, None, Mapping[str, Any]]],
    ) -> Mapping[str, Any]:
        """Run the steps, awaiting their calls."""
        return await follow_steps(self._steps, inputs, call, **self._how())

    def _how(self) -> dict[str, Any]:
        return {
            "modules": self._modules,
            "parallel_map": parallel_map,
            "checkpoint": current_scope.get().check,
        }


class SourceWay:
    """Source, in the sandbox."""

    def __init__(self, source: ProgramSource, spec: ProgramSpec) -> None:
        self._program = Program(source, spec.limits)
        self._tools = {tool.name: tool for tool in spec.tools}

    def run(self, inputs: Mapping[str, Any], call: Call) -> Mapping[str, Any]:
        """Run the source."""

        def call_part(name: str, given: dict[str, Any]) -> Any:
            tool = self._tools.get(name)
            return call(name, given) if tool is None else call_tool(tool, given)

        with CallLanes() as lanes:
            return self._program.run(
                {name: plain(value) for name, value in inputs.items()},
                call_part,
                lanes,
                check=current_scope.get().check,
                say=_said,
            )


class HostWay:
    """The host goes the way itself, and calls modules by requests of its own."""

    def __init__(self, program_id: str | int, shape: ModuleShape) -> None:
        self._id = program_id
        self._shape = shape

    def run(self, inputs: Mapping[str, Any], call: Call) -> Mapping[str, Any]:  # noqa: ARG002
        """Ask the host, which calls modules back: see `programs.part_in_force`."""
        name, shape = str(self._id), self._shape
        given = {field: plain(value) for field, value in inputs.items()}
        args = {"program_id": self._id, "inputs": given}
        said = current_scope.get().ask_host("forward", name, args)
        if not isinstance(said, dict):
            raise HostError(
                f"forward {name!r} answered {type(said).__name__} where a map of outputs is wanted"
            )
        missing = [field for field in shape.outputs if field not in said]
        if missing and not shape.open:
            listed = ", ".join(missing)
            raise HostError(f"forward {name!r} answered without {listed}", missing=missing)
        return {str(field): value for field, value in said.items()}


def _said(error: Exception) -> str:
    """What source that catches a call's exception reads of it."""
    found = explain(error)
    return f"{type(error).__name__}: {error}"[:2_000] if found is None else found.to_text()
