"""The built-in metrics: pure functions from an example and a prediction to a score in 0..1.

Law: a score is a float, never a bool. A label that is not there is the data's fault and raises
``MetricError``; a prediction that is not there, or of another type, is the program's and scores.

``exact_match``, ``f1_score`` and ``passage_match`` are the ones an Elixir host computes with
``String.downcase``, ``String.trim``, ``String.replace(~r/[[:punct:]]/, "")`` and ``String.split``,
in that order, so that both sides agree on a score. Without the ``u`` flag that regex means the 32
punctuation marks of ASCII: ``“`` and ``。`` stay. (Before OTP 28 it took bytes out of UTF-8
letters as well, so that ``Köln`` equalled ``Käln``: that is an accident of the VM, and not kept.)
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.specs.checking import nearest
from protocol.errors import InvalidArgs, MetricError, Unsupported

__all__ = [
    "METRICS",
    "Metric",
    "MetricSpec",
    "RewardSpec",
    "contains",
    "exact_match",
    "f1_score",
    "max_words",
    "normalize",
    "parse_metric",
    "parse_reward",
    "passage_match",
]

Fields = Mapping[str, Any]

# Unicode White_Space. Python's strip() and split() would also take U+001C to U+001F.
_WHITE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B)))
_WHITE += "\u2028\u2029\u202f\u205f\u3000"
# String.split does not break where Unicode forbids a line break.
_BREAKS = re.compile("[" + re.sub("[\xa0\u2007\u202f]", "", _WHITE) + "]+")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """Lower case, then trimmed, then without ASCII punctuation; spaces inside stay as they are."""
    lowered = text.lower()
    if "Σ" in text:
        # Python lowers a final sigma to ς; Elixir does not look at the neighbours.
        lowered = "".join(map(str.lower, text))
    return lowered.strip(_WHITE).translate(_NO_PUNCTUATION)


def exact_match(
    example: Fields, prediction: Fields, *, field: str = "answer", gold: str | None = None
) -> float:
    """1.0 if the field equals its label: texts after ``normalize``, other data as data.

    Args:
        example: must have the label.
        prediction: the program's output fields.
        field: the output field.
        gold: the label's name in the example; the field's own by default.

    Raises:
        MetricError: the example has no such label.
    """
    label = _label(example, gold or field)
    return float(field in prediction and _matches(label, prediction[field]))


def f1_score(
    example: Fields, prediction: Fields, *, field: str = "answer", gold: str | None = None
) -> float:
    """The harmonic mean of precision and recall over the sets of normalized words.

    Arguments and errors are those of ``exact_match``. 0.0 if either side has no words.
    """
    expected = _words(_label(example, gold or field))
    found = _words(prediction.get(field))
    shared = len(expected & found)
    if not shared:
        return 0.0
    precision, recall = shared / len(found), shared / len(expected)
    return 2 * precision * recall / (precision + recall)


def passage_match(
    example: Fields,
    prediction: Fields,
    *,
    field: str = "citations",
    gold: str = "gold_passages",
) -> float:
    """Citations that are gold passages, over the number of gold passages; 1.0 without any.

    Both are lists, compared without normalization; a single value is a list of one. A citation
    given twice counts twice, but the score ends at 1.0.
    """
    passages = _listed(example.get(gold))
    if not passages:
        return 1.0
    hits = sum(
        any(_is_same(cited, passage) for passage in passages)
        for cited in _listed(prediction.get(field))
    )
    return min(1.0, hits / len(passages))


def contains(
    example: Fields, prediction: Fields, *, field: str = "answer", gold: str | None = None
) -> float:
    """1.0 if the normalized label stands in the normalized field.

    Arguments and errors are those of ``exact_match``. An empty label stands only in an empty text.
    """
    label = normalize(_text(_label(example, gold or field)))
    found = normalize(_text(prediction.get(field)))
    return float(field in prediction and (label in found if label else not found))


def max_words(
    _example: Fields, prediction: Fields, *, field: str = "answer", limit: int = 50
) -> float:
    """1.0 up to ``limit`` words, then ``limit`` over the number of words; 0.0 without the field."""
    words = _text(prediction.get(field)).split()
    return min(1.0, limit / max(1, len(words))) if field in prediction else 0.0


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table.

    Attributes:
        name: on the wire.
        function: ``(example, prediction, **options) -> float``.
        summary: for a person who looks for a metric.
        keys: the options it takes beside ``name`` and ``threshold``.
        field: the output field it scores by default.
        gold: the label it compares with by default; None for the field's own name.
    """

    name: str
    function: Callable[..., float]
    summary: str
    keys: tuple[str, ...] = ("field", "gold")
    field: str = "answer"
    gold: str | None = None

    @property
    def needs_label(self) -> bool:
        """Whether it compares with an example; else it looks at the prediction alone."""
        return "gold" in self.keys


