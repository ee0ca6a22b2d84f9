"""What the embedded LM sees in plain text: sentences, words, names, numbers.

Law of this file: lexical only. English function words and a handful of class words are all the
knowledge there is; no list of people, places or facts, so what the LM gets right it has read.
Everything is a pure function of its arguments, linear in the length of the text.
"""

from __future__ import annotations

import functools
import re
from typing import Final, NamedTuple

__all__ = [
    "DATE",
    "NUMBER",
    "YEAR",
    "Ask",
    "Span",
    "amount",
    "content_words",
    "names",
    "read_question",
    "sentences",
    "split_passages",
    "stem",
    "stems",
]

STOP: Final = frozenset(
    """
    a an and any are as at be been being but by can could did do does for from had has have he
    her him his how i if in into is it its itself me more most my name named no nor not of on
    or our over she should since so some such than that the their them then there these they
    this those to under until up us was we were what when where which while who whom whose why
    will with would you your also about after before during between through
    """.split()  # noqa: SIM905
)
PERSON_WORDS: Final = frozenset(
    """
    actor architect artist astronomer author chemist composer discoverer engineer inventor
    mathematician musician novelist painter person philosopher physicist playwright poet
    president queen king scientist sculptor writer
    """.split()  # noqa: SIM905
)
PLACE_WORDS: Final = frozenset(
    """
    city town village country continent state capital island place region river lake sea ocean
    mountain birthplace county province
    """.split()  # noqa: SIM905
)
# Forms that no suffix rule brings together.
IRREGULAR: Final = {
    "wrote": "writ",
    "written": "writ",
    "built": "build",
    "birthplace": "born",
    "birth": "born",
    "died": "die",
    "death": "die",
    "stood": "stand",
    "found": "find",
    "made": "make",
    "lay": "lie",
    "flowed": "flow",
    "invention": "invent",
}
SUFFIXES: Final = ("ations", "ation", "ions", "ion", "ors", "or", "ers", "er", "ing", "ed", "es")

