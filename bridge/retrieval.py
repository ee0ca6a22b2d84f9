"""A lexical index over passages: SQLite's FTS5 in memory, ranked by BM25.

Law of this file: a query is data, never FTS5 syntax; equal indexes and queries give equal answers
in equal order, ties in the order the passages were given.

One connection behind a lock serves all threads. A search takes some tens of microseconds, and
SQLite would serialise the threads on one in-memory database anyway; a connection per thread would
hold a copy of the index per thread.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from protocol.errors import InvalidArgs

__all__ = [
    "MAX_K",
    "MAX_PASSAGES",
    "MAX_QUERY_TERMS",
    "MAX_TEXT_CHARS",
    "Passage",
    "PassageIndex",
    "check_passages",
]

# 100,000 encyclopaedia sentences take about 40 MB; beyond that a daemon is the wrong home for them.
MAX_PASSAGES: Final = 100_000
MAX_TEXT_CHARS: Final = 100_000
MAX_K: Final = 1_000
# BM25 gains nothing from the sixty-fifth word, and each term costs a lookup.
MAX_QUERY_TERMS: Final = 64

_TERM = re.compile(r"\w+")
_STOP: Final = frozenset(
    """
    a an and are as at be been but by can could did do does for from had has have how if in
    into is it its of on or should that the their them then there these this those to was were
    what when where which who whom whose why will with would
    """.split()  # noqa: SIM905
)


class Passage(NamedTuple):
    """A passage found: its text, its id, and its BM25 score (higher is better, above 0)."""

    text: str
    id: str
    score: float


class PassageIndex:
    """Passages, searchable by words from any thread.

    A passage is its text, or a map with `text` and optionally `id`; without one its id is its
    place, counted from "1". Other keys (a title) are the caller's own and not searched. Raises
    `InvalidArgs`, naming every faulty passage, for a missing or empty text, an id given twice, or
    a bound passed.
    """

    def __init__(self, passages: Sequence[str | Mapping[str, Any]]) -> None:
        rows = _rows(passages, "passages")
        self._texts = [text for _, text in rows]
        self._ids = [passage_id for passage_id, _ in rows]
        self._lock = threading.Lock()
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.execute(
            "CREATE VIRTUAL TABLE passages USING fts5("
            "text, content='', tokenize='porter unicode61 remove_diacritics 2')"
        )
        self._db.executemany(
            "INSERT INTO passages(rowid, text) VALUES (?, ?)", enumerate(self._texts)
        )

    def __len__(self) -> int:
        return len(self._texts)

    def search(self, query: str, k: int = 3) -> list[Passage]:
        """The at most `k` passages that share words with `query`, best first.

        Stop words of the query count only when it has no others. Raises `InvalidArgs` unless
        1 <= k <= MAX_K.
        """
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_K:
            raise InvalidArgs.at("k", f"must be an integer from 1 to {MAX_K}")
        expression = _expression(query)
        if not expression:
            return []
        with self._lock:
            found = self._db.execute(
                "SELECT rowid, bm25(passages) FROM passages WHERE passages MATCH ?"
                " ORDER BY 2, 1 LIMIT ?",
                (expression, k),
            ).fetchall()
        return [Passage(self._texts[row], self._ids[row], -score) for row, score in found]

    def close(self) -> None:
        """Free the index; a later search raises `sqlite3.ProgrammingError`."""
        with self._lock:
            self._db.close()


def check_passages(passages: Sequence[str | Mapping[str, Any]], path: str) -> None:
    """Raise InvalidArgs for what `PassageIndex` would refuse, without indexing anything."""
    _rows(passages, path)


def _rows(passages: Sequence[str | Mapping[str, Any]], path: str) -> list[tuple[str, str]]:
    if len(passages) > MAX_PASSAGES:
        raise InvalidArgs.at(path, f"{len(passages)} are more than {MAX_PASSAGES}")
    rows: list[tuple[str, str]] = []
    faults: list[dict[str, Any]] = []
    places: dict[str, int] = {}
    for place, passage in enumerate(passages):
        text: Any = passage
        passage_id: Any = None
        if isinstance(passage, Mapping):
            text, passage_id = passage.get("text"), passage.get("id")
        passage_id = str(place + 1) if passage_id is None else str(passage_id)
        fault = _fault(text, passage_id, places)
        if fault:
            faults.append({"path": f"{path}[{place}]{fault[0]}", "message": fault[1]})
            continue
        places[passage_id] = place
        rows.append((passage_id, text))
    if faults:
        raise InvalidArgs.of(faults)
    return rows


def _fault(text: Any, passage_id: str, places: Mapping[str, int]) -> tuple[str, str] | None:
    if not isinstance(text, str):
        return ".text", "must be a string"
    if not text.strip():
        return ".text", "is empty"
    if len(text) > MAX_TEXT_CHARS:
        return ".text", f"is longer than {MAX_TEXT_CHARS} characters"
    if passage_id in places:
        return ".id", f"{passage_id!r} is already the id of passages[{places[passage_id]}]"
    return None


def _expression(query: str) -> str:
    """`query` as an FTS5 expression: its words, each quoted, joined by OR; "" when it has none."""
    words = list(dict.fromkeys(_TERM.findall(query.lower())))
    telling = [w for w in words if w not in _STOP] or words
    return " OR ".join(f'"{word}"' for word in telling[:MAX_QUERY_TERMS])
