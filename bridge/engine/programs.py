"""Programs as DSPy modules: the named modules in `parts`, its way as `forward`.

Being a real `dspy.Module`, a program has named predictors (`parts['answer'].inner.predict`) that
optimizers find, and traces that they read. Modules are kept by name in a map because a host may
call one `batch` or `forward`, which are DSPy's own attributes.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dspy

from bridge.engine.conversion import plain, plain_fields
from bridge.engine.modules.building import AWAITED, build_module
from bridge.engine.signatures import FieldReader
from bridge.engine.ways.way import StepsWay, way_of
from bridge.registry import ModuleRunnable, ProgramRunnable, Runnable
from bridge.scope import ModuleCall, Scope, current_module, current_scope
from bridge.specs.checking import nearest
from protocol.errors import BridgeError, InvalidArgs, ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from bridge.specs.modules import ModuleSpec
    from bridge.specs.programs import ProgramSpec, Wiring

__all__ = ["HostModule", "HostProgram", "LMs", "build", "part_in_force"]

current_program: ContextVar[HostProgram | None] = ContextVar("current_program", default=None)
"""The innermost program that is running, as a copy of it may be that an optimizer made."""


@dataclass(frozen=True, slots=True)
class LMs:
    """Where modules have their LMs from, each time that they ask one.

    Attributes:
        chosen: the LM in force for a module's own reference: the request's LM comes first.
        named: the LM that a reference names, whatever the request's own is; None is the one in
            force.
    """

    chosen: Callable[[Any], Any]
    named: Callable[[Any], Any]


class HostModule(dspy.Module):  # type: ignore[misc]
    """A host's module: inputs checked, its own LM in force, its calls under its id."""

    def __init__(self, spec: ModuleSpec, lms: LMs) -> None:
        super().__init__()
        self.inner = build_module(spec, lms.named)
        self._spec = spec
        self._reader = FieldReader(spec.signature.inputs)
        self._lms = lms

    @property
    def spec(self) -> ModuleSpec:
        """What the module was built from."""
        return self._spec

    def read(self, inputs: Mapping[str, Any], path: str, scope: Scope) -> dict[str, Any]:
        """`inputs` validated and coerced; raise InvalidArgs."""
        return self._reader.read(inputs, path, scope)

    def forward(self, **inputs: Any) -> Any:
        """One prediction from inputs that have been read."""
        return self.run(inputs)

    def run(self, inputs: dict[str, Any], path: str = "inputs") -> Any:  # noqa: ARG002
        """`forward` for callers outside DSPy, without the layer that `Module.__call__` adds."""
        with _Call(self, inputs) as call:
            return call.gives(self.inner(**call.given))

    async def arun(self, inputs: dict[str, Any], path: str = "inputs") -> Any:
        """`run`, awaited where DSPy's module can be; where not, it holds its thread."""
        if type(self.inner) not in AWAITED:
            return self.run(inputs, path)
        with _Call(self, inputs) as call:
            return call.gives(await self.inner.acall(**call.given))

    def under(self) -> AbstractContextManager[Any]:
        """Within, the module's own LM is in force, where it has one or nobody has chosen any."""
        if self._spec.lm is None and (dspy.settings.lm is not None or not self._spec.asks_lm):
            return nullcontext()
        context: AbstractContextManager[Any] = dspy.context(lm=self._lms.chosen(self._spec.lm))
        return context

    def __deepcopy__(self, memo: dict[int, Any]) -> HostModule:
        """Another module with learned state of its own; what reads inputs is shared."""
        copied = copy(self)
        copied.inner = deepcopy(self.inner, memo)
        return copied


class _Call:
    """One call of a module: what it is given, and within it, what it runs under."""

    __slots__ = ("_call", "_token", "_under", "given")

    def __init__(self, module: HostModule, inputs: dict[str, Any]) -> None:
        plain_inputs = {name: plain(item) for name, item in inputs.items()}
        self._call = ModuleCall(str(module.spec.id), plain_inputs)
        self._under = module.under()
        # Over the module's own options, which DSPy puts over the LM's.
        options = current_scope.get().options
        self.given = {**inputs, "config": options} if options else inputs

    def __enter__(self) -> Self:
        self._token = current_module.set(self._call)
        try:
            _tell("module_start", self._call)
            self._under.__enter__()
        except BaseException:
            current_module.reset(self._token)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._under.__exit__(kind, error, trace)
        finally:
            current_module.reset(self._token)

    def gives(self, prediction: Any) -> Any:
        """The prediction, told and remembered."""
        self._call.outputs = plain_fields(prediction)
        _tell("module_end", self._call)
        return prediction


