"""Module specs as DSPy modules. One builder a type; a table finds it.

A built module is shared by all requests of its version and never changed by a call: what DSPy
changes while it runs (BestOfN's failure count) is made anew for each call. Every module here takes
`config`, a request's own generation options, beside its inputs.
"""

from __future__ import annotations

import inspect
import itertools
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dspy

from bridge.engine.conversion import plain, plain_fields
from bridge.engine.modules.agents import react, react_v2
from bridge.engine.modules.coding import code_act, program_of_thought, rlm
from bridge.engine.modules.retrievers import retriever
from bridge.engine.scoring.metrics import NoScoreError, read_score
from bridge.engine.scoring.source_metrics import source_reward
from bridge.engine.signatures import FieldReader, build_signature, without_markers
from bridge.engine.streaming.listening import name_predictors
from bridge.metrics import METRICS
from bridge.scope import current_attempt, current_scope
from bridge.scorers import HostReward, Rewarder, parse_rewarder
from bridge.specs.module_types import MODULE_TYPES
from bridge.specs.source.functions import CodeSpec
from protocol.errors import HostError, ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bridge.specs.module_types import RewardedConfig
    from bridge.specs.modules import ModuleSpec, PredictorState

__all__ = ["AWAITED", "build_module"]


def build_module(spec: ModuleSpec, named_lm: Callable[[str], dspy.LM]) -> dspy.Module:
    """The DSPy module of `spec`, with its learned state in it.

    Args:
        spec: what to build.
        named_lm: the LM of a name, for the request that is running when it is asked.
    """
    module = rlm(spec, named_lm) if spec.type == "rlm" else _BUILDERS[spec.type](spec)
    _teach(module, spec)
    name_predictors(dict(module.named_predictors()))
    return module


def _predict(spec: ModuleSpec) -> dspy.Module:
    return dspy.Predict(build_signature(spec.signature), **spec.options())


def _chain_of_thought(spec: ModuleSpec) -> dspy.Module:
    config: Any = spec.config
    return _reasoning_module(spec, config.reasoning_field)


def _reasoning_module(spec: ModuleSpec, field: str) -> dspy.Module:
    signature = build_signature(spec.signature)
    if field == "reasoning":
        return dspy.ChainOfThought(signature, **spec.options())
    return NamedReasoning(signature, field, **spec.options())


class NamedReasoning(dspy.Module):  # type: ignore[misc]
    """ChainOfThought under the host's name for the reasoning."""

    def __init__(self, signature: Any, field: str, **options: Any) -> None:
        super().__init__()
        # A field of the host's own under this name stays as it is and comes first, as in DSPy.
        about = dspy.OutputField(desc=f"${{{field}}}")
        self.predict = dspy.Predict(signature.prepend(field, about, str), **options)

    def forward(self, **inputs: Any) -> Any:
        """One prediction."""
        return self.predict(**inputs)

    async def aforward(self, **inputs: Any) -> Any:
        """The same, awaited."""
        return await self.predict.acall(**inputs)


AWAITED = frozenset({dspy.Predict, dspy.ChainOfThought, NamedReasoning})
"""The modules that await nothing but their LM; the others of DSPy's ask asyncio for more."""


def _multi_chain_comparison(spec: ModuleSpec) -> dspy.Module:
    config: Any = spec.config
    return ComparedChains(build_signature(spec.signature), config.m, spec.options())


class ComparedChains(dspy.Module):  # type: ignore[misc]
    """Samples the chains that DSPy's MultiChainComparison wants, then lets it compare them."""

    def __init__(self, signature: Any, m: int, options: dict[str, Any]) -> None:
        super().__init__()
        options = {"temperature": 0.7, **options}
        self.chain = dspy.ChainOfThought(signature, **options)
        self.compare = dspy.MultiChainComparison(signature, M=m, **options)
        self.m = m

    def forward(self, **inputs: Any) -> Any:
        """`m` chains, then the comparison."""
        chains = []
        for number in range(self.m):
            with numbered(number):
                chains.append(_texts(self.chain(**inputs)))
        return self.compare(chains, **inputs)


