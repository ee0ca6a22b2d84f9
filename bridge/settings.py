"""What one daemon is told at its start, and the bounds it keeps.

Every bound stands here with its reason; `configure` may change those in `CONFIGURABLE`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from protocol import DEFAULT_MAX_FRAME

if TYPE_CHECKING:
    # At run time it would be imported before the first answer, for nothing.
    from pathlib import Path

__all__ = ["CONFIGURABLE", "AdapterChoice", "Limits", "LogLevel", "Settings"]

LogLevel = Literal["debug", "info", "warning", "error"]


class Limits(NamedTuple):
    """The daemon's bounds. Times are milliseconds, sizes bytes."""

    max_frame: int = DEFAULT_MAX_FRAME
    """Larger payloads are refused from their header: one request may not take the memory of all."""

    max_concurrent: int = 1_024
    """Requests that run at once. About 30 KiB each while it waits for its LM, and 50 KiB more for
    one that needs a thread meanwhile."""

    max_queued: int = 4_096
    """Requests that wait for a place. Beyond it the answer is `busy`: queues only hide overload."""

    max_queued_bytes: int = 128 * 1024 * 1024
    """And what they may be together, as they came: in memory they are several times as much."""

    max_batch_concurrency: int = 64
    """Rows of one `batch` that run at once, so that one batch is not the whole daemon."""

    default_deadline_ms: int = 600_000
    """For requests that name no deadline: every wait has an end."""

    host_call_ms: int = 120_000
    """How long the host may take for one call: a host that forgot one holds nothing for ever."""

    max_nested: int = 4_096
    """Requests within host calls that run at once: they wait for no place, so this is the bound."""

    drain_ms: int = 30_000
    """After end of input, how long requests in flight may take to finish."""

    max_pending_output: int = 64 * 1024 * 1024
    """Unread output above which no further request is read: a slow host slows itself, not us."""

    max_lm_reply: int = 32 * 1024 * 1024
    """An LM's HTTP reply; the largest real one (images inline) is about a third of it."""

    history_rows: int = 500
    """LM calls that `history` remembers."""

    history_bytes: int = 2 * 1024 * 1024
    """And how much prompt and response text they may hold together."""

    built_programs: int = 512
    """Built DSPy objects kept; the specs they come from stay, so a dropped one is only rebuilt."""

    cache_bytes: int = 64 * 1024 * 1024
    """The response cache's text, whatever `cache.max_entries` says."""

    sandbox_workers: int = 4
    """Processes that run given source. A program that waits for its LM lends its own to others."""

    sandbox_cpu_ms: int = 5_000
    """Processor time of one run of given source; waiting for LMs and the host is not counted."""

    sandbox_memory: int = 32 * 1024 * 1024
    """What one run of given source may hold."""

    sandbox_recursion: int = 400
    """Calls within calls in given source."""

    sandbox_calls: int = 1_000
    """Calls of modules and tools in one run of given source: a loop must not empty a purse."""

    sandbox_output: int = 64 * 1024
    """What one run of given source may print; nobody reads it but the LM that wrote the source."""

    sandbox_value: int = 4 * 1024 * 1024
    """One value on its way out of given source: a result, or the arguments of a call."""


CONFIGURABLE = frozenset(
    {
        "max_concurrent",
        "max_queued",
        "max_batch_concurrency",
        "default_deadline_ms",
        "sandbox_cpu_ms",
        "sandbox_memory",
        "sandbox_recursion",
        "sandbox_calls",
        "sandbox_output",
        "sandbox_value",
        "host_call_ms",
        "drain_ms",
    }
)
"""Bounds that `configure` may change; the others size buffers that exist already."""


class AdapterChoice(NamedTuple):
    """Which DSPy adapter writes prompts; `extraction_lm` is for two_step only."""

    name: str = "chat"
    extraction_lm: Any = None


class Settings(NamedTuple):
    """Everything the command line decides."""

    framing: Literal["packet", "lines"] = "packet"
    fds: tuple[int, int] = (0, 1)
    log_level: LogLevel = "warning"
    worker: bool = False
    """Whether this process is a run of another daemon, which is its host."""
    state_dir: Path | None = None
    """Where runs are kept; the user's state directory when None."""
    limits: Limits = Limits()

    def with_limits(self, **changed: int) -> Settings:
        """The same settings with some bounds changed; unknown names raise ValueError."""
        return self._replace(limits=self.limits._replace(**changed))


LIMIT_NAMES: tuple[str, ...] = Limits._fields
