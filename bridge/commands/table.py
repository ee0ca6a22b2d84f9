"""The one registry of commands, loaded after the handshake: it needs pydantic."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from bridge.commands import (
    configuring,
    creating,
    generating,
    greeting_models,
    keeping,
    observing,
    optimizing,
    running,
    steering,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.commands.command import Command

__all__ = ["COMMANDS"]


def _table(*families: tuple[Command, ...]) -> Mapping[str, Command]:
    table: dict[str, Command] = {}
    for family in families:
        for command in family:
            if command.name in table:
                raise ValueError(f"two commands are called {command.name!r}")
            table[command.name] = command
    return MappingProxyType(table)


COMMANDS = _table(
    greeting_models.COMMANDS,
    configuring.COMMANDS,
    creating.COMMANDS,
    running.COMMANDS,
    generating.COMMANDS,
    keeping.COMMANDS,
    observing.COMMANDS,
    optimizing.COMMANDS,
    steering.COMMANDS,
)
"""Every command by its name."""
