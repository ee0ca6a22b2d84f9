"""A module as data: its type, signature, config and learned state, under the host's id.

What types there are is the business of `module_types`. Learned state (demos, instructions) is plain
data wherever it is met.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from shutil import which
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from bridge.metrics import RewardSpec
from bridge.retrieval import check_passages
from bridge.scorers import parse_rewarder
from bridge.specs.checking import Args, checked, nearest
from bridge.specs.lms import LMOptions, LMSpec, parse_lm
from bridge.specs.module_types import (
    IGNORED_STATE,
    MODULE_TYPES,
    OWN_SIGNATURES,
    RENAMED,
    ChainOfThoughtConfig,
    CodeActConfig,
    CodingConfig,
    CustomConfig,
    HostId,
    ModuleType,
    MultiChainComparisonConfig,
    RetrieveConfig,
    RewardedConfig,
    RLMConfig,
)
from bridge.specs.names import name_fault
from bridge.specs.signatures import SignatureSpec, check_names_for, parse_signature
from bridge.specs.steps.reading import ModuleShape
from bridge.specs.tools import ToolSpec, parse_tools
from bridge.specs.version import version_of
from protocol.errors import InvalidArgs, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "CustomConfig",
    "HostId",
    "LearnedState",
    "ModuleSpec",
    "PredictorState",
    "parse_module",
    "with_version",
]

MOST_DEMOS = 1_000
"""Demonstrations of one predictor; more would not fit any prompt."""


class PredictorState(Args):
    """What one predictor has learned."""

    instructions: Annotated[str, Field(max_length=100_000)] | None = None
    demos: Annotated[list[dict[str, Any]], Field(max_length=MOST_DEMOS)] | None = None

    def demos_only(self) -> PredictorState:
        """The same without instructions."""
        return PredictorState(demos=self.demos)


class LearnedState(PredictorState):
    """What a module has learned; `predictors` names the inner ones where there are several."""

    predictors: dict[str, PredictorState] = Field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """``{instructions?, demos?, predictors?}``."""
        return self.model_dump(exclude_none=True, exclude_defaults=True)


@dataclass(frozen=True, slots=True, eq=False)
class ModuleSpec:
    """A whole module as data; `version` is the hash of everything but the id."""

    id: str | int
    type: str
    signature: SignatureSpec
    config: Args
    state: LearnedState
    lm: LMSpec | str | None
    tools: tuple[ToolSpec, ...] = ()
    version: str = field(default="")

    @property
    def asks_lm(self) -> bool:
        """Whether a call of the module needs an LM."""
        return isinstance(self.config, LMOptions)

    def options(self) -> dict[str, Any]:
        """The generation options of its config."""
        return self.config.given() if isinstance(self.config, LMOptions) else {}

    def predictors(self) -> tuple[str, ...]:
        """What learns in the module, by DSPy's names."""
        names = MODULE_TYPES[self.type].predictors
        if isinstance(self.config, RewardedConfig) and self.config.module == "chain_of_thought":
            return tuple(f"{name}.predict" for name in names)
        return names

    def shape(self) -> ModuleShape:
        """What wiring needs to know: required inputs and outputs by name."""
        outputs = tuple(item.name for item in self.signature.outputs)
        added = self.added_output()
        if added is not None and added not in outputs:
            outputs = (added, *outputs)
        more = MODULE_TYPES[self.type].adds
        outputs = (*outputs, *(name for name in more if name not in outputs))
        return ModuleShape({f.name: not f.optional for f in self.signature.inputs}, outputs)

    def added_output(self) -> str | None:
        """The output that the module type adds to its signature, if it adds one."""
        if isinstance(self.config, ChainOfThoughtConfig):
            return self.config.reasoning_field
        if isinstance(self.config, MultiChainComparisonConfig):
            return "rationale"
        if isinstance(self.config, RewardedConfig) and self.config.module == "chain_of_thought":
            return "reasoning"
        return None

    def with_state(self, state: dict[str, Any]) -> ModuleSpec:
        """The same module with other learned state, ``{instructions?, demos?, predictors?}``.

        Raises:
            InvalidArgs: the state does not fit the module.
        """
        taught = replace(self, state=checked(LearnedState, state, "state"))
        _check_state(taught, "state")
        return with_version(taught)

    def to_wire(self, *, keys: bool = False) -> dict[str, Any]:
        """The spec as `create_module` takes it; with its LM's key only if `keys`."""
        wire: dict[str, Any] = {"id": self.id, "type": self.type}
        if MODULE_TYPES[self.type].needs_signature:
            wire["signature"] = self.signature.to_wire()
        wire["config"] = self.config.model_dump(exclude_none=True)
        wire["state"] = self.state.to_wire()
        if self.tools:
            wire["tools"] = [tool.to_wire() for tool in self.tools]
        if self.lm is not None:
            lm = self.lm
            wire["lm"] = lm if isinstance(lm, str) else lm.whole() if keys else lm.to_wire()
        return wire


