"""The error tree, and the codes that are the contract.

Codes never change meaning; messages may. Two roots say whose fault it is::

    FramingError           the peer broke the framing: the connection ends
    BridgeError            one request failed: it is answered, the connection goes on
    ├── InvalidFrame            invalid_frame
    ├── FrameTooLarge           frame_too_large
    ├── InvalidMessage          invalid_message
    ├── UnknownCommand          unknown_command
    ├── InvalidArgs             invalid_args
    ├── DuplicateId             duplicate_id
    ├── NotFound                not_found
    ├── Busy                    busy                    retriable
    ├── Cancelled               cancelled
    ├── DeadlineExceeded        deadline_exceeded
    ├── BudgetExceeded          budget_exceeded
    ├── NotConfigured           not_configured
    ├── MissingExtra            missing_extra
    ├── Unsupported             unsupported
    ├── LMAuth                  lm_auth
    ├── LMRateLimited           lm_rate_limited         retriable
    ├── LMTimeout               lm_timeout              retriable
    ├── LMTransport             lm_transport            retriable
    ├── LMRefused               lm_refused
    ├── LMContextWindow         lm_context_window
    ├── LMFailed                lm_error
    ├── AdapterParse            adapter_parse
    ├── ProgramError            program_error
    ├── SandboxLimit            sandbox_limit
    ├── MetricError             metric_error
    ├── HostError               host_error
    ├── WorkerDied              worker_died             retriable
    └── Internal                internal
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "CODES",
    "AdapterParse",
    "BridgeError",
    "BudgetExceeded",
    "Busy",
    "Cancelled",
    "DeadlineExceeded",
    "DuplicateId",
    "FrameTooLarge",
    "FramingError",
    "HostError",
    "Internal",
    "InvalidArgs",
    "InvalidFrame",
    "InvalidMessage",
    "LMAuth",
    "LMContextWindow",
    "LMFailed",
    "LMRateLimited",
    "LMRefused",
    "LMTimeout",
    "LMTransport",
    "MetricError",
    "MissingExtra",
    "NotConfigured",
    "NotFound",
    "ProgramError",
    "SandboxLimit",
    "UnknownCommand",
    "Unsupported",
    "WorkerDied",
    "error_from_wire",
]


class FramingError(Exception):
    """The peer does not speak length-prefixed frames; nothing after this byte can be trusted."""


class BridgeError(Exception):
    """One request failed.

    Args:
        message: for the person who made the mistake: what was wrong, where, what would be right.
        retry_after_ms: when a repeat may succeed, if that is known.
        retriable: overrides the code's own answer.
        **details: plain values for the ``details`` map on the wire.
    """

    code: ClassVar[str] = "internal"
    retriable: bool = False

    def __init__(
        self,
        message: str,
        *,
        retry_after_ms: int | None = None,
        retriable: bool | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_ms = retry_after_ms
        self.details = details
        if retriable is not None:
            self.retriable = retriable

    def to_wire(self) -> dict[str, Any]:
        """The version 2 error map: ``{code, message, retriable, retry_after_ms?, details}``."""
        wire: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "retriable": self.retriable,
        }
        if self.retry_after_ms is not None:
            wire["retry_after_ms"] = self.retry_after_ms
        wire["details"] = self.details
        return wire

    def to_text(self) -> str:
        """The version 1 error string: ``"<code>: <message>"``."""
        return f"{self.code}: {self.message}"


class InvalidFrame(BridgeError):
    """The bytes of a frame are neither a JSON object nor a MessagePack map."""

    code = "invalid_frame"


class FrameTooLarge(BridgeError):
    """A frame's header names more bytes than ``max_frame``; its payload was discarded."""

    code = "frame_too_large"


class InvalidMessage(BridgeError):
    """The map in a frame is not a message of the protocol."""

    code = "invalid_message"


class UnknownCommand(BridgeError):
    """No command has this name; ``details.nearest`` may name the one that was meant."""

    code = "unknown_command"


