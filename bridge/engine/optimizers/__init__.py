"""DSPy's optimizers made ready: one builder a row of the table, a file for each hard case.

A builder gets the config that `split_config` read and gives the optimizer with what its `compile`
takes. It runs before the first LM call and refuses then what could not work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.engine.optimizers import fewshot, gepa, instructions, knn, mipro, rules, together
from protocol.errors import BridgeError, InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.engine.optimizers.job import Job, Prepared
    from bridge.specs.optimizers import OptimizerRow

__all__ = ["prepare"]

_BUILDERS: dict[str, Callable[[Job, dict[str, Any], dict[str, Any]], Prepared]] = {
    "LabeledFewShot": fewshot.labeled,
    "BootstrapFewShot": fewshot.bootstrap,
    "BootstrapFewShotWithRandomSearch": fewshot.random_search,
    "BootstrapFewShotWithOptuna": fewshot.optuna_search,
    "COPRO": instructions.copro,
    "MIPROv2": mipro.build,
    "SIMBA": instructions.simba,
    "GEPA": gepa.build,
    "KNNFewShot": knn.build,
    "InferRules": rules.build,
    "BetterTogether": together.build,
}


def prepare(
    job: Job, row: OptimizerRow, constructor: Mapping[str, Any], compiled: Mapping[str, Any]
) -> Prepared:
    """The optimizer of `row`, ready to compile.

    Raises:
        InvalidArgs: DSPy's own constructor refused the config.
        BridgeError: an LM that it names is not configured.
    """
    settings = {
        key: _with_lms(job, row.constructor[key].kind, value) for key, value in constructor.items()
    }
    if "num_threads" in row.constructor:
        settings["num_threads"] = min(
            settings.get("num_threads", job.max_concurrency), job.max_concurrency
        )
    try:
        return _BUILDERS[row.name](job, settings, dict(compiled))
    except BridgeError:
        raise
    except (AssertionError, TypeError, ValueError) as error:
        raise InvalidArgs.at("config", f"{row.name} refused it: {error}") from error


def _with_lms(job: Job, kind: str, value: Any) -> Any:
    """A config value, its LM references made into LMs."""
    if kind == "lm":
        return job.run.lm(value)
    if kind == "settings" and "lm" in value:
        return {**value, "lm": job.run.lm(value["lm"])}
    return value