def parse_module(value: Any, path: str = "") -> ModuleSpec:
    """A `create_module` map, or a whole module inside a program, as a spec.

    Raises:
        InvalidArgs: with every fault found and its path.
        Unsupported: for a module type that this version has not.
    """
    args = checked(_ModuleArgs, value, path)
    here = f"{path}." if path else ""
    row = _type_row(args.type, f"{here}type")
    tools = _tools(args, row, here)
    config_map, state_map, moved = _split_state(args.config or {}, args.state or {}, row)
    try:
        config = checked(row.config, config_map, f"{here}config")
    except InvalidArgs as error:
        raise _at_state(error, moved, here) from None
    state = checked(LearnedState, state_map, f"{here}state")
    signature = _signature(args, row, here)
    lm = None if args.lm is None else parse_lm(args.lm, f"{here}lm")
    spec = ModuleSpec(args.id, args.type, signature, config, state, lm, tools)
    _check_names(spec, f"{here}signature")
    _check_config(spec, f"{here}config")
    _check_state(spec, f"{here}state")
    return with_version(spec)


def with_version(spec: ModuleSpec) -> ModuleSpec:
    """The same spec with its version worked out; two ids with one content share a version."""
    content = {key: value for key, value in spec.to_wire().items() if key != "id"}
    if isinstance(spec.lm, LMSpec):
        content["lm_key"] = spec.lm.fingerprint
    return replace(spec, version=version_of(content))


class _ModuleArgs(Args):
    id: HostId
    type: str
    signature: Any = None
    config: dict[str, Any] | None = None
    state: dict[str, Any] | None = None
    tools: list[Any] | None = None
    lm: Any = None


def _type_row(name: str, path: str) -> ModuleType:
    row = MODULE_TYPES.get(name)
    if row is not None:
        return row
    close = nearest(name, MODULE_TYPES)
    hint = f"did you mean {close!r}?" if close else f"known: {', '.join(MODULE_TYPES)}"
    raise InvalidArgs.at(path, f"unknown module type {name!r}; {hint}", nearest=close)


def _split_state(
    config: dict[str, Any], state: dict[str, Any], row: ModuleType
) -> tuple[dict[str, Any], dict[str, Any], set[str]]:
    """Config and state apart, and what went from state to config.

    The seed keeps temperature and max_tokens in the state.
    """
    settled = {key: value for key, value in config.items() if value is not None}
    learned: dict[str, Any] = {}
    moved: set[str] = set()
    renamed = RENAMED.get(row.name, {})
    settled = {renamed.get(key, key): value for key, value in settled.items()}
    for given, value in state.items():
        key = renamed.get(given, given)
        if value is None or key in IGNORED_STATE:
            continue
        if key in row.config.model_fields:
            settled[key] = value
            moved.add(key)
        else:
            learned[key] = value
    for key in ("demos", "instructions"):
        if key in settled and key not in row.config.model_fields:
            learned.setdefault(key, settled.pop(key))
    return settled, learned, moved


def _at_state(error: InvalidArgs, moved: set[str], here: str) -> InvalidArgs:
    """The same faults where the host wrote the values."""
    faults = []
    for fault in error.details["faults"]:
        tail = fault["path"].removeprefix(f"{here}config.")
        key = tail.partition(".")[0].partition("[")[0]
        faults.append({**fault, "path": f"{here}state.{tail}"} if key in moved else fault)
    return InvalidArgs.of(faults)