class HostProgram(dspy.Module):  # type: ignore[misc]
    """A host's program over its modules."""

    def __init__(self, runnable: ProgramRunnable, parts: Mapping[str, dspy.Module]) -> None:
        super().__init__()
        self._spec = runnable.spec
        self._wiring = runnable.wiring
        self._way = way_of(runnable)
        self.parts = dict(parts)

    @property
    def spec(self) -> ProgramSpec:
        """What the program was built from."""
        return self._spec

    @property
    def wiring(self) -> Wiring:
        """Its checked way."""
        return self._wiring

    def __deepcopy__(self, memo: dict[int, Any]) -> HostProgram:
        """Another program over copies of its modules."""
        copied = copy(self)
        copied.parts = deepcopy(self.parts, memo)
        return copied

    def read(self, inputs: Mapping[str, Any], path: str, scope: Scope) -> dict[str, Any]:  # noqa: ARG002
        """`inputs` checked by name; each module checks the values when they reach it."""
        wanted = self._wiring.shape.inputs
        faults: list[dict[str, Any]] = [
            {"path": f"{path}.{name}", "message": "is missing"}
            for name, required in wanted.items()
            if required and name not in inputs
        ]
        for name in inputs:
            if name not in wanted:
                close = nearest(name, wanted)
                hint = f"did you mean {close!r}?" if close else f"known: {', '.join(wanted)}"
                fault = {"path": f"{path}.{name}", "message": f"unknown input; {hint}"}
                faults.append({**fault, "nearest": close} if close else fault)
        if faults:
            raise InvalidArgs.of(faults)
        return dict(inputs)

    def forward(self, **inputs: Any) -> Any:
        """Go the program's way."""
        return self.run(inputs)

    def run(self, inputs: dict[str, Any], path: str = "inputs") -> Any:
        """`forward` for callers outside DSPy; `path` is where the inputs stood."""

        def call(name: str, given: dict[str, Any]) -> Mapping[str, Any]:
            with _blaming(name, given, inputs, path):
                part = self.parts[name]
                return plain_fields(part.run(part.read(given, name, current_scope.get()), name))

        with self._current():
            return dspy.Prediction(self._way.run(inputs, call))

    async def arun(self, inputs: dict[str, Any], path: str = "inputs") -> Any:
        """`run`, awaited where its way is made of steps; where not, it holds its thread."""
        if not isinstance(self._way, StepsWay):
            return self.run(inputs, path)

        async def call(name: str, given: dict[str, Any]) -> Mapping[str, Any]:
            with _blaming(name, given, inputs, path):
                part = self.parts[name]
                read = part.read(given, name, current_scope.get())
                return plain_fields(await part.arun(read, name))

        with self._current():
            return dspy.Prediction(await self._way.follow(inputs, call))

    @contextmanager
    def _current(self) -> Iterator[None]:
        token = current_program.set(self)
        try:
            yield
        finally:
            current_program.reset(token)


def _tell(what: str, call: ModuleCall) -> None:
    """Where a streamed request is, for its host."""
    stream = current_scope.get().stream
    if stream is not None:
        stream.status({"status": what, "module_id": call.module_id})


def part_in_force(runnable: Runnable) -> HostModule | HostProgram | None:
    """`runnable` as the program that is running on this thread has it, with what that has learned.

    None where no program runs, or the one that does has no such part.
    """
    program = current_program.get()
    waiting: list[Any] = [] if program is None else [*program.parts.values()]
    kind = HostModule if isinstance(runnable, ModuleRunnable) else HostProgram
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, kind) and str(part.spec.id) == str(runnable.spec.id):
            found: HostModule | HostProgram = part
            return found
        waiting += getattr(part, "parts", {}).values()
    return None


def _is(value: Any, other: Any) -> bool:
    """Whether a module got the program's own input; through the sandbox, a copy of it."""
    return value is other or (type(value) is type(other) and bool(value == other))


@contextmanager
def _blaming(
    module: str, given: dict[str, Any], inputs: dict[str, Any], path: str
) -> Iterator[None]:
    """Within, `module` of a program is called with `given`, some of which the request has given."""
    try:
        yield
    except InvalidArgs as error:
        theirs = {field: path for field, value in given.items() if _is(value, inputs.get(field))}
        raise _blamed(error, module, theirs) from None


def _blamed(error: InvalidArgs, module: str, theirs: Mapping[str, str]) -> BridgeError:
    """Whose value a module refused: the request's (`theirs`: its fields' path), or the program's.

    What else is wrong with the request stays as it is.
    """
    faults = error.details["faults"]
    if not all(fault["path"].startswith(f"{module}.") for fault in faults):
        return error
    moved = []
    for fault in faults:
        tail = fault["path"].removeprefix(f"{module}.")
        path = theirs.get(tail.partition(".")[0].partition("[")[0])
        if path is not None:
            moved.append({**fault, "path": f"{path}.{tail}"})
    if moved:
        return InvalidArgs.of(moved)
    return ProgramError(
        f"module {module!r} does not take what the program gives it: {error.message}",
        module=module,
        faults=faults,
    )


def build(
    runnable: Runnable,
    lms: LMs,
    built: dict[str, HostModule] | None = None,
) -> HostModule | HostProgram:
    """The DSPy module of what a request runs.

    A module that a program has twice, under two names or within another program, is built once:
    what it learns is one state under one id. `built` is for this function's own calls.
    """
    made: dict[str, HostModule] = {} if built is None else built
    if isinstance(runnable, ModuleRunnable):
        key = str(runnable.spec.id)
        if key not in made:
            made[key] = HostModule(runnable.spec, lms)
        return made[key]
    parts = {name: build(part, lms, made) for name, part in runnable.parts.items()}
    return HostProgram(runnable, parts)
