"""The table of module types, and the pydantic model of each one's config.

Nothing else knows what types there are: what a type adds, keeps for itself and learns is its row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StrictInt

from bridge.specs.checking import Args
from bridge.specs.lms import LMOptions
from bridge.specs.signatures import FieldSpec, SignatureSpec
from bridge.specs.types.reading import Array, Scalar

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "IGNORED_STATE",
    "MODULE_TYPES",
    "OWN_SIGNATURES",
    "RENAMED",
    "AgentConfig",
    "ChainOfThoughtConfig",
    "CodeActConfig",
    "CodingConfig",
    "CustomConfig",
    "HostId",
    "ModuleType",
    "MultiChainComparisonConfig",
    "PredictConfig",
    "RLMConfig",
    "RetrieveConfig",
    "RewardedConfig",
]

HostId = Annotated[str, Field(min_length=1, max_length=512)] | StrictInt
"""The host's own id; `5` and `"5"` name the same thing, because JSON map keys are strings."""


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


class AgentConfig(LMOptions):
    """At most `max_iters` turns of thinking and calling tools."""

    max_iters: Annotated[int, Field(ge=1, le=200)] = 20


class CodingConfig(LMOptions):
    """At most `max_iters` tries; `interpreter` is the bridge's sandbox, or Deno where it is."""

    max_iters: Annotated[int, Field(ge=1, le=100)] = 3
    interpreter: Literal["sandbox", "deno"] = "sandbox"


class CodeActConfig(CodingConfig):
    """The same, in more tries."""

    max_iters: Annotated[int, Field(ge=1, le=100)] = 5


class RLMConfig(CodingConfig):
    """`max_llm_calls` that the code may make, and `max_output_chars` of it that the LM reads.

    `sub_lm` is the name of the LM that the code asks; the module's own when left out.
    """

    max_iters: Annotated[int, Field(ge=1, le=200)] = 20
    max_llm_calls: Annotated[int, Field(ge=0, le=10_000)] = 50
    max_output_chars: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    sub_lm: Annotated[str, Field(min_length=1, max_length=256)] | None = None


class CustomConfig(Args):
    """`program`: the id of the program that this module is another name of."""

    program: HostId


class RetrieveConfig(Args):
    """`k` best passages for a query: of `passages` by BM25, or those that the `host` finds."""

    passages: Annotated[
        list[str | dict[str, Any]] | None, Field(min_length=1, max_length=100_000)
    ] = None
    host: Annotated[str, Field(min_length=1, max_length=256)] | None = None
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
        adds: outputs that the module puts behind those of its signature.
        tools: names that its tools may not have, each with its reason; None for no tools.
        composes: whether it writes instructions of its own around the signature's, so that a
            state's `instructions` are the signature's and not the predictors'.
    """

    name: str
    config: type[Args]
    summary: str
    predictors: tuple[str, ...]
    needs_signature: bool = True
    adds: tuple[str, ...] = ()
    tools: Mapping[str, str] | None = None
    composes: bool = False


_RLM_FUNCTIONS = ("llm_query", "llm_query_batched", "SUBMIT", "print", "dspy")
_OWN_FUNCTION = "a function of the module's own has this name"

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
            "react",
            AgentConfig,
            "dspy.ReAct: thinks and calls tools in turns, then answers",
            ("react", "extract.predict"),
            adds=("reasoning", "trajectory"),
            tools={"finish": "the module ends with it"},
            composes=True,
        ),
        ModuleType(
            "react_v2",
            AgentConfig,
            "dspy.ReActV2: the same by native function calls, where LM and adapter have them",
            ("react",),
            adds=("history", "termination_reason"),
            tools={"submit": "the module answers with it"},
            composes=True,
        ),
        ModuleType(
            "program_of_thought",
            CodingConfig,
            "dspy.ProgramOfThought: writes code that computes the answer",
            ("code_generate.predict", "code_regenerate.predict", "generate_output.predict"),
            adds=("reasoning",),
            composes=True,
        ),
        ModuleType(
            "code_act",
            CodeActConfig,
            "dspy.CodeAct: writes code in turns, with functions of yours",
            ("codeact", "extractor.predict"),
            adds=("reasoning", "trajectory"),
            tools={},
            composes=True,
        ),
        ModuleType(
            "rlm",
            RLMConfig,
            "dspy.RLM: explores long inputs with code that asks LMs",
            ("generate_action", "extract"),
            adds=("trajectory", "final_reasoning"),
            tools=dict.fromkeys(_RLM_FUNCTIONS, _OWN_FUNCTION),
            composes=True,
        ),
        ModuleType(
            "retrieve",
            RetrieveConfig,
            "passages for a query: BM25 over given ones, or the host's",
            (),
            needs_signature=False,
        ),
    )
}

RENAMED: dict[str, dict[str, str]] = {
    "react": {"max_iterations": "max_iters"},
    "react_v2": {"max_iterations": "max_iters"},
    "program_of_thought": {"max_iterations": "max_iters"},
    "code_act": {"max_iterations": "max_iters"},
    "rlm": {"max_iterations": "max_iters"},
}
"""Config keys by the seed's names, for each module type that has them."""

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
