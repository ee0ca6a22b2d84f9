"""The specs that the host has sent, and the LMs it has configured.

It is changed in turns, in order of arrival, by whichever thread has the turn. Whoever runs a
request holds a `Runnable` or an `LMTable` taken when the request arrived: those never change, so a
request that is in flight finishes on what it started with. Everything here is a cache: the host
can send it all again.
"""

from __future__ import annotations

from collections import ChainMap
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bridge.datasets import Datasets
from bridge.settings import AdapterChoice
from bridge.specs.lms import LMSpec, LMTable
from bridge.specs.modules import CustomConfig, ModuleSpec
from bridge.specs.programs import ProgramSpec, Wiring, wire_up
from bridge.specs.version import version_of
from protocol.errors import Busy, InvalidArgs, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bridge.specs.modules import HostId
    from bridge.specs.steps.reading import ModuleShape

__all__ = ["ModuleRunnable", "ProgramRunnable", "Registry", "Runnable", "modules_of"]

MOST_SPECS = 100_000
"""Modules and programs together; at about 2 KiB each, the bound of a forgetful host."""

LEARNED = ("instructions", "demos", "predictors")
"""The keys of a module's learned state."""

MOST_NESTED = 16
"""Programs inside custom modules inside programs."""

MOST_PARTS = 2_000
"""Modules of a program, those of the programs within it included; each is built on its own."""


@dataclass(frozen=True, slots=True)
class ModuleRunnable:
    """A module as it was when the request arrived."""

    spec: ModuleSpec

    @property
    def version(self) -> str:
        """The module's version."""
        return self.spec.version

    @property
    def shape(self) -> ModuleShape:
        """What wiring needs to know of it."""
        return self.spec.shape()


@dataclass(frozen=True, slots=True)
class ProgramRunnable:
    """A program with all that it calls, as it was when the request arrived.

    `version` changes with the program's own spec and with every module's.
    """

    spec: ProgramSpec
    wiring: Wiring
    parts: Mapping[str, Runnable]
    version: str = field(default="")

    @property
    def shape(self) -> ModuleShape:
        """What wiring needs to know of it."""
        return self.wiring.shape


Runnable = ModuleRunnable | ProgramRunnable


class _Resolution:
    """One walk from a spec down to all that it calls, among these specs; it always ends."""

    def __init__(
        self, modules: Mapping[str, ModuleSpec], programs: Mapping[str, ProgramSpec]
    ) -> None:
        self._modules = modules
        self._programs = programs
        self._open: list[str] = []
        self._parts = 0

    def module(self, spec: ModuleSpec, path: str) -> Runnable:
        """The module with what it calls; raise NotFound, InvalidArgs."""
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise InvalidArgs.at(path, f"more than {MOST_PARTS} modules, nested ones included")
        if not isinstance(spec.config, CustomConfig):
            return ModuleRunnable(spec)
        program = self._programs.get(str(spec.config.program))
        if program is None:
            raise _unknown("program", spec.config.program)
        key = str(program.id)
        if key in self._open:
            circle = " -> ".join([*self._open[self._open.index(key) :], key])
            raise InvalidArgs.at(path, f"a program may not call itself: {circle}")
        if len(self._open) >= MOST_NESTED:
            raise InvalidArgs.at(path, f"programs are nested deeper than {MOST_NESTED}")
        return self.program(program, f"{path}.")

    def program(self, spec: ProgramSpec, path: str) -> ProgramRunnable:
        """The program with what it calls; raise NotFound, InvalidArgs. `path` ends in a dot."""
        self._open.append(str(spec.id))
        parts = {
            ref.name: self.module(self._referred(ref.id), f"{path}modules[{index}]")
            for index, ref in enumerate(spec.modules)
        }
        self._open.pop()
        wiring = wire_up(spec, {name: part.shape for name, part in parts.items()}, path)
        version = version_of([spec.version, *((n, p.version) for n, p in parts.items())])
        return ProgramRunnable(spec, wiring, parts, version)

    def _referred(self, module_id: HostId) -> ModuleSpec:
        spec = self._modules.get(str(module_id))
        if spec is None:
            raise _unknown("module", module_id)
        return spec


