"""The daemon's own log: structlog, one line an event, on standard error, secrets masked.

JSON for machines, coloured columns where a person looks on. structlog is imported with the first
line, because the handshake is answered before that.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["Log"]

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Log:
    """``log.info("event", key=value)``. Standard error is masked where it is written."""

    def __init__(self, level: str) -> None:
        self._level = LEVELS[level]
        self._logger: Any = None

    def set_level(self, level: str) -> None:
        """Change the least level that is written."""
        self._level = LEVELS[level]

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

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if LEVELS[level] < self._level:
            return
        if self._logger is None:
            self._logger = _logger()
        getattr(self._logger, level)(event, **fields)


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
