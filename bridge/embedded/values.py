"""The value of one output field: what the embedded LM puts where, in the type asked for.

Law of this file: a value always fits its JSON Schema as far as the prompt states it. Demonstrations
come first (the same input again, labels, shapes), then the evidence of the context, then the
simplest value of the type. A demonstration that was not supplied teaches nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bridge.embedded.evidence import gather, spans_of
from bridge.embedded.reading import REASON_NAME, Reading
from bridge.embedded.text import DATE, NUMBER, YEAR, amount, content_words, stems
from bridge.embedded.tools import tool_step

if TYPE_CHECKING:
    from bridge.embedded.prompt import Demo, PromptField

__all__ = ["simplest_value", "typed_value"]

SHORT_WORDS: Final = 6
_LABEL_WORDS: Final = 4
_UNKNOWN: Final = "The prompt does not say."
_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"
_MAX_DEPTH: Final = 6
_MAX_ITEMS: Final = 5
_QUERY_NAME = re.compile(r"(?:^|_)(?:query|queries|keywords)(?:$|_)|^search")
_SCORE_NAME = re.compile(r"confidence|probability|score|certainty|likelihood")
_INDEX_NAME = re.compile(r"citation|index|indices|source|passage_id")
_TEXTS_NAME = re.compile(r"passage|citation|evidence|quote|sentence|fact|source")
_ASKS_SHORT = re.compile(
    r"\b(?:short|brief|concise|few words|one word|single word|short phrase|only the (?:name|answer)"
    r"|just the (?:name|answer)|factoid)\b|not (?:with )?a (?:full )?sentence",
    re.IGNORECASE,
)


def typed_value(reading: Reading, field: PromptField) -> Any:
    """The value of an output field, fitting `field.schema`."""
    examples = reading.examples(field.name)
    want = _Want(field.schema, field.name, field.description, field.schema, examples)
    for _, demo, text in examples:
        if all(demo.inputs.get(k) == v for k, v in reading.prompt.inputs.items()):
            return _fitting(want, text, _value(reading, want, 0))
    step = tool_step(reading.prompt, field, reading.question)
    return _value(reading, want, 0) if step is None else step


class _Want(NamedTuple):
    schema: Mapping[str, Any]
    name: str
    hint: str
    root: Mapping[str, Any]
    examples: Sequence[tuple[float, Demo, str]] = ()
    nullable: bool = False
    depth: int = 0

    def part(self, schema: Any, name: str) -> _Want:
        return _Want(schema if isinstance(schema, Mapping) else {}, name, "", self.root)


def _fitting(want: _Want, text: str, otherwise: Any) -> Any:
    """A demonstration's text in the wanted type, or `otherwise` when it does not fit."""
    if want.schema.get("type", "string") == "string" and "enum" not in want.schema:
        return text if "anyOf" not in want.schema else otherwise
    options = want.schema.get("enum")
    if isinstance(options, list):
        return next((o for o in options if str(o) == text), otherwise)
    try:
        value = (
            {"True": True, "False": False}[text] if text in {"True", "False"} else json.loads(text)
        )
    except (ValueError, RecursionError):
        return otherwise
    return value if type(value) is type(otherwise) else otherwise


def _resolved(want: _Want) -> Mapping[str, Any]:
    """The schema behind `$ref` and `anyOf`: of several, the first that is not null."""
    schema = want.schema
    for _ in range(_MAX_DEPTH):
        if isinstance(reference := schema.get("$ref"), str):
            definitions = want.root.get("$defs")
            known = definitions if isinstance(definitions, Mapping) else {}
            found = known.get(reference.rsplit("/", 1)[-1])
            schema = found if isinstance(found, Mapping) else {}
        elif isinstance(choices := schema.get("anyOf"), list):
            maps = [c for c in choices if isinstance(c, Mapping)]
            schema = next((c for c in maps if c.get("type") != "null"), {"type": "null"})
        else:
            break
    return schema


def _value(reading: Reading, want: _Want, depth: int) -> Any:
    schema = _resolved(want)
    choices = want.schema.get("anyOf")
    nullable = isinstance(choices, list) and {"type": "null"} in choices
    want = want._replace(schema=schema, nullable=nullable, depth=depth)
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return _choose(reading, want, schema["enum"])
    if "const" in schema:
        return schema["const"]
    make = _MAKERS.get(str(schema.get("type", "string")))
    return make(reading, want) if make else None


def _choose(reading: Reading, want: _Want, options: Sequence[Any]) -> Any:
    """The option that shares most with the inputs, or that similar demonstrations chose."""
    scores = []
    for option in options:
        words = stems(str(option).replace("_", " "))
        score = len(words & reading.words) / (len(words) or 1)
        score += sum(0.5 + s for s, _, text in want.examples[:3] if text == str(option))
        scores.append(score)
    return options[scores.index(max(scores))]