class Registry:
    """Modules, programs and LMs by the host's ids."""

    def __init__(self) -> None:
        self._modules: dict[str, ModuleSpec] = {}
        self._programs: dict[str, ProgramSpec] = {}
        self.datasets = Datasets()
        self._lms: dict[str | None, LMTable] = {}
        self._adapters: dict[str | None, AdapterChoice] = {}
        self._runnables: dict[tuple[str, str], Runnable] = {}

    # LMs

    def configure(
        self,
        tenant: str | None,
        default: LMSpec | None,
        named: Mapping[str, LMSpec],
        adapter: AdapterChoice | None = None,
    ) -> None:
        """Put LMs over the ones of `tenant`, and an adapter in the place of its one."""
        if len(self._lms) >= MOST_SPECS and tenant not in self._lms:
            raise Busy(f"{MOST_SPECS} tenants have LMs of their own already")
        self._lms[tenant] = self._lms.get(tenant, LMTable()).merged(default, named)
        if adapter is not None:
            self._adapters[tenant] = adapter

    def adapter(self, tenant: str | None) -> AdapterChoice:
        """The adapter that `tenant` has, else the one configured for nobody in particular."""
        return self._adapters.get(tenant) or self._adapters.get(None) or AdapterChoice()

    def lms(self, tenant: str | None) -> LMTable:
        """The LMs that `tenant` sees: its own over those configured for nobody in particular."""
        shared = self._lms.get(None, LMTable())
        own = self._lms.get(tenant) if tenant is not None else None
        return shared if own is None else shared.merged(own.default, own.named)

    # Specs

    def put_module(self, spec: ModuleSpec, path: str = "") -> None:
        """Add or replace a module.

        Raises:
            NotFound: the program that a custom module names is not here.
            InvalidArgs: a custom module would make its program call itself.
        """
        modules = ChainMap({str(spec.id): spec}, self._modules)
        _Resolution(modules, self._programs).module(spec, f"{path}config.program")
        self._put(self._modules, str(spec.id), spec)

    def put_program(self, spec: ProgramSpec, path: str = "") -> ProgramRunnable:
        """Add or replace a program and the modules that came whole with it.

        Raises:
            NotFound: a module reference has no spec here.
            InvalidArgs: the wiring does not hold together, or the program calls itself.
        """
        found = self.fitted(spec, path)
        for module in spec.given:
            self._put(self._modules, str(module.id), module)
        self._put(self._programs, str(spec.id), spec)
        return found

    def fitted(self, spec: ProgramSpec, path: str = "") -> ProgramRunnable:
        """What `put_program` would put, which raises the same; the registry is as it was."""
        given = {str(module.id): module for module in spec.given}
        modules = ChainMap(given, self._modules)
        programs = ChainMap({str(spec.id): spec}, self._programs)
        return _Resolution(modules, programs).program(spec, path)

    def _put(self, where: dict[str, Any], key: str, spec: Any) -> None:
        if key not in where and len(self._modules) + len(self._programs) >= MOST_SPECS:
            raise _full()
        where[key] = spec
        self._runnables.clear()

    def module(self, module_id: str | int) -> ModuleSpec:
        """The module of this id; raise NotFound with ``need: "spec"``."""
        spec = self._modules.get(str(module_id))
        if spec is None:
            raise _unknown("module", module_id)
        return spec

    def program(self, program_id: str | int) -> ProgramSpec:
        """The program of this id; raise NotFound with ``need: "spec"``."""
        spec = self._programs.get(str(program_id))
        if spec is None:
            raise _unknown("program", program_id)
        return spec

    def delete(self, kind: str, key: str | int) -> None:
        """Forget a module or a program; raise NotFound."""
        where = self._modules if kind == "module" else self._programs
        if str(key) not in where:
            raise _unknown(kind, key)
        del where[str(key)]
        self._runnables.clear()

    def modules(self) -> list[ModuleSpec]:
        """Every module, in order of creation."""
        return list(self._modules.values())

    def programs(self) -> list[ProgramSpec]:
        """Every program, in order of creation."""
        return list(self._programs.values())

    def learn(
        self,
        modules: Mapping[str, Mapping[str, Any]],
        started: Mapping[str, ModuleSpec] | None = None,
    ) -> list[str]:
        """Put learned state into modules, except those that are others by now.

        Args:
            modules: ``{id: {instructions?, demos?, predictors?}}``.
            started: the modules as they were when they began to learn.

        Returns:
            The ids of the modules that were deleted or replaced since; they are as they were.
        """
        taught: list[ModuleSpec] = []
        skipped: list[str] = []
        for key, state in modules.items():
            spec = self._modules.get(key)
            began = spec if started is None else started.get(key)
            if spec is None or began is None or not _same_but_state(spec, began):
                skipped.append(key)
                continue
            given = {name: state[name] for name in LEARNED if state.get(name) is not None}
            try:
                taught.append(spec.with_state(given))
            except InvalidArgs:
                skipped.append(key)
        for spec in taught:
            self.put_module(spec)
        return skipped

    # What runs

    def runnable(self, kind: str, key: str | int) -> Runnable:
        """The module or program with all that it calls, as of now.

        Raises:
            NotFound: it is not here, or something that it calls is not.
            InvalidArgs: a module was replaced by one that does not fit its program.
        """
        found = self._runnables.get((kind, str(key)))
        if found is None:
            resolution = _Resolution(self._modules, self._programs)
            if kind == "module":
                found = resolution.module(self.module(key), "module_id")
            else:
                found = resolution.program(self.program(key), "")
            self._runnables[kind, str(key)] = found
        return found

    def version(self, spec: ModuleSpec | ProgramSpec) -> str:
        """The version of a spec that is here; of a program, with its modules'."""
        if isinstance(spec, ModuleSpec):
            return spec.version
        try:
            return self.runnable("program", spec.id).version
        except (NotFound, InvalidArgs):
            # A module is gone, or was replaced by one that does not fit: nothing runs as it is.
            return spec.version

    # Data in and out

    def export(
        self,
        modules: Sequence[HostId] | None,
        programs: Sequence[HostId] | None,
        *,
        keys: bool = False,
    ) -> dict[str, Any]:
        """The registry, or the named part of it with all that it calls, as data.

        Args:
            modules: ids; everything when both are None.
            programs: the same.
            keys: with the keys of modules' own LMs, for a process of ours and nobody else.
        """
        chosen_modules, chosen_programs = self._modules, self._programs
        if modules is not None or programs is not None:
            chosen_modules, chosen_programs = self._with_all_called(
                [self.module(key) for key in modules or ()],
                [self.program(key) for key in programs or ()],
            )
        return {
            "modules": [
                m.to_wire(keys=keys) for key, m in self._modules.items() if key in chosen_modules
            ],
            "programs": [
                p.to_wire() for key, p in self._programs.items() if key in chosen_programs
            ],
        }

    def _with_all_called(
        self, modules: list[ModuleSpec], programs: list[ProgramSpec]
    ) -> tuple[dict[str, ModuleSpec], dict[str, ProgramSpec]]:
        found: tuple[dict[str, ModuleSpec], dict[str, ProgramSpec]] = ({}, {})
        waiting: list[ModuleSpec | ProgramSpec] = [*modules, *programs]
        while waiting:
            spec = waiting.pop()
            if isinstance(spec, ModuleSpec):
                if str(spec.id) not in found[0]:
                    found[0][str(spec.id)] = spec
                    if isinstance(spec.config, CustomConfig):
                        waiting.append(self.program(spec.config.program))
            elif str(spec.id) not in found[1]:
                found[1][str(spec.id)] = spec
                waiting += [self.module(ref.id) for ref in spec.modules]
        return found

    def restore(
        self, modules: Iterable[ModuleSpec], programs: Iterable[ProgramSpec]
    ) -> list[dict[str, Any]]:
        """Put back what `export` gave: everything is checked before anything is put.

        What names a spec that is neither in the data nor here is put as well, because a registry
        whose module was deleted gives such data: whoever calls it is told what it lacks.

        Returns:
            ``[{kind, id}]`` of what is named and missing.

        Raises:
            InvalidArgs: a program does not hold together, with its place in the data.
            Busy: there would be more than `MOST_SPECS`.
        """
        placed_modules, placed_programs = list(modules), list(programs)
        given = [module for program in placed_programs for module in program.given]
        all_modules = {**self._modules, **{str(m.id): m for m in [*placed_modules, *given]}}
        all_programs = {**self._programs, **{str(p.id): p for p in placed_programs}}
        if len(all_modules) + len(all_programs) > MOST_SPECS:
            raise _full()
        # Programs and custom modules name each other: each is checked among all of them.
        for index, program in enumerate(placed_programs):
            with suppress(NotFound):
                _Resolution(all_modules, all_programs).program(program, f"programs[{index}].")
        for index, module in enumerate(placed_modules):
            path = f"modules[{index}].config.program"
            with suppress(NotFound):
                _Resolution(all_modules, all_programs).module(module, path)
        self._modules, self._programs = all_modules, all_programs
        self._runnables.clear()
        return [
            {"kind": kind, "id": key}
            for kind, key in _named([*placed_modules, *given], placed_programs)
            if str(key) not in (all_modules if kind == "module" else all_programs)
        ]


def _named(
    modules: Iterable[ModuleSpec], programs: Iterable[ProgramSpec]
) -> dict[tuple[str, HostId], None]:
    """The kind and id of each spec that these name, once, in order."""
    used = [("module", ref.id) for program in programs for ref in program.modules]
    configs = [module.config for module in modules]
    used += [("program", config.program) for config in configs if isinstance(config, CustomConfig)]
    return dict.fromkeys(used)


def modules_of(runnable: Runnable) -> dict[str, ModuleSpec]:
    """Every module that a runnable calls, by its id as a text."""
    if isinstance(runnable, ModuleRunnable):
        return {str(runnable.spec.id): runnable.spec}
    found: dict[str, ModuleSpec] = {}
    for part in runnable.parts.values():
        found.update(modules_of(part))
    return found


def _same_but_state(one: ModuleSpec, other: ModuleSpec) -> bool:
    if one.version == other.version:
        return True
    return one.with_state({}).version == other.with_state({}).version


def _full() -> Busy:
    return Busy(f"the registry holds {MOST_SPECS} specs; delete some first")


def _unknown(kind: str, key: str | int) -> NotFound:
    return NotFound(f"no {kind} has the id {key!r}", kind=kind, id=key, need="spec")