def _tools(args: _ModuleArgs, row: ModuleType, here: str) -> tuple[ToolSpec, ...]:
    if not args.tools:
        return ()
    if row.tools is None:
        takers = ", ".join(other.name for other in MODULE_TYPES.values() if other.tools is not None)
        raise InvalidArgs.at(f"{here}tools", f"a {row.name} module takes none; {takers} do")
    return parse_tools(args.tools, f"{here}tools", row.tools)


def _signature(args: _ModuleArgs, row: ModuleType, here: str) -> SignatureSpec:
    if row.needs_signature:
        if args.signature is None:
            raise InvalidArgs.at(f"{here}signature", "is missing")
        return parse_signature(args.signature, f"{here}signature")
    if args.signature is not None:
        whose = "its own: query -> passages" if row.name == "retrieve" else "those of its program"
        raise InvalidArgs.at(
            f"{here}signature", f"a {row.name} module takes none; its fields are {whose}"
        )
    return OWN_SIGNATURES[row.name]


def _check_names(spec: ModuleSpec, path: str) -> None:
    check_names_for(spec.signature, spec.type, path)
    config = spec.config
    if isinstance(config, RewardedConfig):
        check_names_for(spec.signature, config.module, path)
    if isinstance(config, ChainOfThoughtConfig):
        for index, item in enumerate(spec.signature.inputs):
            if item.name == config.reasoning_field:
                raise InvalidArgs.at(
                    f"{path}.inputs[{index}].name",
                    f"{item.name!r} is the module's reasoning_field, an output",
                )


def _check_config(spec: ModuleSpec, path: str) -> None:
    config = spec.config
    if isinstance(config, ChainOfThoughtConfig):
        why = name_fault(config.reasoning_field, "outputs")
        if why is not None:
            raise InvalidArgs.at(f"{path}.reasoning_field", why)
    elif isinstance(config, RetrieveConfig):
        if (config.passages is None) == (config.host is None):
            raise InvalidArgs.at(path, "give one of 'passages' and 'host'")
        if config.passages is not None:
            check_passages(config.passages, f"{path}.passages")
    elif isinstance(config, CodingConfig):
        _check_coding(spec, config, path)
    elif isinstance(config, RewardedConfig):
        reward = parse_rewarder(config.reward, f"{path}.reward")
        if not isinstance(reward, RewardSpec):
            return
        shape = spec.shape()
        _check_field(reward.metric.field, shape.outputs, f"{path}.reward.field")
        if reward.against is not None:
            _check_field(reward.against, shape.inputs, f"{path}.reward.against")


def _check_coding(spec: ModuleSpec, config: CodingConfig, path: str) -> None:
    if config.interpreter == "deno" and find_spec("deno") is None and which("deno") is None:
        raise MissingExtra(
            f"{path}.interpreter: Deno is not installed; leave this out and the bridge's own "
            "sandbox runs the code",
            package="deno",
            install="pip install 'dspy[deno]'",
        )
    if isinstance(config, CodeActConfig):
        for index, tool in enumerate(spec.tools):
            if tool.source is None:
                where = path.removesuffix("config") + f"tools[{index}].code"
                raise InvalidArgs.at(
                    where,
                    "is missing: code_act defines its tools in the sandbox, from their source",
                )
    elif isinstance(config, RLMConfig):
        names = {item.name for item in spec.signature.inputs}
        for index, tool in enumerate(spec.tools):
            if tool.name in names:
                where = path.removesuffix("config") + f"tools[{index}].name"
                raise InvalidArgs.at(
                    where, f"{tool.name!r} is also an input: code finds one of them"
                )


def _check_field(name: str, known: Collection[str], path: str) -> None:
    if name not in known:
        close = nearest(name, known)
        hint = f"did you mean {close!r}?" if close else f"known: {', '.join(known)}"
        more = {"nearest": close} if close else {}
        raise InvalidArgs.at(path, f"the module has no field {name!r}; {hint}", **more)


def _check_state(spec: ModuleSpec, path: str) -> None:
    known = spec.predictors()
    if not known and spec.state.to_wire():
        raise InvalidArgs.at(path, f"a {spec.type} module learns nothing")
    for name in spec.state.predictors:
        if name not in known:
            close = nearest(name, known)
            more = {"nearest": close} if close else {}
            raise InvalidArgs.at(
                f"{path}.predictors.{name}",
                f"no such predictor; this module has {', '.join(known)}",
                **more,
            )
