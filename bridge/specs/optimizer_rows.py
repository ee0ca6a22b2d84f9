"""The table of optimizers, and what the value of a config key may be.

Law: plain data and nothing imported but the errors; see `bridge.specs.optimizers`.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ALIASES", "ROWS", "KeySpec", "OptimizerRow"]

Kind = Literal[
    "integer", "number", "boolean", "string", "lm", "settings", "ids", "integers", "optimizers"
]


class KeySpec(NamedTuple):
    """One key of a config.

    Attributes:
        kind: what its value is; `lm` is a configured LM's name or an LM's map, `settings` is
            ``{"lm": …}`` or empty, `ids` are ids of programs or modules.
        minimum: the least number, or the least length of a list.
        maximum: the greatest number, or the greatest length of a list of ids.
        choices: the texts it may be; empty for any.
    """

    kind: Kind
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    def read(self, value: Any, path: str) -> Any:
        """The value, checked; raise InvalidArgs."""
        return _READERS[self.kind](self, value, path)


NO_KEYS: Mapping[str, KeySpec] = MappingProxyType({})


class OptimizerRow(NamedTuple):
    """One optimizer.

    Attributes:
        name: DSPy's.
        summary: for a person who looks for one.
        constructor: the config keys that its constructor takes.
        compile: the config keys that its `compile` takes.
        metric: whether it asks for none, for a score, or for a score with feedback.
        needs: packages beside DSPy, by import name.
        install: the command that installs them; empty when there is nothing to install.
        trainset: whether it needs one.
        valset: whether it has a use for one of its own.
        minimum: the least number of examples it can work with.
        composable: whether it can be a step of BetterTogether.
        unavailable: why it cannot run here; empty when it can.
    """

    name: str
    summary: str
    constructor: Mapping[str, KeySpec] = NO_KEYS
    compile: Mapping[str, KeySpec] = NO_KEYS
    metric: Literal["none", "score", "feedback"] = "score"
    needs: tuple[str, ...] = ()
    install: str = ""
    trainset: bool = True
    valset: bool = False
    minimum: int = 1
    composable: bool = True
    unavailable: str = ""


def _refuse(path: str, wanted: str) -> InvalidArgs:
    return InvalidArgs.at(path, f"must be {wanted}")


def _range(key: KeySpec, what: str) -> str:
    if key.minimum is not None and key.maximum is not None:
        return f"{what} from {key.minimum:g} to {key.maximum:g}"
    return what if key.minimum is None else f"{what}, at least {key.minimum:g}"


def _number(key: KeySpec, value: Any, path: str) -> float:
    wanted = _range(key, "a number")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _refuse(path, wanted)
    if (key.minimum is not None and value < key.minimum) or (
        key.maximum is not None and value > key.maximum
    ):
        raise _refuse(path, wanted)
    return value


def _integer(key: KeySpec, value: Any, path: str) -> int:
    # Elixir and JSON may write a whole number as a float.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _refuse(path, _range(key, "a whole number"))
    try:
        _number(key, value, path)
    except InvalidArgs:
        raise _refuse(path, _range(key, "a whole number")) from None
    return value


def _boolean(_key: KeySpec, value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise _refuse(path, "true or false")
    return value


def _string(key: KeySpec, value: Any, path: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _refuse(path, "a text")
    if key.choices and value not in key.choices:
        raise _refuse(path, f"one of {', '.join(key.choices)}")
    return value


def _lm(_key: KeySpec, value: Any, path: str) -> Any:
    from bridge.specs.lms import parse_lm  # noqa: PLC0415 - pydantic is not there at `hello`

    return parse_lm(value, path)


def _settings(key: KeySpec, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() - {"lm"}:
        raise _refuse(path, "a map with an 'lm', or empty")
    return {"lm": _lm(key, value["lm"], f"{path}.lm")} if value.get("lm") is not None else {}


def _integers(key: KeySpec, value: Any, path: str) -> list[int]:
    if not isinstance(value, list) or len(value) < (key.minimum or 0):
        raise _refuse(path, "a list of whole numbers")
    plain = KeySpec("integer")
    return [_integer(plain, item, f"{path}[{index}]") for index, item in enumerate(value)]


def _ids(key: KeySpec, value: Any, path: str) -> list[str | int]:
    least, most = key.minimum or 0, key.maximum or math.inf
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise _refuse(path, f"a list of {least:g} to {most:g} ids of programs or modules")
    for index, item in enumerate(value):
        if isinstance(item, bool) or not isinstance(item, str | int) or item == "":
            raise _refuse(f"{path}[{index}]", "the id of a program or module")
        if str(item) in map(str, value[:index]):
            raise InvalidArgs.at(f"{path}[{index}]", f"{item!r} is in the list already")
    return value


def _optimizers(_key: KeySpec, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise _refuse(path, "a map from names to optimizers, at least one")
    for name in value:
        if not isinstance(name, str) or not name.isidentifier():
            raise InvalidArgs.at(f"{path}.{name}", "the name of a step must be an identifier")
    return value


_READERS: dict[str, Callable[[KeySpec, Any, str], Any]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "string": _string,
    "lm": _lm,
    "settings": _settings,
    "ids": _ids,
    "integers": _integers,
    "optimizers": _optimizers,
}

_COUNT = KeySpec("integer", 0)
_SOME = KeySpec("integer", 1)
_NUMBER = KeySpec("number")
_TEMPERATURE = KeySpec("number", 0, 2)
_FLAG = KeySpec("boolean")
_LM = KeySpec("lm")
_TEACHER = KeySpec("settings")
_AUTO = KeySpec("string", choices=("light", "medium", "heavy"))

_FEWSHOT = {
    "metric_threshold": _NUMBER,
    "teacher_settings": _TEACHER,
    "max_bootstrapped_demos": _COUNT,
    "max_labeled_demos": _COUNT,
    "max_rounds": _SOME,
    "max_errors": _SOME,
}
"""BootstrapFewShot's keys, which many others hand on to it."""

