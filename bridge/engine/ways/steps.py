"""Runs a program's wiring; the caller passes the way to call a module.

Law: no dspy here, no code but the steps, and every run ends: calls, executed steps, items and the
size of what is built are bounded. A run awaits its calls and nothing else. What the wiring does
wrong is ``ProgramError`` with the step's path; what a module raises passes through untouched.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

from bridge.engine.ways.step_values import EvaluationError, evaluate, is_true, kind_of
from bridge.specs.steps.nodes import Call, Each, If, Let, Output, Repeat, Step, Value, record_key
from bridge.strand import drive
from protocol.errors import ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from bridge.specs.steps.reading import ModuleShape, Steps
    from bridge.strand import Wait

    CallModule = Callable[[str, dict[str, Any]], Coroutine[Wait, None, Mapping[str, Any]]]

__all__ = ["MAX_CALLS", "MAX_EXECUTED", "MAX_ITEMS", "follow_steps", "run_steps"]

T = TypeVar("T")
R = TypeVar("R")

MAX_CALLS = 1_000
"""Module calls of one run."""

MAX_EXECUTED = 200_000
"""Steps executed in one run: nested repeats without a call would otherwise never end."""

MAX_ITEMS = 10_000
"""Items of one ``each``."""


def run_steps(
    steps: Steps,
    inputs: Mapping[str, Any],
    call: Callable[[str, dict[str, Any]], Mapping[str, Any]],
    **how: Any,
) -> dict[str, Any]:
    """`follow_steps` on this thread, with calls that wait there."""

    async def called(name: str, given: dict[str, Any]) -> Mapping[str, Any]:
        return call(name, given)

    return drive(follow_steps(steps, inputs, called, **how))


async def follow_steps(
    steps: Steps,
    inputs: Mapping[str, Any],
    call: CallModule,
    *,
    modules: Mapping[str, ModuleShape],
    parallel_map: Callable[[Callable[[T], R], Sequence[T]], list[R]] | None = None,
    checkpoint: Callable[[], None] | None = None,
    path: str = "steps",
) -> dict[str, Any]:
    """The program's output fields.

    Args:
        steps: a program that passed ``Steps.check``.
        inputs: the program's inputs by name.
        call: calls a module by its name in the program with its inputs; from several threads at
            once if ``parallel_map`` does.
        modules: the inputs each module takes by name where a step does not give them.
        parallel_map: ``map`` over the items of a parallel each, results in order, on threads that
            it holds; in order and one by one without it.
        checkpoint: called before each step; raises when the run was cancelled or is late, which
            a loop without a call would not notice otherwise.
        path: where the program stood, for errors.

    Raises:
        ProgramError: ``details.path`` is the step's.
    """
    run = _Run(call, modules, parallel_map, checkpoint)
    scope = _Scope(dict(inputs))
    outputs = await run.body(steps.body, path, scope)
    if outputs is None:
        outputs = scope.last
    if outputs is None:
        raise ProgramError(f"{path}: ended without an output step and without a call", path=path)
    return outputs


class _Scope:
    """What is bound, and the outputs of the last call."""

    __slots__ = ("last", "names")

    def __init__(self, names: dict[str, Any], last: dict[str, Any] | None = None) -> None:
        self.names = names
        self.last = last

    def fork(self) -> _Scope:
        return _Scope(dict(self.names), self.last)


class _Meter:
    """Counts over all threads of one run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0
        self._steps = 0

    def step(self, path: str, *, is_call: bool) -> None:
        with self._lock:
            self._steps += 1
            self._calls += is_call
            calls, steps = self._calls, self._steps
        if calls > MAX_CALLS:
            raise _failure(path, f"a run makes at most {MAX_CALLS} module calls")
        if steps > MAX_EXECUTED:
            raise _failure(path, f"a run executes at most {MAX_EXECUTED} steps")


