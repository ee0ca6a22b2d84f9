"""What a run needs of the engine, and no more of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.engine.programs import LMs
    from bridge.engine.runs.running import Run
    from bridge.scope import Scope

__all__ = ["Bench"]


@dataclass(frozen=True, slots=True)
class Bench:
    """The engine as runs see it.

    Attributes:
        context: DSPy's settings under a scope, for `with`.
        lms: where modules have theirs from.
        lm: the LM that a reference names; None is the one in force.
        running: the runs in progress by their tenants and ids.
    """

    context: Callable[[Scope], Any]
    lms: LMs
    lm: Callable[[Scope, Any], Any]
    running: dict[tuple[str | None, str], Run]
