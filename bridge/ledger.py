"""What was spent and said: usage totals per LM, tenant and program, and the last LM calls.

Totals grow with the number of names, which is bounded; rows live in a ring bounded in number and
in text. Nothing here knows DSPy, so `usage` and `history` are answered while it is busy.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bridge.scope import ModuleCall, Usage

if TYPE_CHECKING:
    from bridge.scope import Scope

__all__ = ["LMCall", "Ledger"]

MOST_NAMES = 10_000
"""Distinct tenants or programs that keep a total of their own; the least recent is dropped."""


@dataclass(slots=True)
class LMCall:
    """One call of an LM, as `history` shows it. `latency_ms` includes retries."""

    call: ModuleCall | None
    tenant: str | None
    program_id: str | None
    request_id: int | str | None
    traceparent: str | None
    model: str
    prompt: list[dict[str, Any]]
    response: str | None
    error: str | None
    usage: Usage
    cached: bool
    latency_ms: float
    started_at: float

    def to_wire(self) -> dict[str, Any]:
        """One row of `history`; `started_at` is in Unix seconds."""
        return {
            "module_id": self.call.module_id if self.call else None,
            "inputs": self.call.inputs if self.call else None,
            "outputs": self.call.outputs if self.call else None,
            "program_id": self.program_id,
            "request_id": self.request_id,
            "model": self.model,
            "prompt": self.prompt,
            "response": self.response,
            "error": self.error,
            "usage": self.usage.to_wire(),
            "cost": self.usage.cost,
            "cached": self.cached,
            "latency_ms": self.latency_ms,
            "started_at": self.started_at,
            **({"traceparent": self.traceparent} if self.traceparent else {}),
        }

    def size(self) -> int:
        """Characters of prompt, inputs and response, what the row mostly weighs."""
        said = sum(len(str(message.get("content", ""))) for message in self.prompt)
        # A prompt names an image in one word; the inputs hold it.
        given = 0 if self.call is None else _characters(self.call.inputs)
        return said + given + len(self.response or "") + len(self.error or "")


class Ledger:
    """Counts and remembers; every method may be called from any thread."""

    def __init__(self, *, rows: int, text: int) -> None:
        self._lock = threading.Lock()
        self._max_rows, self._max_text = rows, text
        self._rows: deque[tuple[LMCall, int]] = deque()
        self._text = 0
        self._by_lm: OrderedDict[tuple[str | None, str], Usage] = OrderedDict()
        self._by_program: OrderedDict[tuple[str | None, str], Usage] = OrderedDict()
        self._requests: OrderedDict[str | None, list[float]] = OrderedDict()
        self.since = time.time()

    def record(self, scope: Scope, row: LMCall) -> None:
        """Count one LM call for its tenant, LM and program, and remember it."""
        size = row.size()
        with self._lock:
            _total(self._by_lm, (row.tenant, row.model)).add(row.usage)
            if row.program_id is not None:
                _total(self._by_program, (row.tenant, row.program_id)).add(row.usage)
            self._rows.append((row, size))
            self._text += size
            while len(self._rows) > self._max_rows or (
                self._text > self._max_text and len(self._rows) > 1
            ):
                self._text -= self._rows.popleft()[1]
        scope.keep(row)

    def add_run(self, scope: Scope, program_id: str, model: str, used: Usage) -> None:
        """Count what a run's process has used of an LM since it was last counted."""
        scope.count(model, used)
        with self._lock:
            _total(self._by_lm, (scope.tenant, model)).add(used)
            _total(self._by_program, (scope.tenant, program_id)).add(used)

    def answered(self, tenant: str | None, seconds: float) -> None:
        """Count one finished request and its time."""
        with self._lock:
            counts = self._requests.setdefault(tenant, [0.0, 0.0])
            self._requests.move_to_end(tenant)
            counts[0] += 1
            counts[1] += seconds
            if len(self._requests) > MOST_NAMES:
                self._requests.popitem(last=False)

    def history(
        self, *, tenant: str | None, limit: int, module_id: str | None, program_id: str | None
    ) -> list[dict[str, Any]]:
        """The last `limit` rows of `tenant`, newest first."""
        with self._lock:
            rows = [row for row, _ in self._rows]
        found = []
        for row in reversed(rows):
            if row.tenant != tenant or (program_id and row.program_id != program_id):
                continue
            if module_id and (row.call is None or row.call.module_id != module_id):
                continue
            found.append(row.to_wire())
            if len(found) == limit:
                break
        return found

    def usage(self, tenant: str | None) -> dict[str, Any]:
        """Totals of one tenant since the daemon started: per LM, per program, all together."""
        with self._lock:
            lms = {name: u for (owner, name), u in self._by_lm.items() if owner == tenant}
            programs = {name: u for (owner, name), u in self._by_program.items() if owner == tenant}
            requests, seconds = self._requests.get(tenant, (0.0, 0.0))
            total = Usage()
            for used in lms.values():
                total.add(used)
            return {
                "total_requests": int(requests),
                "total_tokens": total.input_tokens + total.output_tokens,
                "average_latency_ms": 1000 * seconds / requests if requests else 0.0,
                "total": total.to_wire(),
                "lms": {name: used.to_wire() for name, used in lms.items()},
                "programs": {name: used.to_wire() for name, used in programs.items()},
                "since": self.since,
            }


def _characters(value: Any) -> int:
    """What the texts in a plain value are long."""
    found = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str | bytes):
            found += len(item)
        elif isinstance(item, dict):
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return found


def _total(
    totals: OrderedDict[tuple[str | None, str], Usage], key: tuple[str | None, str]
) -> Usage:
    used = totals.get(key)
    if used is None:
        used = totals[key] = Usage()
        if len(totals) > MOST_NAMES:
            totals.popitem(last=False)
    else:
        totals.move_to_end(key)
    return used