METRICS: dict[str, Metric] = {
    row.name: row
    for row in (
        Metric("exact_match", exact_match, "the normalized field equals its label"),
        Metric("f1_score", f1_score, "words that the field and its label have in common"),
        Metric(
            "passage_match",
            passage_match,
            "gold passages among the citations",
            field="citations",
            gold="gold_passages",
        ),
        Metric("contains", contains, "the label stands in the field"),
        Metric("max_words", max_words, "the field has at most `limit` words", ("field", "limit")),
    )
}


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A metric with its options; call it with an example and a prediction.

    Attributes:
        name: a key of ``METRICS``.
        field: the output field that is scored.
        gold: the label it is compared with; None for a metric that needs none.
        limit: of ``max_words``.
        threshold: 0..1; with one, the score is 1.0 from there on and 0.0 below.
    """

    name: str
    field: str
    gold: str | None = None
    limit: int | None = None
    threshold: float | None = None

    def __call__(self, example: Fields, prediction: Fields) -> float:
        """The score; raises MetricError if the example lacks the label."""
        options = {"field": self.field, "gold": self.gold, "limit": self.limit}
        given = {key: value for key, value in options.items() if value is not None}
        score = METRICS[self.name].function(example, prediction, **given)
        return score if self.threshold is None else float(score >= self.threshold)

    def to_wire(self) -> dict[str, Any]:
        """The canonical map, with the defaults written out."""
        wire = {name: getattr(self, name) for name in ("field", "gold", "limit", "threshold")}
        return {"name": self.name, **{key: item for key, item in wire.items() if item is not None}}


@dataclass(frozen=True, slots=True)
class RewardSpec:
    """A metric where there is no example: ``reward(inputs, prediction)``.

    Attributes:
        metric: what is computed.
        expected: the label itself, if the metric needs one and ``against`` is None.
        against: the input field that is the label.
    """

    metric: MetricSpec
    expected: Any = None
    against: str | None = None

    def __call__(self, inputs: Fields, prediction: Fields) -> float:
        """The score; raises MetricError if the inputs lack the field it is compared with."""
        label = self.expected if self.against is None else _label(inputs, self.against)
        return self.metric({self.metric.gold or "": label}, prediction)

    def to_wire(self) -> dict[str, Any]:
        """The canonical map."""
        wire = self.metric.to_wire()
        if wire.pop("gold", None) is None:
            return wire
        if self.against is None:
            return {**wire, "expected": self.expected}
        return {**wire, "against": self.against}


def parse_metric(value: Any, path: str = "metric") -> MetricSpec:
    """``"exact_match"`` or ``{"name", "field"?, "gold"?, "limit"?, "threshold"?}``.

    Raises:
        InvalidArgs: with the nearest name; ``custom`` says what can stand in its place.
        Unsupported: metrics that are answered by the host, run as source, or judged by an LM.
    """
    row, options = _named(value, path)
    return _metric(row, options, path, row.keys)


def parse_reward(value: Any, path: str = "reward") -> RewardSpec:
    """A metric's map, with ``"expected": value`` or ``"against": input field`` as its label.

    Raises:
        InvalidArgs: as ``parse_metric``; and if a metric that needs a label has none, or two.
        Unsupported: as ``parse_metric``.
    """
    row, options = _named(value, path)
    if not row.needs_label:
        return RewardSpec(_metric(row, options, path, row.keys))
    own = tuple(key for key in row.keys if key != "gold")
    metric = _metric(row, options, path, (*own, "expected", "against"))
    given = options.keys() & {"expected", "against"}
    if len(given) != 1:
        raise InvalidArgs.at(
            path,
            f"{row.name} needs something to compare with: exactly one of 'expected' (the value) "
            "and 'against' (the name of an input field)",
        )
    if "against" not in given:
        return RewardSpec(metric, options["expected"])
    against = options["against"]
    if not isinstance(against, str) or not against:
        raise InvalidArgs.at(f"{path}.against", "must be the name of an input field")
    return RewardSpec(metric, against=against)


_ELSEWHERE = {
    "host": "the host scores in `optimize` and `evaluate`, not here",
    "code": "source scores in `optimize` and `evaluate`, not here",
    "lm": "an LM judges in `optimize` and `evaluate`, not here",
}


def _named(value: Any, path: str) -> tuple[Metric, dict[str, Any]]:
    """The row a metric names, and the other keys of its map."""
    options = {"name": value} if isinstance(value, str) else value
    if not isinstance(options, dict):
        raise InvalidArgs.at(path, "must be the name of a metric, or a map with a 'name'")
    for key, missing in _ELSEWHERE.items():
        if key in options:
            raise Unsupported(f"{path}.{key}: {missing}; built in are {', '.join(METRICS)}")
    where = path if isinstance(value, str) else f"{path}.name"
    name = options.get("name")
    if not isinstance(name, str):
        raise InvalidArgs.at(where, f"must be the name of a metric: {', '.join(METRICS)}")
    if name == "custom":
        raise InvalidArgs.at(
            where,
            "an anonymous function cannot travel from Elixir; name a built-in metric "
            f"({', '.join(METRICS)}), or give {{'host': name}} and answer the call there",
        )
    if name not in METRICS:
        close = nearest(name, METRICS)
        hint = f"did you mean {close!r}?" if close else f"known: {', '.join(METRICS)}"
        more = {"nearest": close} if close else {}
        raise InvalidArgs.at(where, f"no metric {name[:80]!r}; {hint}", **more)
    return METRICS[name], {key: item for key, item in options.items() if key != "name"}


def _metric(row: Metric, options: dict[str, Any], path: str, keys: tuple[str, ...]) -> MetricSpec:
    keys = (*keys, "threshold")
    faults: list[dict[str, Any]] = []
    for key in options.keys() - set(keys):
        close = nearest(str(key), keys)
        message = f"unknown key; {row.name} takes {', '.join(keys)}"
        faults.append(
            {"path": f"{path}.{key}", "message": message, **({"nearest": close} if close else {})}
        )
    faults += [
        {"path": f"{path}.{key}", "message": "must be the name of a field"}
        for key in ("field", "gold")
        if key in options and not (isinstance(options[key], str) and options[key])
    ]
    limit = options.get("limit")
    if "limit" in keys and not (_is_number(limit) and isinstance(limit, int) and limit >= 1):
        faults.append({"path": f"{path}.limit", "message": "must be a number of words, at least 1"})
    threshold = options.get("threshold")
    if threshold is not None and not (_is_number(threshold) and 0 <= threshold <= 1):
        faults.append({"path": f"{path}.threshold", "message": "must be a number from 0 to 1"})
    if faults:
        raise InvalidArgs.of(faults)
    field = options.get("field", row.field)
    gold = options.get("gold", row.gold or field) if row.needs_label else None
    return MetricSpec(row.name, field, gold, limit, None if threshold is None else float(threshold))


def _label(example: Fields, name: str) -> Any:
    if name not in example:
        has = ", ".join(map(str, example)) or "nothing"
        raise MetricError(
            f"{name!r} is missing: the metric compares with it (there is: {has})", field=name
        )
    return example[name]


def _matches(label: Any, found: Any) -> bool:
    if _is_number(label) and _is_number(found):
        return bool(label == found)
    if isinstance(label, list | tuple) and isinstance(found, list | tuple):
        return len(label) == len(found) and all(map(_matches, label, found))
    if isinstance(label, Mapping) and isinstance(found, Mapping):
        return label.keys() == found.keys() and all(
            _matches(item, found[key]) for key, item in label.items()
        )
    if _is_number(label) or _is_number(found):
        # As text 1.0 would equal 10: the point is punctuation.
        one, other = _number(label), _number(found)
        if one is not None and other is not None:
            return one == other
    return normalize(_text(label)) == normalize(_text(found))


def _words(value: Any) -> set[str]:
    return set(_BREAKS.split(normalize(_text(value)))) - {""}


def _text(value: Any) -> str:
    """A text as it is, null as nothing, a list as its items' texts, the rest as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(map(_text, value))
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _number(value: Any) -> float | None:
    if not isinstance(value, str) and not _is_number(value):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _listed(value: Any) -> list[Any]:
    if value is None or value is False:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_same(one: Any, other: Any) -> bool:
    # As Elixir compares members: 1 is neither 1.0 nor true.
    return type(one) is type(other) and bool(one == other)