def _texts(chain: Any) -> dict[str, str]:
    """A chain as the comparison shows it; DSPy takes the reasoning's lines from a string."""
    return {
        name: value if isinstance(value, str) else str(plain(value))
        for name, value in chain.items()
    }


@contextmanager
def numbered(number: int) -> Iterator[None]:
    """Within, LM calls are of attempt `number`: a cache keeps equal prompts of two apart."""
    token = current_attempt.set(number)
    try:
        yield
    finally:
        current_attempt.reset(token)


def _rewarded(kind: Callable[..., dspy.Module]) -> Callable[[ModuleSpec], dspy.Module]:
    def build(spec: ModuleSpec) -> dspy.Module:
        config: Any = spec.config
        inner = (
            _reasoning_module(spec, "reasoning")
            if config.module == "chain_of_thought"
            else _predict(spec)
        )
        return Rewarded(kind, inner, config)

    return build


class Attempt(dspy.Module):  # type: ignore[misc]
    """One attempt of a rewarded module; remembers why it failed, which DSPy only prints.

    Args:
        inner: what is attempted.
        options: the request's generation options.
        failures: collects why attempts failed.
        numbers: counts attempts.
        originals: collects, by the identity of a copy's predictor, the copy and its original.
    """

    def __init__(
        self,
        inner: dspy.Module,
        options: Mapping[str, Any],
        failures: list[Exception],
        numbers: Iterator[int],
        originals: dict[int, tuple[dspy.Predict, dspy.Predict]],
    ) -> None:
        super().__init__()
        self.inner = inner
        self._options = options
        self._failures = failures
        self._numbers = numbers
        self._originals = originals

    def forward(self, **inputs: Any) -> Any:
        """The inner module's prediction."""
        try:
            with numbered(next(self._numbers)):
                return self.inner(**inputs, config=self._options)
        except Exception as error:
            self._failures.append(error)
            raise

    def deepcopy(self) -> Attempt:
        """A copy with learned state of its own, that counts and remembers with this one."""
        inner = self.inner.deepcopy()
        pairs = zip(inner.predictors(), self.inner.predictors(), strict=True)
        self._originals.update((id(copied), (copied, original)) for copied, original in pairs)
        return Attempt(inner, self._options, self._failures, self._numbers, self._originals)


class Reward:
    """The reward of one attempt as DSPy calls it; higher is better."""

    def __init__(self, spec: Rewarder, failures: list[Exception]) -> None:
        self._spec, self._failures = spec, failures

    def __call__(self, inputs: dict[str, Any], prediction: Any) -> float:
        """Score one prediction for these inputs."""
        try:
            plain_inputs = {name: plain(value) for name, value in inputs.items()}
            return self._score(plain_inputs, plain_fields(prediction))
        except Exception as error:
            self._failures.append(error)
            raise

    def _score(self, inputs: dict[str, Any], prediction: dict[str, Any]) -> float:
        if isinstance(self._spec, CodeSpec):
            return source_reward(self._spec, inputs, prediction)
        if not isinstance(self._spec, HostReward):
            return self._spec(inputs, prediction)
        name = self._spec.host
        args = {"inputs": inputs, "prediction": prediction}
        said = current_scope.get().ask_host("reward", name, args)
        try:
            return read_score(said).value
        except NoScoreError as error:
            raise HostError(f"reward {name!r} {error}") from error

    def source(self) -> str:
        """The metric's own source, and what it was called with."""
        if isinstance(self._spec, HostReward):
            return f"# reward: {self._spec.host}, a number; higher is better\n"
        if isinstance(self._spec, CodeSpec):
            return self._spec.function.text
        options = json.dumps(self._spec.to_wire(), ensure_ascii=False, default=str)
        function = METRICS[self._spec.metric.name].function
        return f"# reward: {options}\n{inspect.getsource(function)}"