def _boolean(reading: Reading, want: _Want) -> bool:
    if want.examples:
        return want.examples[0][2].strip().lower() == "true"
    return reading.evidence.coverage >= 0.5


def _number(reading: Reading, want: _Want) -> int | float | None:
    schema, whole = want.schema, want.schema.get("type") == "integer"
    if _SCORE_NAME.search(want.name) and not whole:
        return _bounded(round(reading.evidence.coverage, 2), schema)
    best = reading.evidence.best
    if whole and _INDEX_NAME.search(want.name) and best:
        return best.passage + 1
    ask = reading.ask_for(want.name)
    kind = "year" if ask.kind in {"year", "date"} or "year" in want.name else "number"
    wanted = ask._replace(kind=kind)
    sources = [s.text for s in reading.evidence.sentences] + [reading.text, reading.question]
    for source in sources:
        for _, text in spans_of(source, wanted):
            number = amount(text)
            return _bounded(int(number) if whole else number, schema)
    for _, _, text in want.examples:
        if NUMBER.fullmatch(text):
            return int(amount(text)) if whole else amount(text)
    return None if want.nullable else _bounded(0, schema)


def _bounded(value: float, schema: Mapping[str, Any]) -> int | float:
    low, high = schema.get("minimum"), schema.get("maximum")
    if isinstance(low, int | float) and value < low:
        value = low
    if isinstance(high, int | float) and value > high:
        value = high
    return value


def _array(reading: Reading, want: _Want) -> list[Any]:
    part = want.part(want.schema.get("items"), want.name)
    items = _resolved(part)
    kind, options = str(items.get("type", "string")), items.get("enum")
    sentences = reading.evidence.sentences
    values: list[Any]
    if isinstance(options, list):
        text = "\n".join(reading.prompt.inputs.values()).lower()
        values = [o for o in options if str(o).lower() in text]
    elif kind == "integer" and _INDEX_NAME.search(want.name):
        values = sorted({s.passage + 1 for s in sentences[:2]})
    elif kind in {"integer", "number"}:
        convert = int if kind == "integer" else float
        values = [convert(amount(n)) for n in dict.fromkeys(NUMBER.findall(reading.text))]
    elif kind == "string" and _TEXTS_NAME.search(want.name):
        values = [s.text for s in sentences[:2]]
    elif kind == "string":
        ask = reading.ask_for(want.name)
        spans = (text for s in sentences for _, text in spans_of(s.text, ask))
        values = list(dict.fromkeys(spans))
    elif want.depth < _MAX_DEPTH:
        values = [_value(reading, part, want.depth + 1)]
    else:
        values = []
    return values[: _length_shown(want.examples)]


def _length_shown(examples: Sequence[tuple[float, Demo, str]]) -> int:
    lengths = []
    for _, _, text in examples:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, list):
            lengths.append(len(value))
    return int(median(lengths)) if lengths else _MAX_ITEMS


def _object(reading: Reading, want: _Want) -> dict[str, Any]:
    properties = want.schema.get("properties")
    if not isinstance(properties, Mapping) or want.depth >= _MAX_DEPTH:
        return {}
    return {k: _value(reading, want.part(v, k), want.depth + 1) for k, v in properties.items()}


def _string(reading: Reading, want: _Want) -> str | None:
    for way in (_date, _label, _explanation, _query, _instruction, _stated):
        text = way(reading, want)
        if text is not None:
            return text
    if not reading.context and reading.question.rstrip().endswith("?"):
        if want.examples:
            return want.examples[0][2]
        return None if want.nullable else _UNKNOWN
    return _span(reading, want) if _wants_short(reading, want) else _sentence(reading)


def _stated(reading: Reading, want: _Want) -> str | None:
    """What the text itself gives as `name: value`."""
    label = re.escape(want.name.replace("_", " "))
    found = re.search(rf"\b{label}[ ]*[:=][ ]*([^\n,;]+)", reading.text, re.IGNORECASE)
    return found.group(1).strip().strip("\"'") if found else None


def _wants_short(reading: Reading, want: _Want) -> bool:
    if want.depth:
        return True
    if want.examples:
        shown = [len(text.split()) for _, _, text in want.examples]
        return median(shown) <= SHORT_WORDS
    if reading.ask.kind in {"year", "number"}:
        return True
    return bool(_ASKS_SHORT.search(f"{want.hint}\n{reading.prompt.objective}"))


def _label(reading: Reading, want: _Want) -> str | None:
    """The nearest demonstration's answer, when answers are labels and not taken from the inputs."""
    if len(want.examples) < 2:
        return None
    for _, demo, text in want.examples:
        given = "\n".join(demo.inputs.values()).lower()
        if demo.inputs.keys() != reading.prompt.inputs.keys() or text.lower() in given:
            return None
        if len(text.split()) > _LABEL_WORDS:
            return None
    return want.examples[0][2]


