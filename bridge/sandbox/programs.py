"""Source that is the way of a program: it calls modules by name, in turns with us.

A call of the source's is ours to make. It runs on the thread that runs the program (several at
once, where the source awaits several), and what it raises can be caught in the source. Two things
cannot: the end of the request, and a bound that is passed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from bridge.sandbox.prelude import CALL, CALL_LATER, program_prelude
from bridge.sandbox.sandbox import sandbox
from bridge.specs.source.check import GIVEN
from protocol.errors import BridgeError, ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.sandbox.monty import Called, Turn, Waits
    from bridge.sandbox.workers import Session
    from bridge.specs.source.check import Part, ProgramSource

__all__ = ["Lanes", "Program"]

MOST_WAITING = 256
"""Calls that a program may have begun and not had an answer to."""


UNBOUND_RESULT = "NameError: name 'result' is not defined"


class Lanes(Protocol):
    """Where calls run beside one another."""

    def begin(self, number: int, work: Callable[[], Any]) -> None:
        """Begin a call."""

    def ended(self) -> list[tuple[int, Any]]:
        """Wait until a call has ended; the numbers of those that have, with value or exception."""


class Program:
    """A program's source, ready to run. Any thread.

    Args:
        source: checked.
        asked: the bounds that its spec asks for.
    """

    def __init__(self, source: ProgramSource, asked: Mapping[str, int]) -> None:
        self._source = source
        self._asked = asked
        self._parts = {part.name: part for part in source.parts}
        self._prelude = program_prelude(source.parts)

    def run(
        self,
        inputs: Mapping[str, Any],
        call: Callable[[str, dict[str, Any]], Any],
        lanes: Lanes,
        *,
        check: Callable[[], None],
        say: Callable[[Exception], str],
    ) -> dict[str, Any]:
        """The output fields.

        Args:
            inputs: plain values by name.
            call: calls a module or tool by its name in the program.
            lanes: where calls run that the source awaits.
            check: raises when the request is over.
            say: what source that catches an exception reads of it.

        Raises:
            ProgramError: the source raised, or gave no output fields.
            SandboxLimit: it used more than it may.
            Exception: what a call raised, if the program died of it.
        """
        from bridge.sandbox.errors import answer_of  # noqa: PLC0415 - imports the engine
        from bridge.sandbox.monty import ExceededError, FailedError  # noqa: PLC0415
        from bridge.sandbox.values import ValueFaultError  # noqa: PLC0415

        source = self._source
        given = {**inputs, GIVEN: dict(inputs)}
        bounds = sandbox.bounds.within(self._asked)
        image = sandbox.image(self._prelude, bounds, check)
        text = f"{source.text}\n{source.last_line}\n"
        failure: Exception | None = None
        value: Any = None
        with sandbox.session(bounds, check, image) as session:
            run = _Run(session, self._parts, call, lanes, check, say)
            try:
                value = run.to_the_end(text, given)
            except (FailedError, ExceededError, ValueFaultError) as error:
                if source.binds_result and str(error) == UNBOUND_RESULT:
                    failure = ProgramError(
                        "forward_fn: ended without binding `result` and without a `return`"
                    )
                else:
                    kept = run.failures.get(str(error))
                    failure = kept or answer_of(error, source.text, "forward_fn")
        if failure is not None:
            # Raised here and not above, so that it holds nothing of what the source had.
            raise failure
        return _outputs(value)


@dataclass(slots=True)
class _Run:
    """One run of a program."""

    session: Session
    parts: Mapping[str, Part]
    call: Callable[[str, dict[str, Any]], Any]
    lanes: Lanes
    check: Callable[[], None]
    say: Callable[[Exception], str]
    failures: dict[str, Exception] = field(default_factory=dict)
    ended: dict[int, Any] = field(default_factory=dict)
    calls: int = 0
    waiting: int = 0

    def to_the_end(self, text: str, inputs: Mapping[str, Any]) -> Any:
        from bridge.sandbox.monty import Called, Ended  # noqa: PLC0415 - the engine

        turn = self.session.start(text, inputs)
        while not isinstance(turn, Ended):
            self.check()
            turn = self.called(turn) if isinstance(turn, Called) else self.settled(turn)
        return turn.value

    def called(self, turn: Called) -> Turn:
        if turn.name not in {CALL, CALL_LATER}:
            reason = f"name '{turn.name}' is not defined"
            return self.session.turn(lambda seat: seat.refuse("NameError", reason))
        self.count()
        later = turn.name == CALL_LATER
        try:
            name, given = self.wanted(turn)
        except _UnfitError as error:
            kind, reason = error.kind, str(error)
            return self.session.turn(lambda seat: seat.refuse(kind, reason))
        if later:
            self.waiting += 1
            self.lanes.begin(turn.number, lambda: self.call(name, given))
            return self.session.turn(lambda seat: seat.put_off())
        with self.session.waiting():
            raised, said = self.answered(lambda: self.call(name, given))
        if raised is None:
            return self.session.turn(lambda seat: seat.answer(said))
        return self.session.turn(lambda seat: seat.refuse(raised, said))

    def settled(self, turn: Waits) -> Turn:
        wanted = self.ended.keys() & turn.numbers
        while not wanted:
            if not self.waiting:
                raise ProgramError("forward_fn: waits for something that will never come")
            with self.session.waiting():
                ended = self.lanes.ended()
            self.waiting -= len(ended)
            self.ended.update(ended)
            wanted = self.ended.keys() & turn.numbers
        results = {
            number: self.answered(partial(_given, self.ended.pop(number)))
            for number in sorted(wanted)
        }
        return self.session.turn(lambda seat: seat.settle(results))

    def answered(self, work: Callable[[], Any]) -> tuple[str | None, Any]:
        """``(None, value)``, or the class and text of an exception that source may catch."""
        try:
            return None, work()
        except Exception as error:  # noqa: BLE001 - it is the source's now
            refused = isinstance(error, BridgeError) and "faults" in error.details
            kind = "ValueError" if refused else "RuntimeError"
            said = self.say(error)
            self.failures[f"{kind}: {said}"] = error
            return kind, said

    def count(self) -> None:
        from bridge.sandbox.monty import ExceededError  # noqa: PLC0415 - the engine

        self.calls += 1
        if self.calls > self.session.bounds.calls:
            raise ExceededError("calls", f"calls more than {self.session.bounds.calls} times")
        if self.waiting >= MOST_WAITING:
            raise ExceededError("calls", f"has more than {MOST_WAITING} calls open at once")

    def wanted(self, turn: Called) -> tuple[str, dict[str, Any]]:
        """Which part is called, and with what by name."""
        name, given, named = turn.args if len(turn.args) == 3 else (None, None, None)
        part = self.parts.get(name) if isinstance(name, str) else None
        if part is None or not isinstance(given, list) or not isinstance(named, dict):
            raise _UnfitError("AttributeError", "the program has no such module")
        if len(given) > part.positional:
            raise _UnfitError("TypeError", f"self.{name} takes its inputs by name")
        by_place = dict(zip(part.inputs, given, strict=False))
        twice = by_place.keys() & named.keys()
        if twice:
            raise _UnfitError("TypeError", f"self.{name} got {min(twice)!r} twice")
        return part.name, {**by_place, **named}


def _outputs(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    kind = "nothing" if value is None else f"a {type(value).__name__}"
    raise ProgramError(
        f"forward_fn: gave {kind} where a map of output fields is wanted, "
        "such as {'answer': …}, or a module's prediction"
    )


def _given(value: Any) -> Any:
    if isinstance(value, BaseException):
        raise value
    return value


class _UnfitError(Exception):
    """A call that cannot be made; `kind` is the exception that the source sees."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
