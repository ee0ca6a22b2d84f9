"""What one run of given source may use; the daemon's limits are the most that anyone gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.settings import Limits

__all__ = ["Bounds"]


class Bounds(NamedTuple):
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
        return cls(**{name: getattr(limits, f"sandbox_{name}") for name in cls._fields})

    def within(self, asked: Mapping[str, int]) -> Bounds:
        """The smaller of these and what a spec asks for."""
        return Bounds(
            **{name: min(own, asked.get(name, own)) for name, own in self._asdict().items()}
        )
