"""pydantic-monty in our own few words; nothing else of the bridge imports it.

Law: what comes back from a worker is read on a budget (`values`) before it leaves this file, and
the text of an exception is cut. What a worker prints is kept, never written anywhere.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic_monty as monty

from bridge.sandbox.jail import Jail, why_not
from bridge.sandbox.values import ValueFaultError, received
from protocol.errors import Busy, Internal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.sandbox.bounds import Bounds
    from bridge.settings import Limits

__all__ = ["Called", "Ended", "ExceededError", "FailedError", "Pool", "Seat", "Turn", "Waits"]

MOST_MESSAGE = 2_000
"""Characters of an exception's text that are kept."""

MOST_CHECKOUTS = 2_000
"""Runs of one worker before a fresh one takes its place: what a run has done to it ends then."""

GRACE_SECONDS = 0.5
"""How long a worker may take to notice by itself that its time is up, before it is killed."""

CHECKOUT_SECONDS = 30.0
"""For a worker to start on a busy machine; who gets one is decided before, in `workers`."""

SUSPENSIONS = 4
"""Times the calls that are allowed: names that are looked up and system calls count here, too."""

HEAVY = 100_000
"""Characters of an exception's text that are worth the milliseconds of giving memory back."""

_trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""glibc's; other allocators give memory back by themselves, or never."""

SOURCE_NAME = re.compile(r"<python-input-\d+>|\x00")
"""What a worker calls a piece of source in its tracebacks."""


@dataclass(frozen=True, slots=True)
class Called:
    """The source calls a function of ours, or one that nobody has."""

    number: int
    name: str
    args: list[Any]
    named: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Waits:
    """The source waits for calls that were put off."""

    numbers: list[int]


@dataclass(frozen=True, slots=True)
class Ended:
    """The source gave this value."""

    value: Any


Turn = Called | Waits | Ended


class FailedError(Exception):
    """The source raised an exception and did not catch it.

    Attributes:
        kind: the exception's class.
        message: its text.
        line: where in the source, from 1; None where that is not known.
        column: from 1.
    """

    def __init__(self, kind: str, message: str, line: int | None, column: int | None) -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind = kind
        self.message = message
        self.line = line
        self.column = column