def _sentence(reading: Reading) -> str:
    best = reading.evidence.best
    return " ".join(best.text.split()) if best else _UNKNOWN


def _span(reading: Reading, want: _Want) -> str:
    ask = reading.ask_for(want.name)
    evidence = reading.evidence if ask is reading.ask else gather(ask, reading.text)
    span = next((s.span for s in evidence.sentences if s.span), None)
    if span is None:
        fresh = [w for w in content_words(_sentence(reading)) if not stems(w) <= ask.words]
        span = " ".join(fresh[-SHORT_WORDS // 2 :]) or _UNKNOWN
    shown = [text for _, _, text in want.examples]
    if shown and all(text.lower().startswith("the ") for text in shown):
        span = f"{shown[0][:3]} {span}"
    return span.lower() if shown and all(text.islower() for text in shown) else span


def _explanation(reading: Reading, want: _Want) -> str | None:
    if not REASON_NAME.search(want.name):
        return None
    best = reading.evidence.best
    shared = [w for w in content_words(reading.question) if best and stems(w) & stems(best.text)]
    if not best or not shared:
        return "I compared words: no sentence of the prompt shares one with the question."
    return (
        f"I compared words: “{' '.join(best.text.split())}” bears most on the question"
        f" (shared: {', '.join(shared[:5])})."
    )


def _query(reading: Reading, want: _Want) -> str | None:
    """Content words of the question; with a context, also the names that lead on from it."""
    if not _QUERY_NAME.search(want.name):
        return None
    words = content_words(reading.question)
    if not reading.context:
        return " ".join(words) or reading.question
    if reading.ask.names and not reading.ask.names & stems(reading.context):
        # Nothing found yet is about what the question names: ask for that alone.
        words = [w for w in words if stems(w) <= reading.ask.names] or words
        return " ".join(words) or reading.question
    keep_held, use_bridge = _query_habits(reading, want)
    if not keep_held:
        words = [w for w in words if not stems(w) <= reading.evidence.held]
    if use_bridge:
        words = [*reading.evidence.bridge, *words]
    return " ".join(dict.fromkeys(words)) or reading.question


def _query_habits(reading: Reading, want: _Want) -> tuple[bool, bool]:
    """(repeat what the context holds, add names from the context), as demonstrations do it."""
    kept, dropped, bridged, plain = 0, 0, 0, 0
    for _, demo, query in want.examples:
        asked = stems(demo.inputs.get(reading.question_field, ""))
        given = stems("\n".join(v for k, v in demo.inputs.items() if k != reading.question_field))
        words = stems(query)
        if given:
            kept += len(asked & given & words)
            dropped += len((asked & given) - words)
            fresh = bool((words & given) - asked)
            bridged, plain = bridged + fresh, plain + (not fresh)
    return kept >= dropped, bridged >= plain


def _instruction(reading: Reading, want: _Want) -> str | None:
    """The instruction given, unchanged: a canned piece of advice would feign skill."""
    if "instruction" not in want.name:
        return None
    given = next((v for k, v in reading.prompt.inputs.items() if "instruction" in k), "")
    return given.strip() or reading.question


def _date(reading: Reading, want: _Want) -> str | None:
    wanted = str(want.schema.get("format"))
    if wanted not in {"date", "date-time"}:
        return None
    if stated := re.search(r"\b\d{4}-\d{2}-\d{2}\b", reading.text):
        date = stated.group()
    elif written := DATE.search(reading.text):
        day, month, year = written.group().split()
        date = f"{int(year):04d}-{_MONTHS.index(month[:3]) // 3 + 1:02d}-{int(day):02d}"
    else:
        found = YEAR.search(reading.text)
        date = f"{found.group() if found else '1970'}-01-01"
    return date if wanted == "date" else f"{date}T00:00:00Z"


_MAKERS: Final[Mapping[str, Callable[[Reading, _Want], Any]]] = {
    "boolean": _boolean,
    "integer": _number,
    "number": _number,
    "array": _array,
    "object": _object,
    "string": _string,
}


def simplest_value(schema: Mapping[str, Any], text: str, depth: int = 0) -> Any:
    """The least value of `schema`; a string is `text`."""
    want = _Want(schema, "", "", schema)
    schema = _resolved(want)
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    kind = str(schema.get("type", "string"))
    if kind == "string":
        return "1970-01-01" if schema.get("format") == "date" else text
    properties = schema.get("properties")
    if kind == "object" and isinstance(properties, Mapping) and depth < _MAX_DEPTH:
        root = {"$defs": want.root.get("$defs")}
        parts = {k: v for k, v in properties.items() if isinstance(v, Mapping)}
        return {k: simplest_value({**v, **root}, text, depth + 1) for k, v in parts.items()}
    low = _bounded(0, schema)
    return {"integer": low, "number": low, "boolean": False, "array": [], "object": {}}.get(kind)
