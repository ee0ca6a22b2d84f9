"""`program_of_thought`, `code_act` and `rlm`: modules whose LM writes code, run in the sandbox.

DSPy's own interpreter for them is Deno with a download; with ``interpreter: "deno"`` it is used.
"""

from __future__ import annotations

import inspect
import linecache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import dspy
from dspy.primitives.code_interpreter import CodeInterpreterError

from bridge.engine.modules.agents import Optioned
from bridge.engine.modules.interpreters import SandboxInterpreter
from bridge.engine.modules.tools import BridgeTool
from bridge.engine.signatures import build_signature
from protocol.errors import ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.specs.modules import ModuleSpec
    from bridge.specs.source.tools import ToolText
    from bridge.specs.tools import ToolSpec

__all__ = ["code_act", "program_of_thought", "rlm"]


def program_of_thought(spec: ModuleSpec) -> dspy.Module:
    """`dspy.ProgramOfThought`."""
    config: Any = spec.config
    inner = dspy.ProgramOfThought(
        _signature(spec), max_iters=config.max_iters, interpreter_factory=_factory(spec)
    )
    for name in ("code_generate", "code_regenerate", "generate_output"):
        _give_options(getattr(inner, name), "predict", spec)
    return Coding(inner, spec)


def code_act(spec: ModuleSpec) -> dspy.Module:
    """`dspy.CodeAct`: its tools are functions in source, defined in the sandbox."""
    config: Any = spec.config
    texts = [tool.source for tool in spec.tools if tool.source is not None]
    inner = dspy.CodeAct(
        _signature(spec),
        tools=[_function_tool(tool) for tool in spec.tools],
        max_iters=config.max_iters,
        interpreter_factory=_factory(spec, [text.text for text in texts]),
    )
    _give_options(inner, "codeact", spec)
    _give_options(inner.extractor, "predict", spec)
    return Coding(inner, spec)


def rlm(spec: ModuleSpec, named_lm: Callable[[str], dspy.LM]) -> dspy.Module:
    """`dspy.RLM`: its tools are functions of the code that the LM writes."""
    config: Any = spec.config
    sub_lm = None if config.sub_lm is None else NamedLM(config.sub_lm, named_lm)
    inner = dspy.RLM(
        _signature(spec),
        max_iters=config.max_iters,
        max_llm_calls=config.max_llm_calls,
        max_output_chars=config.max_output_chars,
        tools=[_signed(BridgeTool(tool), tool) for tool in spec.tools],
        sub_lm=sub_lm,
        interpreter_factory=_factory(spec),
    )
    _give_options(inner, "generate_action", spec)
    _give_options(inner, "extract", spec)
    return Coding(inner, spec, sub_lm)


class NamedLM:
    """An LM by its name, found anew for each call: another one may have the name by then."""

    def __init__(self, name: str, find: Callable[[str], dspy.LM]) -> None:
        self._name = name
        self._find = find

    def find(self) -> dspy.LM:
        """The LM; raise NotFound."""
        return self._find(self._name)

    def __call__(self, prompt: str) -> Any:
        """What it answers, as `dspy.LM` gives it."""
        return self.find()(prompt)

    def __deepcopy__(self, memo: dict[int, Any]) -> NamedLM:
        return self


class Coding(dspy.Module):  # type: ignore[misc]
    """One of DSPy's modules that run code; what stops it is the program's error, in words."""

    def __init__(self, inner: dspy.Module, spec: ModuleSpec, sub_lm: NamedLM | None = None) -> None:
        super().__init__()
        self.inner = inner
        self._sub_lm = sub_lm
        self._kind = spec.type
        self._inputs = [item.name for item in spec.signature.inputs]

    def named_predictors(self) -> list[tuple[str, dspy.Predict]]:
        """The predictors by DSPy's names for them, as if this were the module itself."""
        found: list[tuple[str, dspy.Predict]] = self.inner.named_predictors()
        return found

    def forward(self, config: Mapping[str, Any] | None = None, **inputs: Any) -> Any:  # noqa: ARG002
        """One prediction; `config` reaches the predictors through the request's scope."""
        given = {name: inputs.get(name) for name in self._inputs}
        if self._sub_lm is not None:
            # A name that nobody has is the host's mistake, and not for the code to learn of.
            self._sub_lm.find()
        try:
            return self.inner(**given)
        except CodeInterpreterError as error:
            raise ProgramError(f"{self._kind}: the interpreter failed: {error}"[:2_000]) from error
        except RuntimeError as error:
            if "Max hops reached" not in str(error):
                raise
            raise ProgramError(
                f"{self._kind}: the LM wrote no code that runs: {error}"[:2_000]
            ) from error


def _signature(spec: ModuleSpec) -> Any:
    signature = build_signature(spec.signature)
    instructions = spec.state.instructions
    return signature if instructions is None else signature.with_instructions(instructions)


def _factory(spec: ModuleSpec, preamble: list[str] | None = None) -> Callable[[], Any]:
    config: Any = spec.config
    if config.interpreter == "deno":
        return dspy.PythonInterpreter  # type: ignore[no-any-return]
    return SandboxFactory(preamble or [])


class SandboxFactory:
    """Makes an interpreter for each call; `preamble` is source that each begins with."""

    execution_instructions = SandboxInterpreter.execution_instructions

    def __init__(self, preamble: list[str]) -> None:
        self._preamble = preamble

    def __call__(self) -> SandboxInterpreter:
        return SandboxInterpreter(self._preamble)

    def __deepcopy__(self, memo: dict[int, Any]) -> SandboxFactory:
        return self


def _give_options(owner: Any, name: str, spec: ModuleSpec) -> None:
    """Have a predictor take the module's own options, and a request's over them."""
    predictor = getattr(owner, name)
    options = {**predictor.config, **spec.options()}
    setattr(owner, name, Optioned(predictor.signature, **options))


def _signed(tool: BridgeTool, spec: ToolSpec) -> BridgeTool:
    """The tool with a function whose parameters are its arguments: code calls it by place, too."""

    def named(**_: Any) -> None:
        """Stands for the tool where DSPy looks for its parameters."""

    named.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            for name in spec.arguments()
        ]
    )
    named.__name__ = spec.name
    tool.func = named
    return tool


def _function_tool(spec: ToolSpec) -> dspy.Tool:
    """A tool for CodeAct, which takes functions only and ships their source to the sandbox.

    The function is never called: `inspect` finds the given source where its code says it stands,
    and what runs is that, in the sandbox.
    """
    assert spec.source is not None, "checked with the spec"  # noqa: S101
    text = spec.source
    place = f"<tool {sha256(text.text.encode()).hexdigest()[:12]}>"
    linecache.cache[place] = (len(text.text), None, text.text.splitlines(keepends=True), place)

    def tool(**_: Any) -> None:
        """Stands for the source."""

    tool.__code__ = tool.__code__.replace(co_filename=place, co_firstlineno=_first_line(text))
    tool.__name__ = tool.__qualname__ = spec.name
    tool.__module__ = place
    return dspy.Tool(
        tool,
        name=spec.name,
        desc=spec.description,
        args=dict(spec.parameters["properties"]),
        arg_types={},
    )


def _first_line(text: ToolText) -> int:
    """Where the function begins."""
    lines = text.text.splitlines()
    begins = (f"def {text.name}(", f"async def {text.name}(")
    return next(number for number, line in enumerate(lines, 1) if line.startswith(begins))