class ExceededError(Exception):
    """The source used more than it may; `bound` names what, in the words of `Bounds`."""

    def __init__(self, bound: str, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.bound = bound
        self.message = message
        self.line = line


class Pool:
    """Worker processes, each locked in where the kernel can."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        worker = Path(sysconfig.get_path("scripts")) / "monty"
        if not worker.is_file():
            raise Internal(f"pydantic-monty's worker is not at {worker}")
        self.note = why_not()
        if self.note is None:
            # Mapped, not held: threads' stacks and arenas are mapped many times larger.
            jail = Jail(worker, 2 * limits.sandbox_memory + 2 * 1024**3)
            try:
                self._pool = self._opened(jail.path)
            except (monty.MontyError, OSError, RuntimeError) as error:
                jail.close()
                self.note = f"workers are not locked in: {str(error)[:200]}"
            else:
                return
        self._pool = self._opened(str(worker))

    def _opened(self, program: str) -> monty.Monty:
        pool = monty.Monty(
            binary_path=program,
            min_processes=1,
            max_processes=self._limits.sandbox_workers,
            checkout_timeout=CHECKOUT_SECONDS,
            request_timeout=self._limits.sandbox_cpu_ms / 1000 + 5 * GRACE_SECONDS,
            max_checkouts_per_worker=MOST_CHECKOUTS,
            feed_duration_limit_grace=GRACE_SECONDS,
        )
        pool.__enter__()
        try:
            with pool.checkout() as session:
                session.feed_run("None")
        except BaseException:
            pool.__exit__(None, None, None)
            raise
        return pool

    def seat(self, bounds: Bounds) -> Seat:
        """A worker of one's own until `Seat.close`.

        Raises:
            Busy: none could be started in time.
        """
        session = self._pool.checkout(
            limits={
                "max_feed_duration_secs": bounds.cpu_ms / 1000,
                "max_memory": bounds.memory,
                "max_recursion_depth": bounds.recursion,
                "max_suspensions": SUSPENSIONS * bounds.calls + 100,
            },
            os_policy={"sleep": "zero"},
            print_flush_interval=1.0,
        )
        try:
            session.__enter__()
        except TimeoutError:
            raise Busy("no sandbox worker could be started in time; repeat later") from None
        return Seat(session, bounds)


class Seat:
    """One worker's session. One thread at a time."""

    def __init__(self, session: monty.MontySession, bounds: Bounds) -> None:
        self._session = session
        self._bounds = bounds
        self._printed = monty.CollectString(max_bytes=bounds.output)
        self._snapshot: Any = None
        self._heavy = False

    def close(self) -> None:
        """Give the worker back."""
        self._snapshot = None
        if self._heavy:
            self._end_worker()
        with suppress(monty.MontyError, RuntimeError):
            self._session.__exit__(None, None, None)
        del self._session
        if self._heavy and _trim is not None:
            # What was too large is dropped by now, but the allocator would keep its room.
            _trim(0)

    def _end_worker(self) -> None:
        """End the process: our end of its pipe keeps room for the largest thing it ever sent."""
        worker = self._session.worker_pid
        if worker is not None:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)

    @property
    def printed(self) -> str:
        """What the source has printed."""
        return str(self._printed.output)

    # What is kept between turns

    def begin_with(self, image: bytes) -> None:
        """Begin where a session stood that was kept with `image`."""
        self._session.load_session(image)

    def image(self) -> bytes:
        """The session as it is between two pieces of source."""
        image: bytes = self._session.dump()
        return image

    def parked(self) -> bytes:
        """The session in the middle of a call."""
        kept: bytes = self._snapshot.dump()
        return kept

    def unpark(self, kept: bytes) -> None:
        """Be in the middle of the call again that `kept` was in."""
        self._snapshot = self._session.load_snapshot(kept, print_callback=self._printed)

    # Turns

    def start(self, source: str, inputs: Mapping[str, Any]) -> Turn:
        """Run source until it calls, waits or ends.

        Raises:
            FailedError: it raised.
            ExceededError: it used more than it may.
            ValueFaultError: what it calls with, or ends with, cannot leave.
        """
        return self._turn(
            lambda: self._session.feed_start(
                source, inputs=dict(inputs), print_callback=self._printed
            )
        )

    def answer(self, value: Any) -> Turn:
        """Go on with a call's result; raises as `start`."""
        snapshot = self._snapshot
        return self._turn(lambda: snapshot.resume({"return_value": value}))

    def refuse(self, kind: str, message: str) -> Turn:
        """Go on with an exception in the call's place; raises as `start`."""
        snapshot = self._snapshot
        return self._turn(lambda: snapshot.resume({"exc_type": kind, "message": message}))

    def put_off(self) -> Turn:
        """Go on without the result: the source may wait for it; raises as `start`."""
        snapshot = self._snapshot
        return self._turn(lambda: snapshot.resume({"future": ...}))

    def settle(self, results: Mapping[int, tuple[str | None, Any]]) -> Turn:
        """Give results of calls that were put off: ``(None, value)`` or ``(kind, message)``."""
        snapshot = self._snapshot
        settled: dict[int, Any] = {
            number: {"return_value": said} if kind is None else {"exc_type": kind, "message": said}
            for number, (kind, said) in results.items()
        }
        return self._turn(lambda: snapshot.resume(settled))

    def _turn(self, step: Any) -> Turn:
        try:
            snapshot = step()
            while not isinstance(snapshot, monty.FunctionSnapshot | monty.FutureSnapshot):
                if isinstance(snapshot, monty.MontyComplete):
                    self._snapshot = None
                    return Ended(self._read(snapshot.output, "the result"))
                # A name that nobody has: the source gets its NameError.
                snapshot = snapshot.resume()
            self._snapshot = snapshot
            if isinstance(snapshot, monty.FutureSnapshot):
                return Waits(list(snapshot.pending_call_ids))
            if snapshot.is_os_function:
                return self._turn(snapshot.resume_not_handled)
            return self._called(snapshot)
        except monty.MontyConversionError as error:
            raise FailedError("TypeError", str(error)[:MOST_MESSAGE], None, None) from None
        except monty.MontyCrashedError as error:
            raise _crashed(error) from None
        except monty.MontyError as error:
            self._heavy = self._heavy or len(str(error)) > HEAVY
            raise _failure(error, self._bounds) from None

    def _called(self, snapshot: monty.FunctionSnapshot) -> Called:
        named = self._read(snapshot.kwargs, "the arguments")
        args = self._read(list(snapshot.args), "the arguments")
        return Called(snapshot.call_id, str(snapshot.function_name)[:200], args, named)

    def _read(self, value: Any, path: str) -> Any:
        try:
            return received(value, path, self._bounds.value, _fields_of)
        except ValueFaultError as error:
            if not error.too_large:
                raise
            self._heavy = True
            raise ExceededError("value", str(error)) from None


def _fields_of(value: Any) -> Mapping[str, Any] | None:
    """What an instance holds, where that is data: predictions, and dataclasses of the source's."""
    if not isinstance(value, monty.MontyClassProxy):
        return None
    if value.name == "Prediction":
        return {name: item for name, item in value.attributes.items() if name != "_names"}
    return value.attributes if value.is_dataclass else None


def _crashed(error: monty.MontyCrashedError) -> ExceededError:
    if error.timed_out:
        return ExceededError("cpu_ms", "the source did not stop when its time was up")
    return ExceededError("memory", "the source broke the process that ran it")


def _failure(error: monty.MontyError, bounds: Bounds) -> FailedError | ExceededError:
    raised = error.exception()
    kind = type(raised).__name__
    message = str(raised)[:MOST_MESSAGE]
    line, column = _place(error)
    if kind == "TimeoutError" and "time limit exceeded" in message:
        return ExceededError("cpu_ms", f"the source ran longer than {bounds.cpu_ms} ms", line)
    if kind == "MemoryError":
        if f"> {bounds.output} bytes" in message:
            return ExceededError("output", f"printed more than {bounds.output} bytes", line)
        return ExceededError("memory", f"the source needs more than {bounds.memory} bytes", line)
    if kind == "RecursionError":
        return ExceededError("recursion", f"calls within calls, over {bounds.recursion}", line)
    if "suspension" in message and kind == "RuntimeError":
        return ExceededError("calls", "the source asked the host for too much", line)
    return FailedError(kind, message, line, column)


def _place(error: monty.MontyError) -> tuple[int | None, int | None]:
    """The innermost place in the source that the error went through."""
    if not isinstance(error, monty.MontyRuntimeError | monty.MontySyntaxError):
        return None, None
    frames = [frame for frame in error.traceback() if SOURCE_NAME.fullmatch(frame.filename)]
    # The first piece of source is our own prelude, where there is one.
    own = [frame for frame in frames if frame.filename != "<python-input-0>"] or frames
    return (own[-1].line, own[-1].column) if own else (None, None)
