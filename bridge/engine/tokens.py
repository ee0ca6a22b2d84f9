"""Counting tokens without asking anybody.

tiktoken's tables come with litellm, so that nothing is fetched. They are exact for OpenAI's
models; for others the count is an estimate and says so.
"""

from __future__ import annotations

import os
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.specs.lms import LMSpec

__all__ = ["count_tokens"]

INSTALLED = frozenset({"cl100k_base", "o200k_base", "o200k_harmony", "p50k_base"})
"""The tables that come with litellm; tiktoken would fetch any other, and wait without an end."""

MESSAGE_TOKENS = 3
"""What OpenAI's chat format adds to each message; it adds as much again to the whole."""

_lock = threading.Lock()
_encodings: dict[str, Any] = {}


def count_tokens(spec: LMSpec, messages: list[dict[str, str]]) -> dict[str, Any]:
    """``{tokens, exact, tokenizer}`` of plain text messages for the model of `spec`."""
    name, exact = _encoding_name(spec)
    encoding = _encoding(name)
    texts = [message["content"] for message in messages]
    tokens = sum(len(encoding.encode(text, disallowed_special=())) for text in texts)
    if len(messages) > 1:
        tokens += MESSAGE_TOKENS * (len(messages) + 1)
    return {"tokens": tokens, "exact": exact, "tokenizer": name}


def _encoding_name(spec: LMSpec) -> tuple[str, bool]:
    from tiktoken.model import encoding_name_for_model  # noqa: PLC0415 - 30 ms, rarely needed

    if spec.provider in {"openai", "azure"}:
        try:
            name = encoding_name_for_model(spec.model)
        except KeyError:
            return "o200k_base", False
        return (name, True) if name in INSTALLED else ("p50k_base", False)
    return "cl100k_base", False


def _encoding(name: str) -> Any:
    with _lock:
        if name not in _encodings:
            import tiktoken  # noqa: PLC0415

            found = find_spec("litellm")
            if found is not None and found.origin is not None:
                tables = Path(found.origin).parent / "litellm_core_utils" / "tokenizers"
                os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(tables))
            _encodings[name] = tiktoken.get_encoding(name)
        return _encodings[name]
