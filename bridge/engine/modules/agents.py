"""`react` and `react_v2`: modules that call tools in turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dspy

from bridge.engine.modules.tools import BridgeTool
from bridge.engine.signatures import build_signature
from bridge.scope import current_scope
from protocol.errors import ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.specs.modules import ModuleSpec

__all__ = ["Optioned", "react", "react_v2"]

GAVE_UP = "ReActV2 failed to produce final outputs"

MOST_MESSAGE = 2_000
"""Characters of what DSPy says of it: it quotes the LM's attempts."""


def react(spec: ModuleSpec) -> dspy.Module:
    """`dspy.ReAct` over the spec's tools."""
    return _agent(dspy.ReAct, spec)


def react_v2(spec: ModuleSpec) -> dspy.Module:
    """`dspy.ReActV2` over the spec's tools."""
    agent = _agent(_ReActV2, spec)
    # It hands its own inputs on and nothing else, so a request's options come another way.
    agent.react = Optioned(agent.react.signature, **agent.react.config)
    return agent


def _agent(kind: Callable[..., dspy.Module], spec: ModuleSpec) -> dspy.Module:
    config: Any = spec.config
    signature = build_signature(spec.signature)
    if spec.state.instructions is not None:
        signature = signature.with_instructions(spec.state.instructions)
    tools = [BridgeTool(tool) for tool in spec.tools]
    agent = kind(signature, tools=tools, max_iters=config.max_iters)
    for predictor in agent.predictors():
        predictor.config = {**predictor.config, **spec.options()}
    return agent


class _ReActV2(dspy.ReActV2):  # type: ignore[misc]
    """`dspy.ReActV2` that takes, as every module here, a request's options under `config`."""

    def forward(self, config: Mapping[str, Any] | None = None, **inputs: Any) -> Any:  # noqa: ARG002
        """One prediction; raise ProgramError where the LM never submits what can be taken."""
        try:
            return super().forward(**inputs)
        except ValueError as error:
            # DSPy has no class for it.
            if not str(error).startswith(GAVE_UP):
                raise
            raise ProgramError(f"react_v2: {error}"[:MOST_MESSAGE]) from error


class Optioned(dspy.Predict):  # type: ignore[misc]
    """A predictor that takes the request's options from its scope."""

    def forward(self, **inputs: Any) -> Any:
        """One prediction."""
        inputs["config"] = {**current_scope.get().options, **inputs.get("config", {})}
        return super().forward(**inputs)
