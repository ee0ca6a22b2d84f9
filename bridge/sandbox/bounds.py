"""What one run of given source may use; the daemon's limits are the most that anyone gets."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.settings import Limits

__all__ = ["Bounds"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of one run; `bridge.settings.Limits` says what each is for."""

    cpu_ms: int
    memory: int
    recursion: int
    calls: int
    output: int
    value: int

    @classmethod
    def of(cls, limits: Limits) -> Bounds:
        """The daemon's own."""
        return cls(**{item.name: getattr(limits, f"sandbox_{item.name}") for item in fields(cls)})

    def within(self, asked: Mapping[str, int]) -> Bounds:
        """The smaller of these and what a spec asks for."""
        return Bounds(
            **{
                item.name: min(getattr(self, item.name), asked.get(item.name, 2**62))
                for item in fields(self)
            }
        )
