"""The program of a run as an optimizer sees it, and what it has learned as plain data.

Law: an optimizer may copy and change a `Student` as it likes, the host's own program never. What
was learned is read from predictors by the host's module ids, and it is the same data that
`create_module` takes as `state`: applied there, it gives the same prompts.
"""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import dspy
import orjson

from bridge.engine.conversion import plain, plain_fields
from bridge.engine.programs import HostModule, HostProgram
from bridge.engine.signatures import without_markers
from bridge.registry import ModuleRunnable, ProgramRunnable
from bridge.specs.checking import checked
from bridge.specs.modules import LearnedState, with_version
from bridge.specs.version import version_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bridge.engine.runs.running import Run
    from bridge.registry import Runnable
    from bridge.specs.modules import ModuleSpec

__all__ = ["Home", "Learned", "Student", "homes", "learned", "states_of", "taught", "told"]


@dataclass(frozen=True, slots=True, eq=False)
class Home:
    """Where a predictor lives: a host's module, and its name within that module."""

    module: ModuleSpec
    name: str
    predictor: dspy.Predict

    @property
    def module_id(self) -> str:
        """The host's id, as JSON keys have it."""
        return str(self.module.id)

    @property
    def title(self) -> str:
        """What the predictor is called where people and LMs read it."""
        alone = len(self.module.predictors()) == 1
        return self.module_id if alone else f"{self.module_id}.{self.name}"


def homes(program: dspy.Module) -> Iterator[Home]:
    """Every predictor of a built program once, in the order of its modules."""
    seen: set[int] = set()
    yield from _homes(program, seen)


def _homes(program: dspy.Module, seen: set[int]) -> Iterator[Home]:
    if isinstance(program, HostModule):
        for name, predictor in program.inner.named_predictors():
            if id(predictor) not in seen:
                seen.add(id(predictor))
                yield Home(program.spec, name, predictor)
    elif isinstance(program, HostProgram):
        for part in program.parts.values():
            yield from _homes(part, seen)


def told(program: dspy.Module, trace: Any) -> list[dict[str, Any]]:
    """DSPy's trace as ``[{module_id, predictor, inputs, outputs}]``; ids are the host's."""
    known = {id(home.predictor): home for home in homes(program)}
    rows = []
    for predictor, inputs, prediction in trace:
        home = known.get(id(predictor))
        rows.append(
            {
                "module_id": None if home is None else home.module_id,
                "predictor": None if home is None else home.name,
                "inputs": {name: plain(value) for name, value in inputs.items()},
                "outputs": plain_fields(prediction),
            }
        )
    return rows


class Student(dspy.Module):  # type: ignore[misc]
    """A program in the hands of an optimizer.

    Args:
        program: built for this run alone.
        run: every call of the student is one of this run's, on whatever thread DSPy makes it.
    """

    own_signatures = False

    def __init__(self, program: HostModule | HostProgram, run: Run) -> None:
        super().__init__()
        # In a map: DSPy prints the source of modules that are attributes into its prompts.
        self.held = {"program": program}
        self._run = run

    @property
    def program(self) -> HostModule | HostProgram:
        """The program itself."""
        return self.held["program"]

    def forward(self, **inputs: Any) -> Any:
        """One prediction from inputs that have been read."""
        return self._run.call(self, inputs)

    def homes(self) -> list[Home]:
        """Every predictor with its home."""
        return list(homes(self.program))

    def named_predictors(self) -> list[tuple[str, dspy.Predict]]:
        """Predictors under names that mean something to an LM that is asked about them."""
        return [(home.title, home.predictor) for home in self.homes()]

    def set_lm(self, lm: Any) -> None:
        """Give every predictor `lm`; a module with an LM of its own keeps it, sampled alike."""
        sampled = {
            name: lm.kwargs[name] for name in ("rollout_id", "temperature") if name in lm.kwargs
        }
        for home in self.homes():
            if home.module.lm is None:
                home.predictor.lm = lm
            else:
                home.predictor.lm = self._run.lm(home.module.lm).copy(**sampled)

    def __deepcopy__(self, memo: dict[int, Any]) -> Student:
        """Another student over a copy of the program, in the same run."""
        copied = copy(self)
        copied.held = deepcopy(self.held, memo)
        if self.own_signatures:
            # Some optimizers write into the signature class, which copies share.
            for home in copied.homes():
                signature = home.predictor.signature
                home.predictor.signature = signature.with_instructions(signature.instructions)
        return copied


@dataclass(frozen=True, slots=True)
class Learned:
    """What all predictors of a program have learned: ``{module id: {predictor: state}}``."""

    predictors: Mapping[str, Mapping[str, Mapping[str, Any]]]
    bootstrapped: int

    @property
    def digest(self) -> str:
        """The same for the same content."""
        packed = orjson.dumps(
            self.predictors, default=repr, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
        )
        return sha256(packed).hexdigest()


def learned(program: dspy.Module) -> Learned:
    """Instructions and demonstrations of a program's predictors, as plain data.

    Of a demonstration only the signature's fields are kept, and only demonstrations that a prompt
    would show: those with an input and an output.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    bootstrapped = 0
    for home in homes(program):
        signature = home.predictor.signature
        demos = []
        for demo in home.predictor.demos:
            fields = dict(demo.items())
            shown = {name: plain(fields[name]) for name in signature.fields if name in fields}
            if shown.keys() & signature.input_fields and shown.keys() & signature.output_fields:
                demos.append(without_markers(shown))
                bootstrapped += bool(fields.get("augmented"))
        state = {"instructions": signature.instructions, "demos": demos}
        found.setdefault(home.module_id, {})[home.name] = state
    return Learned(found, bootstrapped)


def states_of(found: Learned) -> dict[str, dict[str, Any]]:
    """``{module id: state}`` as `create_module` takes it.

    The state of a module with several predictors has them under `predictors`; its own
    `instructions` and `demos` are then those of the last one, which gives the module's answer.
    """
    states = {}
    for module_id, predictors in found.predictors.items():
        last = list(predictors.values())[-1]
        state = {"instructions": last["instructions"], "demos": list(last["demos"])}
        if len(predictors) > 1:
            state["predictors"] = {name: dict(item) for name, item in predictors.items()}
        states[module_id] = state
    return states


def taught(runnable: Runnable, states: Mapping[str, Mapping[str, Any]]) -> Runnable:
    """The same program with these states; its version is what `create_module` would make of it.

    Raises:
        InvalidArgs: something learned is larger than a state may be.
    """
    if isinstance(runnable, ProgramRunnable):
        parts = {name: taught(part, states) for name, part in runnable.parts.items()}
        version = version_of(
            [runnable.spec.version, *((name, part.version) for name, part in parts.items())]
        )
        return ProgramRunnable(runnable.spec, runnable.wiring, parts, version)
    state = states.get(str(runnable.spec.id))
    if state is None:
        return runnable
    read = checked(LearnedState, dict(state), f"{runnable.spec.id}.state")
    return ModuleRunnable(with_version(replace(runnable.spec, state=read)))
