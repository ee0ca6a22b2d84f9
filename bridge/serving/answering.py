"""The one boundary where an exception becomes the wire's error.

What the bridge raises on purpose is a BridgeError already. DSPy's own errors are explained by the
engine. Anything else is a fault of ours: the log gets the traceback, the host gets a reference.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bridge.scope import Stopped
from protocol.errors import BridgeError, Internal

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.log import Log

__all__ = ["Boundary"]


class Boundary:
    """Turns exceptions into errors. `explain` is the engine's table once DSPy is there."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.explain: Callable[[BaseException], BridgeError | None] = lambda _: None

    def error_of(self, error: BaseException, **where: object) -> BridgeError:
        """The answer to a request that ended with `error`."""
        if isinstance(error, BridgeError):
            return error
        if isinstance(error, Stopped):
            return error.error
        explained = self.explain(error)
        if explained is not None:
            return explained
        # Imported for the day that it is needed: it costs the first answer some milliseconds.
        import traceback  # noqa: PLC0415

        reference = os.urandom(4).hex()
        self._log.error(
            "internal",
            reference=reference,
            error=type(error).__name__,
            traceback="".join(traceback.format_exception(error)),
            **where,
        )
        return Internal(
            f"{type(error).__name__}: a fault of the bridge; its log has it as {reference}",
            reference=reference,
        )