class InvalidArgs(BridgeError):
    """The arguments do not fit the command; ``details.faults`` lists ``{path, message}``."""

    code = "invalid_args"

    def __init__(self, message: str, faults: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message, faults=faults if faults is not None else [])

    @classmethod
    def at(cls, path: str, message: str, **more: Any) -> InvalidArgs:
        """One fault at one path, e.g. ``at("inputs.question", "is missing")``."""
        return cls(f"{path}: {message}", [{"path": path, "message": message, **more}])

    @classmethod
    def of(cls, faults: list[dict[str, Any]]) -> InvalidArgs:
        """Every fault at once; the message quotes the first."""
        first = faults[0]
        text = f"{first['path']}: {first['message']}" if first["path"] else str(first["message"])
        if len(faults) > 1:
            text += f" (and {len(faults) - 1} more)"
        return cls(text, faults)


class DuplicateId(BridgeError):
    """A request with this id is still in flight."""

    code = "duplicate_id"


class NotFound(BridgeError):
    """No such module, program, LM, dataset, run or request; ``details`` has ``kind`` and ``id``."""

    code = "not_found"


class Busy(BridgeError):
    """The daemon is at its bounds: repeat later."""

    code = "busy"
    retriable = True


class Cancelled(BridgeError):
    """The host cancelled this request."""

    code = "cancelled"


class DeadlineExceeded(BridgeError):
    """The request's time ran out."""

    code = "deadline_exceeded"


class BudgetExceeded(BridgeError):
    """The request's budget of LM calls, tokens, cost or seconds ran out."""

    code = "budget_exceeded"


class NotConfigured(BridgeError):
    """The request needs an LM and none is configured."""

    code = "not_configured"


class MissingExtra(BridgeError):
    """An optional package is not installed; ``details.install`` is the command that installs it."""

    code = "missing_extra"


class Unsupported(BridgeError):
    """The bridge knows what was asked for and cannot do it."""

    code = "unsupported"


class LMAuth(BridgeError):
    """The LM's server refused the credentials."""

    code = "lm_auth"


class LMRateLimited(BridgeError):
    """The LM's server asked us to slow down and the retries are used up."""

    code = "lm_rate_limited"
    retriable = True


class LMTimeout(BridgeError):
    """The LM did not answer within ``timeout_s``."""

    code = "lm_timeout"
    retriable = True


class LMTransport(BridgeError):
    """The connection to the LM failed, was cut, or its server failed."""

    code = "lm_transport"
    retriable = True


class LMRefused(BridgeError):
    """The LM's server rejected the request itself."""

    code = "lm_refused"


class LMContextWindow(BridgeError):
    """The prompt is longer than the model's context window."""

    code = "lm_context_window"


class LMFailed(BridgeError):
    """The LM failed in a way that has no code of its own."""

    code = "lm_error"


class AdapterParse(BridgeError):
    """The LM's text does not hold the output fields; ``details.response`` is that text."""

    code = "adapter_parse"


class ProgramError(BridgeError):
    """A program is wrong or failed; ``details`` has line, column and hint where known."""

    code = "program_error"


class SandboxLimit(BridgeError):
    """Given source used more than it may."""

    code = "sandbox_limit"


class MetricError(BridgeError):
    """A metric raised or returned no score; ``details.index`` is the example's."""

    code = "metric_error"


class HostError(BridgeError):
    """A host call failed or was never answered."""

    code = "host_error"


class WorkerDied(BridgeError):
    """The process that did the work died."""

    code = "worker_died"
    retriable = True


class Internal(BridgeError):
    """A fault of the bridge itself; the log has the traceback under ``details.reference``."""

    code = "internal"


def error_from_wire(error: dict[str, Any] | str) -> BridgeError:
    """The error that a peer sent, as the class of its code; an unknown code is an Internal.

    Args:
        error: version 2's map or version 1's ``"<code>: <message>"``.
    """
    if isinstance(error, str):
        code, _, message = error.partition(": ")
        error = {"code": code, "message": message}
    kind = next((k for k in BridgeError.__subclasses__() if k.code == error.get("code")), Internal)
    found = kind.__new__(kind)
    after, retriable = error.get("retry_after_ms"), error.get("retriable")
    BridgeError.__init__(
        found,
        str(error.get("message")),
        retry_after_ms=after if isinstance(after, int) else None,
        retriable=retriable if isinstance(retriable, bool) else None,
    )
    # Not as keywords: what a peer calls its details may be the name of an argument.
    details = error.get("details")
    found.details = dict(details) if isinstance(details, dict) else {}
    return found


CODES: tuple[str, ...] = tuple(kind.code for kind in BridgeError.__subclasses__())
