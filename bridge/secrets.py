"""The last gate: a secret that came in never goes out.

Secrets are collected where LMs are configured. Every frame and every log line passes `mask_bytes`
or `mask_text` on its way out, so no other code has to remember to. A mask has the length of what
it covers: a masked frame is still a whole frame in both codecs.
"""

from __future__ import annotations

from bisect import bisect_left
from json.encoder import encode_basestring, encode_basestring_ascii

__all__ = ["SHORTEST_SECRET", "Secrets"]

SHORTEST_SECRET = 8
"""Shorter keys are placeholders (`x`, `none`, `ollama`): masking them would spoil honest text."""

ESCAPES = (encode_basestring, encode_basestring_ascii)

MOST_SECRETS = 10_000
"""The keys of all tenants over a daemon's life; beyond it the oldest is forgotten first."""


class Secrets:
    """The secrets of this process, and the masks over them. `add` is for one thread, masks for any.

    Plain substring searches, one a secret: a pattern of all of them costs more to search than
    they do together, and each new key would compile it again.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, ...]] = {}
        self._kept: dict[str, tuple[str, ...]] = {}
        self._texts: tuple[str, ...] = ()
        self._bytes: tuple[bytes, ...] = ()
        self._ordered: tuple[str, ...] = ()
        self._firsts: frozenset[str] = frozenset()
        self._longest = 1

    def add(self, secret: str, *, for_good: bool = False) -> None:
        """Remember `secret`, in every spelling it could get on its way out.

        Args:
            secret: a key; one that is known already counts as new again.
            for_good: never forget it, however many come after.
        """
        if len(secret) < SHORTEST_SECRET or secret in self._kept:
            return
        if for_good:
            self._kept[secret] = tuple(_spellings(secret))
        elif secret in self._known:
            self._known[secret] = self._known.pop(secret)
            return
        else:
            self._known[secret] = tuple(_spellings(secret))
        while len(self._known) > MOST_SECRETS:
            self._known.pop(next(iter(self._known)))
        # The longest first: one key may begin with another.
        everything = (*self._kept.values(), *self._known.values())
        spellings = {form for forms in everything for form in forms}
        self._texts = tuple(sorted(spellings, key=len, reverse=True))
        self._bytes = tuple(text.encode("utf-8", "surrogatepass") for text in self._texts)
        self._ordered = tuple(sorted(spellings))
        self._firsts = frozenset(text[0] for text in spellings)
        self._longest = len(self._texts[0])

    def mask_text(self, text: str) -> str:
        """`text` with each secret as asterisks."""
        for secret in self._texts:
            if secret in text:
                text = text.replace(secret, "*" * len(secret))
        return text

    def safe(self, text: str) -> int:
        """How much of `text` can go out before more of it is known: behind that a secret may begin.

        A mask covers what is whole, and a text in pieces is never whole.
        """
        end = self._beginning(text)
        while 0 < end < len(text):
            # What is whole and reaches over the cut stays whole.
            starts = [
                text.find(it, max(0, end - len(it) + 1), end + len(it) - 1) for it in self._texts
            ]
            over = min((start for start in starts if start >= 0), default=end)
            if over >= end:
                break
            end = over
        return end

    def _beginning(self, text: str) -> int:
        """Where the end of `text` begins that is a secret, or the beginning of one."""
        ordered = self._ordered
        for at in range(max(0, len(text) - self._longest), len(text)):
            if text[at] in self._firsts:
                tail = text[at:]
                found = bisect_left(ordered, tail)
                if found < len(ordered) and ordered[found].startswith(tail):
                    return at
        return len(text)

    def mask_bytes(self, payload: bytes) -> bytes:
        """`payload` with each secret as asterisks; the length never changes."""
        for secret in self._bytes:
            if secret in payload:
                payload = payload.replace(secret, b"*" * len(secret))
        return payload


def _spellings(secret: str) -> set[str]:
    """As it is or as Python quotes it; then as JSON text, and as JSON text within JSON text.

    All the same one for a key of letters, digits and dashes.
    """
    forms = {secret, repr(secret)[1:-1]}
    for _ in range(2):
        forms |= {escape(form)[1:-1] for form in forms for escape in ESCAPES}
    return forms
