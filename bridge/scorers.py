"""What may score a prediction: a built-in metric, a judge, the host or source. A table says which.

`bridge.metrics` computes the built-in ones, `bridge.judges` says how DSPy's are asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import Field

from bridge.judges import JudgeSpec, parse_judge
from bridge.metrics import MetricSpec, RewardSpec, parse_metric, parse_reward
from bridge.specs.checking import Args, checked
from bridge.specs.source.functions import METRIC, REWARD, CodeSpec, parse_code

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HostMetric", "HostReward", "Rewarder", "Scorer", "parse_rewarder", "parse_scorer"]

HostName = Annotated[str, Field(min_length=1, max_length=256)]


class HostMetric(Args):
    """``{"host": name}``: the host is asked for every prediction.

    It answers a number, a boolean, or ``{score, feedback?}``.
    """

    host: HostName
    threshold: Annotated[float | None, Field(description="1.0 from there on, else 0.0")] = None

    @property
    def name(self) -> str:
        """The metric's name, as the host has it."""
        return self.host


class HostReward(Args):
    """``{"host": name}``: the host is asked for every attempt; higher is better."""

    host: HostName


Scorer: TypeAlias = MetricSpec | JudgeSpec | HostMetric | CodeSpec
Rewarder: TypeAlias = RewardSpec | HostReward | CodeSpec

_SCORERS: dict[str, Callable[[Any, str], Scorer]] = {
    "lm": parse_judge,
    "host": lambda value, path: checked(HostMetric, value, path),
    "code": lambda value, path: parse_code(value, METRIC, path),
}
"""Who scores, by the key that a metric's map has; a metric without one of them is built in."""

_REWARDERS: dict[str, Callable[[Any, str], Rewarder]] = {
    "host": lambda value, path: checked(HostReward, value, path),
    "code": lambda value, path: parse_code(value, REWARD, path),
}


def parse_scorer(value: Any, path: str = "metric") -> Scorer:
    """A metric as it stands on the wire; raise InvalidArgs, Unsupported."""
    parse: Callable[[Any, str], Scorer] = _find(_SCORERS, value, parse_metric)
    return parse(value, path)


def parse_rewarder(value: Any, path: str = "reward") -> Rewarder:
    """A reward as it stands on the wire; raise InvalidArgs, Unsupported."""
    parse: Callable[[Any, str], Rewarder] = _find(_REWARDERS, value, parse_reward)
    return parse(value, path)


def _find(
    table: dict[str, Callable[[Any, str], Any]], value: Any, built_in: Callable[[Any, str], Any]
) -> Callable[[Any, str], Any]:
    keys = value if isinstance(value, dict) else {}
    return next((parse for key, parse in table.items() if key in keys), built_in)
