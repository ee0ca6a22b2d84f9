"""`cancel` and `shutdown`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StrictInt

from bridge.commands.command import Command, Invocation
from bridge.specs.checking import Args

__all__ = ["COMMANDS"]


class CancelArgs(Args):
    """Arguments of `cancel`."""

    request: Annotated[StrictInt | str, Field(description="the id of a request in flight")]


class ShutdownArgs(Args):
    """Arguments of `shutdown`."""

    grace_ms: Annotated[
        int | None, Field(ge=0, le=3_600_000, description="how long requests may still take")
    ] = None


def cancel(args: CancelArgs, invocation: Invocation) -> dict[str, Any]:
    """Stop a request; it is answered `cancelled` before this is answered."""
    return {"cancelled": invocation.services.cancel(args.request)}


def shutdown(args: ShutdownArgs, invocation: Invocation) -> dict[str, Any]:
    """Answer, let requests in flight finish within `grace_ms`, and exit 0."""
    grace = invocation.services.limits().drain_ms if args.grace_ms is None else args.grace_ms
    invocation.services.shutdown(grace)
    return {"status": "shutting_down", "grace_ms": grace}


COMMANDS = (
    Command("cancel", CancelArgs, cancel),
    Command("shutdown", ShutdownArgs, shutdown),
)