WORD = re.compile(r"\w+(?:[\u2019']\w+)*")
YEAR = re.compile(r"\b(?:1\d{3}|20\d\d)\b")
DATE = re.compile(
    r"\b\d{1,2} (?:January|February|March|April|May|June|July|August|September|October|November"
    r"|December) \d{3,4}\b"
)
# Longer runs of digits are identifiers, not amounts.
NUMBER = re.compile(r"(?<![\w.])-?\d{1,15}(?:,\d{3}){0,4}(?:\.\d{1,15})?(?!\w)")
# Initials and usual abbreviations do not end a sentence.
_SENTENCE_END = re.compile(
    r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!\bSt\.)(?<!\bDr\.)(?<!\bMr\.)(?<!\bMt\.)\s+(?=[\"“(]?[A-ZÀ-Þ0-9])"
)
_CAPITAL = r"(?:[A-Z]\.|[A-ZÀ-ÖØ-ÞŁŚŠŻŽ][\w\u2019'-]*)"
_NAME = re.compile(
    rf"{_CAPITAL}(?:[ ](?:(?:of|de|da|di|del|der|la|le|du|van|von|the|upon)[ ]){{0,3}}{_CAPITAL})*"
)
_BLOB = re.compile(r"^\s*\[\d+\]\s*", re.MULTILINE)
_ASKS = re.compile(r"\b(who|whom|whose|where|when|which|what|how|why)\b", re.IGNORECASE)
_ASKS_YEAR = re.compile(r"\b(?:what|which) (?:year|date)\b|\bwhen\b", re.IGNORECASE)
_ASKS_NUMBER = re.compile(
    r"\bhow (?:many|much|old|tall|long|far|high|deep|big|large|heavy)\b|\bwhat number\b",
    re.IGNORECASE,
)
_AUXILIARY = re.compile(r"\W*(?:\w+ )?(?:was|were|did|does|do)\b", re.IGNORECASE)


class Span(NamedTuple):
    """A piece of a sentence: its text and where it starts and ends there."""

    text: str
    start: int
    end: int


class Ask(NamedTuple):
    """What a question wants.

    `kind` is year, number, person, place or name; `sort` the stem of the noun asked for ("" when
    there is none); `words` all content stems; `names` those of its capitalised names; `focus` those
    of its predicate.
    """

    text: str
    kind: str
    sort: str
    words: frozenset[str]
    names: frozenset[str]
    focus: frozenset[str]
    asker: str


@functools.lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """A crude stem of one lower-case word: inventor, invented and invention meet in `invent`."""
    word = word.removesuffix("'s").removesuffix("\u2019s")
    if word in IRREGULAR:
        return IRREGULAR[word]
    for suffix in SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 4:
            return word[: -len(suffix)]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("s") and not word.endswith("ss") and len(word) > 3:
        word = word[:-1]
    return word[:-1] if word.endswith("e") and len(word) > 4 else word


def amount(text: str) -> float:
    """The number that a match of `NUMBER`, `YEAR` or `DATE` names; of a date, its year."""
    return float(text.rpartition(" ")[2].replace(",", ""))


def content_words(text: str) -> list[str]:
    """The words of `text` in order, as written, without function words and repetitions."""
    seen: dict[str, str] = {}
    for word in WORD.findall(text):
        lower = word.lower()
        if lower not in STOP and lower not in seen:
            seen[lower] = word.removesuffix("'s").removesuffix("\u2019s")
    return list(seen.values())


def stems(text: str) -> frozenset[str]:
    """The set of content stems of `text`."""
    return frozenset(stem(w) for w in WORD.findall(text.lower()) if w not in STOP)


def sentences(passage: str) -> list[str]:
    """The sentences of one passage, stripped, none empty."""
    return [s for s in (p.strip() for p in _SENTENCE_END.split(passage)) if s]


def split_passages(text: str) -> list[str]:
    """The passages of a context value: numbered `[1] «…»` blobs, or lines, else the whole."""
    if "«" in text:
        text = _BLOB.sub("", text).replace("«««", "").replace("»»»", "")
        text = text.replace("«", "").replace("»", "")
    return [line.strip() for line in text.split("\n") if line.strip()]


def names(sentence: str) -> list[Span]:
    """The capitalised spans of a sentence, function words trimmed from their front."""
    found: list[Span] = []
    for match in _NAME.finditer(sentence):
        text, start = match.group(), match.start()
        # At the start of a sentence any word has a capital; within one, "The Hague" keeps its own.
        while match.start() == 0:
            head, _, rest = text.partition(" ")
            if head.lower() not in STOP:
                break
            text, start = rest, start + len(head) + 1
        text = text.removesuffix("'s").removesuffix("\u2019s")
        if text and (len(text) > 1 or text.isupper()):
            found.append(Span(text, start, start + len(text)))
    return found


@functools.lru_cache(maxsize=512)
def read_question(text: str) -> Ask:
    """What `text` asks for, by its question word and the words beside it."""
    match = _ASKS.search(text)
    asker = match.group(1).lower() if match else ""
    tail = text[match.end() :] if match else text
    near = [w.lower() for w in content_words(tail)]
    sort_word = near[0] if near and asker in {"which", "what"} else ""
    sort = stem(sort_word) if sort_word else ""
    if _ASKS_YEAR.search(text):
        kind = "year"
    elif _ASKS_NUMBER.search(text):
        kind = "number"
    elif asker in {"who", "whom", "whose"} or sort_word in PERSON_WORDS:
        kind = "person"
    elif asker == "where" or sort_word in PLACE_WORDS:
        kind = "place"
    else:
        kind = "name"
    # "Where was the painter of X born?" has its predicate at the end, "Who painted X?" in front.
    late = asker in {"where", "when", "which", "how", "what"} and _AUXILIARY.match(tail)
    focus = [*near[-1:], *([sort_word] if sort_word else [])] if late else near[:2]
    named = stems(" ".join(n.text for n in names(text)))
    return Ask(text, kind, sort, stems(text), named, frozenset(map(stem, focus)), asker)
