"""The last gate: a secret that came in never goes out.

Secrets are collected where LMs are configured. Every frame and every log line passes `mask_bytes`
or `mask_text` on its way out, so no other code has to remember to. A mask has the length of what
it covers: a masked frame is still a whole frame in both codecs.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections import Counter
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SHORTEST_SECRET", "Secrets"]

SHORTEST_SECRET = 8
"""Shorter keys are placeholders (`x`, `none`, `ollama`): masking them would spoil honest text."""

ESCAPES = (encode_basestring, encode_basestring_ascii)

MOST_SECRETS = 10_000
"""The keys of all tenants over a daemon's life; beyond it the oldest is forgotten first."""

MOST_SEARCHED = 64
"""Spellings that cost less to search for one by one than a payload costs to look through."""

WORD = array("I").itemsize
"""Bytes; no more than half of the shortest secret, or none of its words need be whole."""

BLOCK = 64 * 1024
"""Bytes that are looked through at a time: as numbers they take several times the room."""


class Secrets:
    """The secrets of this process, and the masks over them. Any thread.

    A few secrets are searched for one by one, which is quickest. Of many, each is known by a word
    of four bytes for every way in which it can lie across a payload's words, so that a payload is
    looked through once, word by word, however many secrets there are. Only those that have a word
    in it are searched for.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[bytes, ...]] = {}
        self._kept: dict[str, tuple[bytes, ...]] = {}
        self._spellings: Counter[bytes] = Counter()
        self._having: dict[int, tuple[bytes, ...]] = {}
        self._words: set[int] = set()
        self._few: tuple[bytes, ...] | None = ()
        self._beginnings: _Beginnings | None = None

    def add(self, secret: str, *, for_good: bool = False) -> None:
        """Remember `secret`, in every spelling it could get on its way out.

        Args:
            secret: a key; one that is known already counts as new again.
            for_good: never forget it, however many come after.
        """
        with self._lock:
            if len(secret) < SHORTEST_SECRET or secret in self._kept:
                return
            if for_good:
                self._kept[secret] = self._enter(secret)
            elif secret in self._known:
                self._known[secret] = self._known.pop(secret)
                return
            else:
                self._known[secret] = self._enter(secret)
            while len(self._known) > MOST_SECRETS:
                self._forget(self._known.pop(next(iter(self._known))))
            self._beginnings = None
            few = len(self._spellings) <= MOST_SEARCHED
            self._few = _longest_first(self._spellings) if few else None

    def mask_text(self, text: str) -> str:
        """`text` with each secret as asterisks."""
        for secret in self._suspects(text.encode("utf-8", "surrogatepass")):
            found = secret.decode("utf-8", "surrogatepass")
            text = text.replace(found, "*" * len(found))
        return text

    def safe(self, text: str) -> int:
        """How much of `text` can go out before more of it is known: behind that a secret may begin.

        A mask covers what is whole, and a text in pieces is never whole.
        """
        beginnings = self._beginnings
        if beginnings is None:
            # A key that comes meanwhile must find what is to be made anew, not be overtaken by it.
            with self._lock:
                beginnings = self._beginnings = _Beginnings(self._spellings)
        end = beginnings.find(text)
        while 0 < end < len(text):
            # What is whole and reaches over the cut stays whole.
            starts = [
                text.find(it, max(0, end - len(it) + 1), end + len(it) - 1)
                for it in beginnings.forms
            ]
            over = min((start for start in starts if start >= 0), default=end)
            if over >= end:
                break
            end = over
        return end

    def mask_bytes(self, payload: bytes) -> bytes:
        """`payload` with each secret as asterisks; the length never changes."""
        for secret in self._suspects(payload):
            if secret in payload:
                payload = payload.replace(secret, b"*" * len(secret))
        return payload

    def _suspects(self, payload: bytes) -> tuple[bytes, ...]:
        """The secrets that may be in `payload`, the longest first: one key may begin another."""
        if self._few is not None:
            return self._few
        found: set[int] = set()
        for begun in range(0, len(payload), BLOCK):
            block = payload[begun : begun + BLOCK]
            words = array("I", block[: len(block) // WORD * WORD])
            if not self._words.isdisjoint(words):
                found |= self._words.intersection(words)
        if not found:
            return ()
        return _longest_first({form for word in found for form in self._having.get(word, ())})

    def _enter(self, secret: str) -> tuple[bytes, ...]:
        forms = tuple(form.encode("utf-8", "surrogatepass") for form in _spellings(secret))
        for form in forms:
            self._spellings[form] += 1
            if self._spellings[form] == 1:
                for word in _words_of(form):
                    self._having[word] = (*self._having.get(word, ()), form)
                    self._words.add(word)
        return forms

    def _forget(self, forms: tuple[bytes, ...]) -> None:
        for form in forms:
            self._spellings[form] -= 1
            if not self._spellings[form]:
                del self._spellings[form]
                for word in _words_of(form):
                    left = tuple(other for other in self._having[word] if other != form)
                    self._having[word] = left
                    if not left:
                        self._words.discard(word)
                        del self._having[word]


class _Beginnings:
    """The beginnings of all secrets, for texts that come in pieces; made where one does."""

    def __init__(self, spellings: Iterable[bytes]) -> None:
        self.forms = tuple(sorted(form.decode("utf-8", "surrogatepass") for form in spellings))
        self._firsts = frozenset(form[0] for form in self.forms)
        self._longest = max(map(len, self.forms), default=1)

    def find(self, text: str) -> int:
        """Where the end of `text` begins that is a secret, or the beginning of one."""
        for at in range(max(0, len(text) - self._longest), len(text)):
            if text[at] in self._firsts:
                tail = text[at:]
                found = bisect_left(self.forms, tail)
                if found < len(self.forms) and self.forms[found].startswith(tail):
                    return at
        return len(text)


def _longest_first(forms: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(sorted(forms, key=len, reverse=True))


def _words_of(form: bytes) -> set[int]:
    """A word of `form` for each place in a payload's word that it may begin at.

    From its end: keys begin alike.
    """
    ends = range(len(form) - WORD, len(form) - 2 * WORD, -1)
    return {array("I", form[end : end + WORD])[0] for end in ends}


def _spellings(secret: str) -> set[str]:
    """As it is or as Python quotes it; then as JSON text, and as JSON text within JSON text.

    All the same one for a key of letters, digits and dashes.
    """
    forms = {secret, repr(secret)[1:-1]}
    for _ in range(2):
        forms |= {escape(form)[1:-1] for form in forms for escape in ESCAPES}
    return forms
