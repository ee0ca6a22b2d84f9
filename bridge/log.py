"""The daemon's own log: one line an event, told to the host if it hears events, else written.

Written lines go to standard error by structlog: JSON for machines, coloured columns where a person
looks on. structlog is imported with the first of them, because the handshake is answered before
that. Secrets are masked on either way.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Log"]

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

MOST_TOLD = 50
"""Lines that a host is told in one second; a fault that repeats itself must not drown it. The
others are written."""


class Log:
    """``log.info("event", key=value)``. Standard error is masked where it is written. Any thread.

    Attributes:
        level: the least level that counts.
        tell: gives the host a line, `{level, event, **fields}`, and says whether it took it.
    """

    def __init__(self, level: str) -> None:
        self.level = level
        self.tell: Callable[[dict[str, Any]], bool] | None = None
        self._second = 0
        self._told = 0
        self._logger: Any = None

    def set_level(self, level: str) -> None:
        """Change the least level that counts."""
        self.level = level

    def debug(self, event: str, **fields: Any) -> None:
        """For whoever debugs the bridge."""
        self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Part of ordinary life."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Somebody should look, some day."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Somebody should look now."""
        self._write("error", event, fields)

    def relay(self, line: dict[str, Any], **more: Any) -> None:
        """A line that a process of ours told."""
        fields = {key: value for key, value in line.items() if key not in {"level", "event"}}
        self._write(line["level"], line["event"], {**fields, **more})

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if LEVELS[level] < LEVELS[self.level]:
            return
        line = {"level": level, "event": event, **fields}
        if self.tell is not None and self._may_tell() and self.tell(line):
            return
        if self._logger is None:
            self._logger = _logger()
        getattr(self._logger, level)(event, **fields)

    def _may_tell(self) -> bool:
        # Two threads may count one line as none or as two: the bound is a rough one.
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._told = second, 0
        self._told += 1
        return self._told <= MOST_TOLD


def _logger() -> Any:
    import structlog  # noqa: PLC0415 - 20 ms that the handshake need not wait for

    renderer: Any = structlog.processors.JSONRenderer()
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.BoundLogger,
        cache_logger_on_first_use=True,
    )
