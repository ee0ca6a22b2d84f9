"""Version 1 is the seed's wire exactly: its commands answer with the seed's keys and no others."""

from __future__ import annotations

from typing import Any

__all__ = ["as_the_seed_answers"]

RESULT_KEYS: dict[str, tuple[str, ...]] = {
    "configure": ("status",),
    "create_module": ("id", "type"),
    "create_program": ("id",),
}
"""The keys that the seed's Elixir code turns into atoms, by command."""


def as_the_seed_answers(command: str, result: Any) -> Any:
    """`result` as version 1 has it."""
    keys = RESULT_KEYS.get(command)
    if keys is None or not isinstance(result, dict):
        return result
    return {key: result[key] for key in keys}