class _Run:
    def __init__(
        self,
        call: CallModule,
        modules: Mapping[str, ModuleShape],
        parallel_map: Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]] | None,
        checkpoint: Callable[[], None] | None,
    ) -> None:
        self.call_module = call
        self.modules = modules
        self.parallel_map = parallel_map
        self.checkpoint = checkpoint
        self.meter = _Meter()

    async def body(self, body: tuple[Step, ...], path: str, scope: _Scope) -> dict[str, Any] | None:
        """The program's outputs if these steps ended it, else None."""
        for index, step in enumerate(body):
            outputs = await self.step(step, f"{path}[{index}]", scope)
            if outputs is not None:
                return outputs
        return None

    async def step(self, step: Step, path: str, scope: _Scope) -> dict[str, Any] | None:
        if self.checkpoint is not None:
            self.checkpoint()
        self.meter.step(path, is_call=isinstance(step, Call))
        match step:
            case Call():
                await self.call(step, path, scope)
            case Let():
                scope.names.update(_pairs(step.pairs, f"{path}.let", scope))
            case Each():
                return await self.each(step, path, scope)
            case Repeat():
                return await self.repeat(step, path, scope)
            case If():
                if is_true(_value(step.condition, f"{path}.if", scope)):
                    return await self.body(step.then, f"{path}.then", scope)
                return await self.body(step.otherwise, f"{path}.else", scope)
            case Output():
                return _pairs(step.pairs, f"{path}.output", scope)
        return None

    async def call(self, step: Call, path: str, scope: _Scope) -> None:
        shape = self.modules.get(step.module)
        if shape is None:
            raise _failure(f"{path}.call", f"the program has no module {step.module!r}")
        given = _pairs(step.inputs, f"{path}.in", scope)
        for name, required in shape.inputs.items():
            if name in given:
                continue
            if name in scope.names:
                given[name] = scope.names[name]
            elif required:
                raise _failure(f"{path}.in.{name}", "nothing is bound under this name")
        outputs = dict(await self.call_module(step.module, given))
        if step.bind is None:
            scope.names[record_key(step.module)] = outputs
        scope.names.update(outputs)
        if step.bind is not None:
            scope.names[step.bind] = outputs
        scope.last = outputs

    async def each(self, step: Each, path: str, scope: _Scope) -> dict[str, Any] | None:
        items = _value(step.items, f"{path}.each", scope)
        if not isinstance(items, list | tuple):
            raise _failure(f"{path}.each", f"must be a list, not {kind_of(items)}")
        if len(items) > MAX_ITEMS:
            raise _failure(f"{path}.each", f"{len(items)} items; at most {MAX_ITEMS}")
        if step.parallel:
            collected = await self.parallel(step, items, path, scope)
        else:
            collected = []
            for item in items:
                outputs = await self.item(step, item, path, scope, collected)
                if outputs is not None:
                    return outputs
        if step.into is not None:
            scope.names[step.into] = collected
        return None

    async def item(
        self, step: Each, item: Any, path: str, scope: _Scope, collected: list[Any]
    ) -> dict[str, Any] | None:
        scope.names[step.item] = item
        outputs = await self.body(step.body, f"{path}.do", scope)
        if outputs is None and step.collect is not None:
            collected.append(_value(step.collect, f"{path}.collect", scope))
        return outputs

    async def parallel(
        self, step: Each, items: Sequence[Any], path: str, scope: _Scope
    ) -> list[Any]:
        async def run_one(item: Any) -> list[Any]:
            own: list[Any] = []
            if await self.item(step, item, path, scope.fork(), own) is not None:
                raise _failure(path, "output cannot stand in a parallel each")
            return own

        if self.parallel_map is None:
            results = [await run_one(item) for item in items]
        else:
            results = self.parallel_map(lambda item: drive(run_one(item)), items)
        return [value for own in results for value in own]

    async def repeat(self, step: Repeat, path: str, scope: _Scope) -> dict[str, Any] | None:
        for _ in range(step.times):
            outputs = await self.body(step.body, f"{path}.do", scope)
            if outputs is not None:
                return outputs
            if step.until is not None and is_true(_value(step.until, f"{path}.until", scope)):
                break
        return None


def _pairs(pairs: tuple[tuple[str, Value], ...], path: str, scope: _Scope) -> dict[str, Any]:
    return {name: _value(value, f"{path}.{name}", scope) for name, value in pairs}


def _value(value: Value, path: str, scope: _Scope) -> Any:
    try:
        return evaluate(value, scope.names)
    except EvaluationError as error:
        raise _failure(path, str(error)) from None


def _failure(path: str, reason: str) -> ProgramError:
    return ProgramError(f"{path}: {reason}", path=path)
