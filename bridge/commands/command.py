"""What a command is, and what one is given to work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from bridge.engine.runtime import Engine
    from bridge.hostlink import HostLink
    from bridge.ledger import Ledger
    from bridge.registry import Registry
    from bridge.runs.table import Runs
    from bridge.scope import Scope
    from bridge.secrets import Secrets
    from bridge.settings import Limits
    from bridge.strand import Wait

__all__ = ["Command", "Invocation", "Services", "Work"]


@dataclass(frozen=True, slots=True)
class Work:
    """What is left to do of a command once DSPy is there.

    It may wait as long as it wants: on its thread, or, where it gives a coroutine, without one.
    """

    run: Callable[[Engine], dict[str, Any] | Coroutine[Wait, None, dict[str, Any]]]


@dataclass(slots=True)
class Services:
    """The parts of the daemon that commands work on."""

    registry: Registry
    runs: Runs
    ledger: Ledger
    secrets: Secrets
    limits: Callable[[], Limits]
    change_limits: Callable[[Mapping[str, int]], None]
    set_log_level: Callable[[str], None]
    set_cache: Callable[[Mapping[str, Any]], None]
    cancel: Callable[[int | str], bool]
    shutdown: Callable[[int], None]
    health: Callable[[], dict[str, Any]]
    in_turn: Callable[[Callable[[], Any]], Any]
    host: Callable[[], HostLink]
    worker: bool
    hears_events: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Invocation:
    """One request as a command sees it.

    `hear` takes pieces of an LM's answer, in a request that the host sends while it is the LM.
    """

    services: Services
    scope: Scope
    hear: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A name, the pydantic model of its arguments, and the function that does it.

    The function runs in its request's turn, in order of arrival, and must not wait: all that comes
    behind it does. It returns the result, or `Work`. It is given an `Invocation`; only the two of
    `bridge.commands.greeting`, which the daemon answers itself, are not.
    """

    name: str
    args: Any
    run: Callable[[Any, Any], Any]
    worker_args: Any = None
    """The model in a child process, where it is another."""
    ends_itself: bool = False
    """Whether the command keeps its deadline itself, and answers with what it has by then."""
    open_ended: bool = False
    """Whether it may take as long as it takes, where the host sets no deadline."""
    within: bool = False
    """Whether it works where the host call comes from that is its `parent`, be that a child."""
    streams: bool = False
    """Whether the command can tell its result while it comes."""

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]
