"""The response cache: off unless configured, and never shared across what should be apart.

The key holds endpoint, credential fingerprint, model, request and tenant; DSPy's own cache leaves
the first two out. Bounded in entries, in text and in age.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.specs.lms import LMSpec

__all__ = ["CacheSettings", "ResponseCache"]


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """`configure`'s ``cache``; the seed's defaults where it has any."""

    enabled: bool = False
    ttl_s: float = 3600.0
    max_entries: int = 10_000


class ResponseCache:
    """Responses by key, least recently used first out. Any thread."""

    def __init__(self, max_bytes: int) -> None:
        self.settings = CacheSettings()
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, tuple[float, int, Any]] = OrderedDict()
        self._bytes = 0

    @staticmethod
    def key(spec: LMSpec, tenant: str | None, request: bytes) -> bytes:
        """The key of one request, given in canonical bytes."""
        apart = (spec.name, spec.base_url or "", spec.fingerprint, repr(tenant))
        return sha256("\0".join(apart).encode() + b"\0" + request).digest()

    def get(self, key: bytes) -> Any | None:
        """The response under `key` if it is young enough."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            stored, size, response = entry
            if time.monotonic() - stored > self.settings.ttl_s:
                del self._entries[key]
                self._bytes -= size
                return None
            self._entries.move_to_end(key)
            return response

    def put(self, key: bytes, response: Any) -> None:
        """Keep `response`; older ones go when a bound is passed."""
        size = len(response.text or "") + 256
        with self._lock:
            old = self._entries.pop(key, None)
            self._bytes += size - (old[1] if old else 0)
            self._entries[key] = (time.monotonic(), size, response)
            while self._entries and (
                len(self._entries) > self.settings.max_entries or self._bytes > self._max_bytes
            ):
                _, (_, dropped, _) = self._entries.popitem(last=False)
                self._bytes -= dropped

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)
