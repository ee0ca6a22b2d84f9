"""The arguments of `optimize`, `evaluate` and the commands about runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from bridge.specs.checking import Args
from bridge.specs.modules import HostId

__all__ = [
    "EvaluateArgs",
    "OptimizeArgs",
    "PutDatasetArgs",
    "RunArgs",
    "RunListArgs",
    "WhatToRun",
    "WorkerArgs",
]

MOST_INLINE = 100_000
"""Examples in one request; more belong into a dataset, sent piece by piece."""

Rows = Annotated[list[dict[str, Any]], Field(max_length=MOST_INLINE)]
Examples = Annotated[
    Rows | HostId, Field(description="maps of inputs and labels, or the id of a dataset")
]
RunId = Annotated[str, Field(min_length=1, max_length=256)]


class WhatToRun(Args):
    """One of these names the program."""

    program: Annotated[
        dict[str, Any] | HostId | None, Field(description="a whole program spec, or an id")
    ] = None
    program_id: HostId | None = None
    module_id: Annotated[HostId | None, Field(description="a module by itself")] = None


class OptimizeArgs(WhatToRun):
    """Arguments of `optimize`. With `resume`, what is left out is what the run had."""

    optimizer: Annotated[str | None, Field(description="a name of `hello`'s `optimizers`")] = None
    trainset: Examples | None = None
    valset: Annotated[Examples | None, Field(description="the trainset when left out")] = None
    metric: Annotated[Any, Field(description="a name of `hello`'s `metrics`, or a map")] = None
    config: Annotated[dict[str, Any] | None, Field(description="the optimizer's own keys")] = None
    run_id: Annotated[RunId | None, Field(description="one is made when left out")] = None
    detach: Annotated[bool, Field(description="answer at once; `run_get` tells the rest")] = False
    resume: Annotated[RunId | None, Field(description="a run to go on with")] = None
    seed: int = 0
    keep: Annotated[
        Literal["replace", "new"],
        Field(description="replace: the program has learned; new: only the result says what"),
    ] = "replace"
    max_metric_errors: Annotated[int, Field(ge=0)] = 0
    max_concurrency: Annotated[int, Field(ge=1, le=64)] = 8


class WorkerArgs(OptimizeArgs):
    """What a daemon tells its child besides: hosts cannot say this."""

    record: str
    seconds: float | None = None
    budget: dict[str, Any] = Field(default_factory=dict)


class EvaluateArgs(WhatToRun):
    """Arguments of `evaluate`. `run_stop` ends it early under its `run_id`."""

    devset: Examples
    metric: Annotated[Any, Field(description="a name of `hello`'s `metrics`, or a map")]
    max_concurrency: Annotated[int, Field(ge=1)] = 16
    max_errors: Annotated[int | None, Field(ge=0, description="all when left out")] = None
    run_id: Annotated[RunId | None, Field(description="one is made when left out")] = None
    max_metric_errors: Annotated[int, Field(ge=0)] = 0


class RunListArgs(Args):
    """Arguments of `run_list`: none."""


class RunArgs(Args):
    """Arguments of `run_get` and `run_stop`."""

    run_id: RunId


class PutDatasetArgs(Args):
    """Arguments of `put_dataset`."""

    id: HostId
    examples: Rows
    append: Annotated[bool, Field(description="after the examples that are there")] = False
