"""Two texts word by word: what was taken out of the one and put into the other."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["MOST_WORDS", "Piece", "compare"]

MOST_WORDS = 3_000
"""Words of one text; beyond it the comparison takes too long and helps nobody."""

ISLAND = 3
"""Fewer words in common than this, between two changes, are chance: they belong to the change."""

# A word keeps the space after it. Signs at its edges and the characters of scripts without spaces
# are words by themselves.
WORDS = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]\s*"
    r"|[!-&(-,./:-@\[-^`{-~]\s*"
    r"|[^\s!-&(-,./:-@\[-^`{-~\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+\s*"
    r"|\s+"
)

Piece = tuple[str, bool]
"""A stretch of text, and whether the other text lacks it."""

Span = tuple[bool, int, int, int, int]


def compare(before: str, after: str) -> tuple[list[Piece], list[Piece]] | None:
    """The pieces of each text, which joined give it back; None when they are too long for it."""
    words = WORDS.findall(before), WORDS.findall(after)
    if max(map(len, words)) > MOST_WORDS:
        return None
    keys = [[word.rstrip() for word in side] for side in words]
    matcher = SequenceMatcher(None, keys[0], keys[1])
    spans = [(op[0] != "equal", *op[1:]) for op in matcher.get_opcodes()]
    left: list[Piece] = []
    right: list[Piece] = []
    for changed, i1, i2, j1, j2 in _without_islands(spans, keys[0]):
        _put(left, "".join(words[0][i1:i2]), changed)
        _put(right, "".join(words[1][j1:j2]), changed)
    return left, right


def _without_islands(spans: Sequence[Span], words: Sequence[str]) -> Iterator[Span]:
    for at, (changed, i1, i2, j1, j2) in enumerate(spans):
        if changed or not 0 < at < len(spans) - 1:
            yield changed, i1, i2, j1, j2
            continue
        few = sum(map(_is_word, words[i1:i2])) < ISLAND
        # Between two insertions nothing was taken out: those words stayed. Likewise the reverse.
        around = (spans[at - 1], spans[at + 1])
        taken, put = any(s[1] < s[2] for s in around), any(s[3] < s[4] for s in around)
        yield few and taken and put, i1, i2, j1, j2


def _is_word(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _put(pieces: list[Piece], text: str, changed: bool) -> None:
    if not text:
        return
    if pieces and pieces[-1][1] == changed:
        pieces[-1] = (pieces[-1][0] + text, changed)
    else:
        pieces.append((text, changed))
