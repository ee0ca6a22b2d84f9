"""A module as data: its type, signature, config and learned state, under the host's id.

`MODULE_TYPES` is the one table of what there is; each row names the pydantic model of its config.
Learned state (demos, instructions) is plain data wherever it is met.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bridge.metrics import parse_reward
from bridge.retrieval import check_passages
from bridge.specs.checking import Args, checked, nearest
from bridge.specs.lms import LMOptions, LMSpec, parse_lm
from bridge.specs.names import name_fault
from bridge.specs.signatures import (
    FieldSpec,
    SignatureSpec,
    check_names_for,
    parse_signature,
)
from bridge.specs.steps import ModuleShape
from bridge.specs.types import Array, Scalar
from bridge.specs.version import version_of
from protocol.errors import InvalidArgs, Unsupported

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["MODULE_TYPES", "HostId", "LearnedState", "ModuleSpec", "ModuleType", "parse_module"]

HostId = Annotated[str, Field(min_length=1, max_length=512)] | int
"""The host's own id; `5` and `"5"` name the same thing, because JSON map keys are strings."""

MOST_DEMOS = 1_000
"""Demonstrations of one predictor; more would not fit any prompt."""


class PredictConfig(LMOptions):
    """Generation options only."""


class ChainOfThoughtConfig(LMOptions):
    """`reasoning_field`: the output that holds the reasoning."""

    reasoning_field: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)] = (
        "reasoning"
    )


class MultiChainComparisonConfig(LMOptions):
    """`m` chains of thought are sampled at `temperature` (0.7), then compared."""

    m: Annotated[int, Field(ge=2, le=20)] = 3


class RewardedConfig(LMOptions):
    """`n` attempts of `module` (predict or chain_of_thought) until `reward` reaches `threshold`."""

    n: Annotated[int, Field(ge=1, le=50)] = 3
    threshold: float = 1.0
    reward: Any = None
    fail_count: Annotated[int, Field(ge=1)] | None = None
    module: Literal["predict", "chain_of_thought"] = "predict"


class CustomConfig(Args):
    """`program`: the id of the program that this module is another name of."""

    program: HostId


class RetrieveConfig(Args):
    """`k` best of `passages` by BM25, for a query."""

    passages: Annotated[list[str | dict[str, Any]], Field(min_length=1, max_length=100_000)]
    k: Annotated[int, Field(ge=1, le=1_000)] = 3


@dataclass(frozen=True, slots=True)
class ModuleType:
    """One row of the table.

    Attributes:
        name: on the wire.
        config: the model of its config.
        summary: for a person who looks for a type.
        predictors: what learns, by the names that `state.predictors` takes.
        needs_signature: False where the module has fields of its own.
    """

    name: str
    config: type[Args]
    summary: str
    predictors: tuple[str, ...]
    needs_signature: bool = True


MODULE_TYPES: dict[str, ModuleType] = {
    row.name: row
    for row in (
        ModuleType("predict", PredictConfig, "dspy.Predict: inputs in, outputs out", ("self",)),
        ModuleType(
            "chain_of_thought",
            ChainOfThoughtConfig,
            "dspy.ChainOfThought: reasons, then answers",
            ("predict",),
        ),
        ModuleType(
            "multi_chain_comparison",
            MultiChainComparisonConfig,
            "dspy.MultiChainComparison over its own sampled chains",
            ("chain.predict", "compare.predict"),
        ),
        ModuleType(
            "best_of_n", RewardedConfig, "dspy.BestOfN: the best attempt by a reward", ("inner",)
        ),
        ModuleType(
            "refine",
            RewardedConfig,
            "dspy.Refine: attempts with feedback in between",
            ("inner",),
        ),
        ModuleType("custom", CustomConfig, "a program by another name", (), needs_signature=False),
        ModuleType(
            "retrieve", RetrieveConfig, "BM25 over given passages", (), needs_signature=False
        ),
    )
}

NOT_YET: dict[str, str] = {
    "react": "needs tools that the host answers",
    "react_v2": "needs tools that the host answers",
    "program_of_thought": "needs the sandbox",
    "code_act": "needs the sandbox",
    "rlm": "needs the sandbox",
}
"""Module types that DSPy has and this version of the bridge has not, and why."""

IGNORED_STATE: dict[str, str] = {
    "module_id": "the seed's Elixir modules keep their own id in their state",
    "signature": "the seed's Elixir modules keep their signature in their state",
    "tools": "the seed's ReAct keeps its tools in its state; a module's own `tools` count",
}
"""State keys of the seed's Elixir side that say nothing to the daemon."""

OWN_SIGNATURES: dict[str, SignatureSpec] = {
    "retrieve": SignatureSpec(
        (FieldSpec("query", Scalar("string"), "What to look for"),),
        (FieldSpec("passages", Array(Scalar("string"))),),
    ),
    "custom": SignatureSpec((), ()),
}
"""Of the types that take none from the host; a custom module's fields are its program's."""


class PredictorState(Args):
    """What one predictor has learned."""

    instructions: Annotated[str, Field(max_length=100_000)] | None = None
    demos: Annotated[list[dict[str, Any]], Field(max_length=MOST_DEMOS)] | None = None


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
    if args.tools:
        raise Unsupported(f"{here}tools: {args.type} takes no tools in this version")
    config_map, state_map, moved = _split_state(args.config or {}, args.state or {}, row)
    try:
        config = checked(row.config, config_map, f"{here}config")
    except InvalidArgs as error:
        raise _at_state(error, moved, here) from None
    state = checked(LearnedState, state_map, f"{here}state")
    signature = _signature(args, row, here)
    lm = None if args.lm is None else parse_lm(args.lm, f"{here}lm")
    spec = ModuleSpec(args.id, args.type, signature, config, state, lm)
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
    if name in NOT_YET:
        raise Unsupported(f"{path}: {name!r} is not in this version: it {NOT_YET[name]}")
    close = nearest(name, [*MODULE_TYPES, *NOT_YET])
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
    for key, value in state.items():
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
        check_passages(config.passages, f"{path}.passages")
    elif isinstance(config, RewardedConfig):
        reward = parse_reward(config.reward, f"{path}.reward")
        shape = spec.shape()
        _check_field(reward.metric.field, shape.outputs, f"{path}.reward.field")
        if reward.against is not None:
            _check_field(reward.against, shape.inputs, f"{path}.reward.against")


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
