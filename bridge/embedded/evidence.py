"""Which sentence of the context answers a question, and which span of that sentence.

Law of this file: lexical overlap and nothing else. A passage counts for the words of the question
it holds, names and rare ones more. Two passages that share a name the question does not hold count
together: so the second hop of a two-hop question is found. Ties go to the earlier passage, so equal
prompts give equal evidence.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.embedded.text import (
    DATE,
    NUMBER,
    WORD,
    YEAR,
    Ask,
    Span,
    names,
    sentences,
    split_passages,
    stem,
    stems,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Evidence", "Sentence", "gather", "spans_of"]

# What is read of a context: more would make one call slow, and later passages matter least.
MAX_PASSAGES: Final = 48
MAX_CHARS: Final = 100_000
# A longer paragraph is read sentence by sentence: its sentences are not about one thing.
_PARAGRAPH: Final = 3
_FIRST_HOPS: Final = 6
_BRIDGED: Final = 0.35
_NAMED: Final = 3.0
# What is looked at before a name: a text without a full stop may be one sentence of a megabyte.
_CUE_CHARS: Final = 100
_BEFORE = re.compile(r"([\w\u2019']+)?[ ]*(,)?[ ]*(?:(the|a|an)[ ]+)?$", re.IGNORECASE)
_PLACE_CUES: Final = frozenset(("in", "at", "near", "to", "from", "through", "into", "past", "on"))


class _Passage(NamedTuple):
    place: int
    text: str
    words: frozenset[str]
    names: frozenset[str]
    last_words: frozenset[str]


class _Chain(NamedTuple):
    passage: _Passage
    score: float
    coverage: float
    link: frozenset[str]


class Sentence(NamedTuple):
    """A sentence of passage `passage` (from 0) with its score and its best short span, if any."""

    text: str
    passage: int
    score: float
    span: str | None


class Evidence(NamedTuple):
    """What the context says about a question, best first.

    `coverage` (0 to 1) is how much of the question the best chain of passages holds. `bridge` are
    the names that lead on from the passage nearest to the question, `held` that passage's words.
    """

    ask: Ask
    sentences: tuple[Sentence, ...]
    coverage: float
    bridge: tuple[str, ...]
    held: frozenset[str]

    @property
    def best(self) -> Sentence | None:
        """The sentence that answers best, or None when the context is empty."""
        return self.sentences[0] if self.sentences else None


def gather(ask: Ask, context: str) -> Evidence:
    """Weigh the passages of `context` against `ask`."""
    passages = _passages(context)
    frequency = Counter(word for p in passages for word in p.words if word in ask.words)
    # What the question names is what it is about; common words tell passages apart less.
    weights = {
        w: (_NAMED if w in ask.names else 1.0) / (1.0 + 0.3 * max(frequency[w] - 1, 0))
        for w in ask.words
    }
    whole = sum(weights.values()) or 1.0
    weights = {w: weight / whole for w, weight in weights.items()}
    alone = [sum(weights[w] for w in p.words & ask.words) for p in passages]
    nearest = sorted(range(len(passages)), key=lambda i: -alone[i])[:_FIRST_HOPS]
    chains = [_best_chain(p, [passages[i] for i in nearest], ask, weights) for p in passages]
    chains.sort(key=lambda c: -c.score)
    found = [s for chain in chains[:_FIRST_HOPS] for s in _weigh_sentences(chain, ask)]
    found.sort(key=lambda s: -s.score)
    coverage = min(max((c.coverage for c in chains), default=0.0), 1.0)
    if not passages or not alone[nearest[0]]:
        return Evidence(ask, tuple(found), coverage, (), frozenset())
    about = passages[nearest[0]]
    return Evidence(ask, tuple(found), coverage, _bridge_names(about, ask), about.words)


def _passages(context: str) -> list[_Passage]:
    pieces: list[str] = []
    for passage in dict.fromkeys(split_passages(context[:MAX_CHARS])):
        parts = sentences(passage)
        pieces += parts if len(parts) > _PARAGRAPH else [passage]
        if len(pieces) >= MAX_PASSAGES:
            break
    return [_read_passage(i, text) for i, text in enumerate(pieces[:MAX_PASSAGES])]


def _read_passage(place: int, text: str) -> _Passage:
    found = [n.text.lower() for n in names(text)]
    # A later mention may be the last word alone: "Gustave Eiffel", then "Eiffel".
    return _Passage(
        place, text, stems(text), frozenset(found), frozenset(n.rpartition(" ")[2] for n in found)
    )


def _best_chain(
    passage: _Passage, nearest: Sequence[_Passage], ask: Ask, weights: Mapping[str, float]
) -> _Chain:
    """The best way to end at `passage`: alone, or from one of the `nearest` by a shared name."""
    own = passage.words & ask.words
    alone = sum(weights[w] for w in own)
    focus = 0.5 * len(ask.focus & own) / (len(ask.focus) or 1)
    best = _Chain(passage, alone + focus, alone, frozenset())
    for before in nearest:
        gained = sum(weights[w] for w in (before.words & ask.words) - own)
        score = alone + gained + _BRIDGED + focus
        if before is passage or not gained or score <= best.score:
            continue
        shared = (passage.names & (before.names | before.last_words)) | (
            before.names & passage.last_words
        )
        link = stems(" ".join(shared)) - ask.words
        if link:
            best = _Chain(passage, score, alone + gained, link)
    return best


def _bridge_names(passage: _Passage, ask: Ask) -> tuple[str, ...]:
    fresh = (n.text for n in names(passage.text) if not stems(n.text) <= ask.words)
    return tuple(dict.fromkeys(fresh))


def _weigh_sentences(chain: _Chain, ask: Ask) -> list[Sentence]:
    weighed = []
    for text in sentences(chain.passage.text):
        words = stems(text)
        overlap = len(words & ask.words) / (len(ask.words) or 1)
        focus = len(words & ask.focus) / (len(ask.focus) or 1)
        spans = spans_of(text, ask, chain.link)
        gain = 0.3 * spans[0][0] if spans else -0.5
        score = chain.score + 0.3 * (overlap + focus) + gain
        weighed.append(Sentence(text, chain.passage.place, score, spans[0][1] if spans else None))
    return weighed


def spans_of(text: str, ask: Ask, link: frozenset[str] = frozenset()) -> list[tuple[float, str]]:
    """The spans of a sentence that could be what `ask` wants, as (score, span), best first.

    `link` are the words of the names by which the sentence was reached: unlikely answers.
    """
    if ask.kind in {"year", "date", "number"}:
        return _numeric_spans(text, ask)
    near = [m.start() for m in WORD.finditer(text) if stem(m.group().lower()) in ask.focus]
    scored = []
    for span in names(text):
        words = stems(span.text)
        if words and not words <= ask.words:
            after = bisect(near, span.start)
            around = near[max(0, after - 1) : after + 1]
            distance = min((abs(span.start - n) for n in around), default=80)
            score = 0.8 / (1.0 + distance / 20.0) + _cue_score(text, span, ask)
            score += (0.5 if ask.sort in words else 0.0) - (1.0 if words & link else 0.0)
            scored.append((score, span.text))
    scored.sort(key=lambda s: -s[0])
    return scored


def _numeric_spans(text: str, ask: Ask) -> list[tuple[float, str]]:
    if ask.kind == "number":
        found = [(0.5 if YEAR.fullmatch(n) else 1.0, n) for n in NUMBER.findall(text)]
    else:
        dates = DATE.findall(text) if ask.kind == "date" else []
        found = [(1.5, date) for date in dates] or [(1.0, year) for year in YEAR.findall(text)]
    fresh = dict.fromkeys(s for s in found if s[1] not in ask.words)
    return sorted(fresh, key=lambda s: -s[0])


def _cue_score(text: str, span: Span, ask: Ask) -> float:
    """What the words right before a name say of it: made by a person, in a place."""
    begin = max(0, span.start - _CUE_CHARS)
    match = _BEFORE.search(text, begin, span.start)
    cue = (match.group(1) or "").lower() if match else ""
    apposed = bool(match and match.group(2))
    place_cue, maker_cue = cue in _PLACE_CUES and not apposed, cue == "by" and not apposed
    score = 0.0
    if cue == "of" and match:
        # "the capital of France": what follows is the argument, not the answer.
        head = WORD.findall(text[begin : match.start()])
        score -= 1.5 if head and stem(head[-1].lower()) in ask.focus else 0.0
    if ask.kind == "person":
        score += 1.0 * maker_cue - 0.7 * place_cue + 0.3 * (" " in span.text)
        score += 0.4 if span.start == 0 else 0.0
    elif ask.kind == "place":
        score += 0.7 * place_cue - 0.7 * maker_cue
        score += 0.6 if apposed and ask.sort == stem("country") else 0.0
    return score