class RefinedAttempts(dspy.Refine):  # type: ignore[misc]
    """`dspy.Refine` that tells the LM which reward it missed.

    Refine would show the LM the source of the objects it calls; here they are the same for every
    program, so the LM is told what they are made from.
    """

    def __init__(
        self,
        module: Attempt,
        N: int,  # noqa: N803 - DSPy's name
        reward_fn: Reward,
        threshold: float,
        fail_count: int | None = None,
    ) -> None:
        self.module = module
        self.N = N
        self.reward_fn = reward_fn
        self.threshold = threshold
        self.fail_count = fail_count or N
        self.module_code = f"dspy.{type(module.inner).__name__}(signature)"
        self.reward_fn_code = reward_fn.source()


class Rewarded(dspy.Module):  # type: ignore[misc]
    """BestOfN or Refine, made anew for each call because a call uses up its failures."""

    def __init__(
        self, kind: Callable[..., dspy.Module], inner: dspy.Module, config: RewardedConfig
    ) -> None:
        super().__init__()
        self.inner = inner
        self._make = kind
        self._settings = config
        self._reward = parse_rewarder(config.reward, "config.reward")

    def forward(self, config: Mapping[str, Any] | None = None, **inputs: Any) -> Any:
        """The best attempt; raise the last failure when every attempt failed."""
        failures: list[Exception] = []
        originals: dict[int, tuple[dspy.Predict, dspy.Predict]] = {}
        settings = self._settings
        trace = dspy.settings.trace
        begun = len(trace)
        best = self._make(
            module=Attempt(self.inner, config or {}, failures, itertools.count(), originals),
            N=settings.n,
            reward_fn=Reward(self._reward, failures),
            threshold=settings.threshold,
            fail_count=settings.fail_count,
        )(**inputs)
        # An optimizer knows the module's own predictors, not those of the copies that answered.
        trace[begun:] = [
            (originals.get(id(predictor), (None, predictor))[1], *rest)
            for predictor, *rest in trace[begun:]
        ]
        if best is None:
            if failures:
                raise failures[-1]
            raise ProgramError(f"none of {settings.n} attempts gave a prediction")
        return best


_BUILDERS: dict[str, Callable[[ModuleSpec], dspy.Module]] = {
    "predict": _predict,
    "chain_of_thought": _chain_of_thought,
    "multi_chain_comparison": _multi_chain_comparison,
    "best_of_n": _rewarded(dspy.BestOfN),
    "refine": _rewarded(RefinedAttempts),
    "retrieve": retriever,
    "react": react,
    "react_v2": react_v2,
    "program_of_thought": program_of_thought,
    "code_act": code_act,
}


def _teach(module: dspy.Module, spec: ModuleSpec) -> None:
    """Put the learned state into all predictors, then what is one predictor's own into that."""
    predictors = dict(module.named_predictors())
    reader = FieldReader((*spec.signature.inputs, *spec.signature.outputs))
    inputs = [item.name for item in spec.signature.inputs]
    if MODULE_TYPES[spec.type].composes:
        # Its instructions are in already, with what the module wrote around them.
        _teach_one([*predictors.values()][-1], spec.state.demos_only(), reader, inputs)
    else:
        for predictor in predictors.values():
            _teach_one(predictor, spec.state, reader, inputs)
    for name, learned in spec.state.predictors.items():
        _teach_one(predictors[name], learned, reader, inputs)


def _teach_one(
    predictor: dspy.Predict, learned: PredictorState, reader: FieldReader, inputs: list[str]
) -> None:
    if learned.instructions is not None:
        predictor.signature = predictor.signature.with_instructions(learned.instructions)
    if learned.demos is not None:
        predictor.demos = [
            dspy.Example(without_markers(reader.read_some(demo))).with_inputs(*inputs)
            for demo in learned.demos
        ]
