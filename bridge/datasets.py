"""Examples under the host's ids, which may then stand wherever examples may."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson

from protocol.errors import Busy, NotFound

if TYPE_CHECKING:
    from bridge.specs.modules import HostId

__all__ = ["Dataset", "Datasets"]

MOST_EXAMPLES = 1_000_000
"""Examples of all datasets together; at 500 bytes each, half a gigabyte."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples; never changed, only replaced. `digest` has taken in every row, in order."""

    id: HostId
    rows: tuple[dict[str, Any], ...]
    digest: Any

    @property
    def version(self) -> str:
        """Twelve hex digits: the same rows have the same, sent at once or piece by piece."""
        return str(self.digest.hexdigest())[:12]


class Datasets:
    """Datasets by id. Only the loop's thread changes them, in order of arrival."""

    def __init__(self) -> None:
        self._datasets: dict[str, Dataset] = {}

    def put(self, key: HostId, rows: list[dict[str, Any]], *, append: bool) -> Dataset:
        """Keep examples under an id, after those that are there if `append`; raise Busy."""
        old = self._datasets.get(str(key)) if append else None
        before = () if old is None else old.rows
        others = sum(len(d.rows) for name, d in self._datasets.items() if name != str(key))
        if others + len(before) + len(rows) > MOST_EXAMPLES:
            raise Busy(f"datasets hold at most {MOST_EXAMPLES} examples; delete some first")
        digest = sha256() if old is None else old.digest.copy()
        for row in rows:
            digest.update(orjson.dumps(row, default=repr, option=orjson.OPT_SORT_KEYS) + b"\n")
        self._datasets[str(key)] = Dataset(key, (*before, *rows), digest)
        return self._datasets[str(key)]

    def get(self, key: HostId) -> Dataset:
        """The examples of this id; raise NotFound with ``need: "dataset"``."""
        found = self._datasets.get(str(key))
        if found is None:
            raise NotFound(f"no dataset has the id {key!r}", kind="dataset", id=key, need="dataset")
        return found

    def all(self) -> list[Dataset]:
        """Every dataset, in order of creation."""
        return list(self._datasets.values())

    def delete(self, key: HostId) -> None:
        """Forget a dataset; raise NotFound. Requests in progress keep their examples."""
        self.get(key)
        del self._datasets[str(key)]