_OPTUNA = "pip install 'dspy-bridge[optimizers]'"


def _except(keys: Mapping[str, KeySpec], *names: str) -> dict[str, KeySpec]:
    return {name: key for name, key in keys.items() if name not in names}


ROWS: dict[str, OptimizerRow] = {
    row.name: row
    for row in (
        OptimizerRow(
            "LabeledFewShot",
            "k labeled examples as demonstrations; asks no LM",
            constructor={"k": _SOME},
            compile={"sample": _FLAG},
            metric="none",
        ),
        OptimizerRow(
            "BootstrapFewShot",
            "demonstrations from runs of the program that the metric liked",
            constructor=_FEWSHOT,
        ),
        OptimizerRow(
            "BootstrapFewShotWithRandomSearch",
            "the best of many sets of bootstrapped demonstrations",
            constructor={
                **_FEWSHOT,
                "num_candidate_programs": _SOME,
                "num_threads": _SOME,
                "stop_at_score": _NUMBER,
            },
            compile={"restrict": KeySpec("integers", 1), "labeled_sample": _FLAG},
            valset=True,
        ),
        OptimizerRow(
            "BootstrapFewShotWithOptuna",
            "which single demonstration serves each predictor best, searched by Optuna",
            constructor={
                **_except(_FEWSHOT, "metric_threshold"),
                "num_candidate_programs": _SOME,
                "num_threads": _SOME,
            },
            compile={"max_demos": _SOME},
            needs=("optuna", "numpy"),
            install=_OPTUNA,
            valset=True,
        ),
        OptimizerRow(
            "COPRO",
            "instructions that an LM proposes and refines by their scores",
            constructor={
                "prompt_model": _LM,
                "breadth": KeySpec("integer", 2),
                "depth": _SOME,
                "init_temperature": _TEMPERATURE,
                "track_stats": _FLAG,
            },
        ),
        OptimizerRow(
            "MIPROv2",
            "instructions and demonstrations together, searched by Optuna",
            constructor={
                "prompt_model": _LM,
                "task_model": _LM,
                **_except(_FEWSHOT, "max_rounds"),
                "auto": _AUTO,
                "num_candidates": _SOME,
                "num_threads": _SOME,
                "seed": _COUNT,
                "init_temperature": _TEMPERATURE,
                "verbose": _FLAG,
                "track_stats": _FLAG,
            },
            compile={
                "num_trials": _SOME,
                "minibatch": _FLAG,
                "minibatch_size": _SOME,
                "minibatch_full_eval_steps": _SOME,
                "program_aware_proposer": _FLAG,
                "data_aware_proposer": _FLAG,
                "view_data_batch_size": _SOME,
                "tip_aware_proposer": _FLAG,
                "fewshot_aware_proposer": _FLAG,
            },
            needs=("optuna", "numpy"),
            install=_OPTUNA,
            valset=True,
            minimum=2,
        ),
        OptimizerRow(
            "SIMBA",
            "rules and demonstrations from where the program's own samples differ most",
            constructor={
                "bsize": _SOME,
                "num_candidates": _SOME,
                "max_steps": _SOME,
                "max_demos": _COUNT,
                "prompt_model": _LM,
                "teacher_settings": _TEACHER,
                "demo_input_field_maxlen": _SOME,
                "num_threads": _SOME,
                "temperature_for_sampling": KeySpec("number", 0.01),
                "temperature_for_candidates": KeySpec("number", 0.01),
            },
            compile={"seed": _COUNT},
            needs=("numpy",),
            install=_OPTUNA,
        ),
        OptimizerRow(
            "GEPA",
            "instructions that an LM rewrites from feedback, kept on a Pareto front",
            constructor={
                "auto": _AUTO,
                "max_full_evals": _SOME,
                "max_metric_calls": _SOME,
                "reflection_minibatch_size": _SOME,
                "candidate_selection_strategy": KeySpec(
                    "string", choices=("pareto", "current_best")
                ),
                "reflection_lm": _LM,
                "skip_perfect_score": _FLAG,
                "add_format_failure_as_feedback": _FLAG,
                "component_selector": KeySpec("string", choices=("round_robin", "all")),
                "use_merge": _FLAG,
                "max_merge_invocations": _COUNT,
                "num_threads": _SOME,
                "failure_score": _NUMBER,
                "perfect_score": _NUMBER,
                "seed": _COUNT,
            },
            metric="feedback",
            needs=("gepa",),
            install="pip install gepa",
            valset=True,
        ),
        OptimizerRow(
            "KNNFewShot",
            "bootstraps the k examples nearest to most others (state is fixed, not per question)",
            constructor={"k": _SOME, **_FEWSHOT},
            needs=("numpy",),
            install=_OPTUNA,
        ),
        OptimizerRow(
            "InferRules",
            "bootstrapped demonstrations, and rules that an LM finds in the examples",
            constructor={
                **_FEWSHOT,
                "num_candidates": _SOME,
                "num_rules": _SOME,
                "num_threads": _SOME,
            },
            valset=True,
            minimum=2,
        ),
        OptimizerRow(
            "Ensemble",
            "several programs whose majority answers",
            constructor={"size": _SOME},
            compile={"programs": KeySpec("ids", 2, 50)},
            metric="none",
            trainset=False,
            minimum=0,
            composable=False,
        ),
        OptimizerRow(
            "BetterTogether",
            "several optimizers, one after another on what the last one learned",
            constructor={"optimizers": KeySpec("optimizers")},
            compile={
                "strategy": KeySpec("string"),
                "valset_ratio": KeySpec("number", 0, 0.9),
                "shuffle_trainset_between_steps": _FLAG,
                "max_errors": _SOME,
                "num_threads": _SOME,
                "seed": _COUNT,
            },
            valset=True,
            minimum=2,
            composable=False,
        ),
        OptimizerRow(
            "BootstrapFinetune",
            "fine-tunes the LM on bootstrapped runs",
            composable=False,
            unavailable=(
                "it needs an LM that can be fine-tuned through DSPy (OpenAI, Databricks, a local "
                "server with weights), and gives a new model instead of a state"
            ),
        ),
        OptimizerRow(
            "GRPO",
            "reinforcement learning on the LM's weights",
            composable=False,
            unavailable="it needs an LM with a reinforcement-learning backend and its weights",
        ),
    )
}

ALIASES: dict[str, tuple[str, str]] = {
    "MIPRO": ("MIPROv2", "the seed's Elixir modules"),
    "mipro": ("MIPROv2", "the seed's Elixir modules"),
    "bootstrap_fewshot": ("BootstrapFewShot", "the seed's Elixir modules"),
    "bootstrap_fewshot_with_optuna": ("BootstrapFewShotWithOptuna", "the seed's Elixir modules"),
    "copro": ("COPRO", "the seed's Elixir modules"),
    "BootstrapRS": ("BootstrapFewShotWithRandomSearch", "DSPy's short name"),
}
"""Other names: the row that each stands for, and whose name it is."""
