"""`history`, `usage`, `stats`: what was said, what it cost, how the daemon is."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from bridge.commands.command import Command, Invocation
from bridge.specs.checking import Args
from bridge.specs.modules import HostId

__all__ = ["COMMANDS"]


class HistoryArgs(Args):
    """Arguments of `history`."""

    limit: Annotated[int, Field(ge=1, le=10_000, description="rows at most, newest first")] = 50
    module_id: HostId | None = None
    program_id: HostId | None = None


class UsageArgs(Args):
    """Arguments of `usage`: none."""


class StatsArgs(Args):
    """Arguments of `stats`: none."""


def history(args: HistoryArgs, invocation: Invocation) -> dict[str, Any]:
    """The tenant's last LM calls, newest first."""
    rows = invocation.services.ledger.history(
        tenant=invocation.scope.tenant,
        limit=args.limit,
        module_id=None if args.module_id is None else str(args.module_id),
        program_id=None if args.program_id is None else str(args.program_id),
    )
    return {"rows": rows}


def usage(args: UsageArgs, invocation: Invocation) -> dict[str, Any]:  # noqa: ARG001
    """The tenant's totals since the daemon started: per LM, per program, and all."""
    return invocation.services.ledger.usage(invocation.scope.tenant)


def stats(args: StatsArgs, invocation: Invocation) -> dict[str, Any]:  # noqa: ARG001
    """Health: memory, threads, requests in flight and queued, specs, uptime."""
    return invocation.services.health()


COMMANDS = (
    Command("history", HistoryArgs, history),
    Command("usage", UsageArgs, usage),
    Command("stats", StatsArgs, stats),
)
