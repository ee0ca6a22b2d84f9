"""What a model of the test server does, read from its name. Words are joined with `+`.

The first word may be any name (`gpt-4o-mini`, `tenant-3`): a name that is no behaviour answers
well and at once. Every later word must be one of:

- `ok`: no fault.
- `slow-<ms>`: wait before the reply. `gap-<ms>`: wait between the pieces of a streamed reply.
- `words-<n>`: n more words in every text field, for long streams and large replies.
- `retry-after-<ms>`: the wait that a 429 asks for (50 ms unless said).
- a fault, one of `FAULTS`: every time. `<fault>-then-ok` or `<fault>-<n>-then-ok`: the first
  n requests (1 unless said) of each (model, API key), then no fault. Several such words apply
  one after the other: `m+rate-limit-2-then-ok+cut-then-ok` is 429, 429, a cut, then well.
- `oversized-<mb>` and `trickle-<ms>`: those faults with another size or pace.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

FAULTS: Final[dict[str, str]] = {
    "auth": "401, the key is wrong",
    "rate-limit": "429 with Retry-After",
    "fail-500": "500",
    "context-length": "400, the prompt is too long, in the provider's words",
    "not-found": "404, no such model",
    "echo-key-401": "401 whose body repeats the API key in full",
    "echo-key-500": "500 whose body repeats the API key in full",
    "stall": "sends nothing until the client closes",
    "stall-body": "sends the head and half of the body, then nothing until the client closes",
    "cut": "closes the connection without a reply",
    "cut-body": "sends the head and half of the body, then closes",
    "oversized": "a well-formed reply of 100 MB, as fast as the client reads",
    "garbage": "200 with a body that is not JSON",
    "empty": "200 with no body at all",
    "empty-text": "a well-formed reply whose text is empty",
    "refuse": "a well-formed reply stopped by the content filter",
    "truncate": "a well-formed reply stopped at the token limit, half of the text",
    "trickle": "a byte of the body every 50 ms",
}
_ALIASES: Final = {"always-429": "rate-limit", "always-500": "fail-500"}
_NAMES: Final = "|".join(sorted([*FAULTS, *_ALIASES], key=len, reverse=True))
_FAULT: Final = re.compile(rf"({_NAMES})(?:(?:-(\d+))?(-then-ok))?")
_NUMBER: Final = re.compile(r"(slow|gap|words|retry-after|oversized|trickle)-(\d+)")


class UnknownBehaviourError(ValueError):
    """A word of a model's name, after the first `+`, that no behaviour has."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a model does. Seconds and bytes; `faults` are (name, times), None being for ever."""

    faults: tuple[tuple[str, int | None], ...] = ()
    latency_s: float = 0.0
    gap_s: float | None = None
    extra_words: int = 0
    retry_after_s: float = 0.05
    oversize: int = 100_000_000
    trickle_s: float = 0.05

    def fault_at(self, attempt: int) -> str | None:
        """The fault of the `attempt`-th request (from 1), or None if it goes well."""
        for name, times in self.faults:
            if times is None or attempt <= times:
                return name
            attempt -= times
        return None


@lru_cache(maxsize=4096)
def read_behaviour(model: str) -> Behaviour:
    """The behaviour that a model's name carries. Raises UnknownBehaviourError."""
    faults: list[tuple[str, int | None]] = []
    numbers: dict[str, int] = {}
    for position, word in enumerate(model.split("+")):
        if match := _FAULT.fullmatch(word):
            name, times, then_ok = match.groups()
            faults.append((_ALIASES.get(name, name), int(times or 1) if then_ok else None))
        elif match := _NUMBER.fullmatch(word):
            numbers[match[1]] = int(match[2])
            if match[1] in FAULTS:
                faults.append((match[1], None))
        elif position > 0 and word != "ok":
            known = ["ok", "slow-200", "gap-20", "words-50", "retry-after-50", *FAULTS]
            near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownBehaviourError(f"{word!r} in model {model!r} is no behaviour{hint}")
    return Behaviour(
        faults=tuple(faults),
        latency_s=numbers.get("slow", 0) / 1000,
        gap_s=numbers["gap"] / 1000 if "gap" in numbers else None,
        extra_words=numbers.get("words", 0),
        retry_after_s=numbers.get("retry-after", 50) / 1000,
        oversize=numbers.get("oversized", 100) * 1_000_000,
        trickle_s=numbers.get("trickle", 50) / 1000,
    )
