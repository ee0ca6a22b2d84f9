"""What leads a program from its inputs to its outputs: steps, or source in the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from bridge.engine.conversion import plain
from bridge.engine.failures import explain
from bridge.engine.lanes import CallLanes, parallel_map
from bridge.engine.steps import run_steps
from bridge.sandbox.programs import Program
from bridge.scope import current_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.registry import ProgramRunnable
    from bridge.specs.source_check import ProgramSource
    from bridge.specs.steps import ModuleShape, Steps

    Call = Callable[[str, dict[str, Any]], Mapping[str, Any]]

__all__ = ["Way", "way_of"]


class Way(Protocol):
    """A program's way. Any thread, many at once."""

    def run(self, inputs: Mapping[str, Any], call: Call) -> Mapping[str, Any]:
        """The output fields; `call` calls a module by its name in the program."""


def way_of(runnable: ProgramRunnable) -> Way:
    """The way of this program."""
    wiring = runnable.wiring
    if wiring.source is not None:
        return SourceWay(wiring.source, runnable.spec.limits)
    assert wiring.steps is not None, "a program has one of the two"  # noqa: S101
    return StepsWay(wiring.steps, wiring.modules)


class StepsWay:
    """Steps, given or made from a chain."""

    def __init__(self, steps: Steps, modules: Mapping[str, ModuleShape]) -> None:
        self._steps = steps
        self._modules = modules

    def run(self, inputs: Mapping[str, Any], call: Call) -> Mapping[str, Any]:
        """Run the steps."""
        return run_steps(
            self._steps,
            inputs,
            call,
            modules=self._modules,
            parallel_map=parallel_map,
            checkpoint=current_scope.get().check,
        )


class SourceWay:
    """Source, in the sandbox."""

    def __init__(self, source: ProgramSource, asked: Mapping[str, int]) -> None:
        self._program = Program(source, asked)

    def run(self, inputs: Mapping[str, Any], call: Call) -> Mapping[str, Any]:
        """Run the source."""
        with CallLanes() as lanes:
            return self._program.run(
                {name: plain(value) for name, value in inputs.items()},
                call,
                lanes,
                check=current_scope.get().check,
                say=_said,
            )


def _said(error: Exception) -> str:
    """What source that catches a call's exception reads of it."""
    found = explain(error)
    return f"{type(error).__name__}: {error}"[:2_000] if found is None else found.to_text()
