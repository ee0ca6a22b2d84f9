"""Versions: the same content gives the same version, wherever and whenever it is worked out."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import orjson

__all__ = ["version_of"]


def version_of(content: Any) -> str:
    """Twelve hex digits of the hash of canonical JSON: 48 bits, plenty for one host's specs."""
    return sha256(orjson.dumps(content, default=repr, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]
