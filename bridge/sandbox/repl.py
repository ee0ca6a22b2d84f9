"""Source that comes piece by piece, from an LM: what one piece binds, the next one finds.

Between two pieces the session is written down and holds no worker, because an LM is asked then.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bridge.sandbox.sandbox import sandbox
from bridge.specs.source.reading import MOST_SOURCE
from protocol.errors import ProgramError, SandboxLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.sandbox.monty import Called, Seat, Turn
    from bridge.sandbox.workers import Session

__all__ = ["Outcome", "Repl", "SubmittedError"]


class SubmittedError(Exception):
    """Raised by what answers calls: the source has given its final value, and ends here."""

    def __init__(self, value: Any) -> None:
        super().__init__("submitted")
        self.value = value


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a piece of source did.

    Attributes:
        value: of its last expression; None for a statement.
        printed: what it printed.
        submitted: the final value, in a list, if it gave one.
    """

    value: Any
    printed: str
    submitted: list[Any] | None = None


class Repl:
    """One session. One thread at a time.

    Args:
        check: raises when the request is over.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._bounds = sandbox.bounds
        self._image: bytes | None = None
        self._calls = 0

    def run(
        self,
        source: str,
        variables: Mapping[str, Any],
        answer: Callable[[str, list[Any], dict[str, Any]], Any],
    ) -> Outcome:
        """Run a piece of source.

        Args:
            source: a piece.
            variables: bound before.
            answer: answers calls of names that nobody bound; LookupError makes a NameError of it.

        Raises:
            SyntaxError: it is no Python.
            ProgramError: it raised; what it had bound until then stays.
            SandboxLimit: it used more than it may; what it had bound is gone.
        """
        from bridge.sandbox.errors import answer_of  # noqa: PLC0415 - imports the engine
        from bridge.sandbox.monty import ExceededError, FailedError  # noqa: PLC0415
        from bridge.sandbox.values import ValueFaultError  # noqa: PLC0415

        if len(source) > MOST_SOURCE:
            raise ProgramError(f"code: {len(source)} characters, at most {MOST_SOURCE}")
        with sandbox.session(self._bounds, self._check, self._image) as session:
            try:
                outcome = self._to_the_end(session, source, variables, answer)
            except ExceededError as error:
                raise answer_of(error, source, "code") from None
            except (FailedError, ValueFaultError) as error:
                self._image = session.image()
                if isinstance(error, FailedError) and error.kind == "SyntaxError":
                    raise SyntaxError(str(answer_of(error, source, "code"))) from None
                raise answer_of(error, source, "code") from None
            self._image = session.image()
            return outcome

    def _to_the_end(
        self,
        session: Session,
        source: str,
        variables: Mapping[str, Any],
        answer: Callable[[str, list[Any], dict[str, Any]], Any],
    ) -> Outcome:
        from bridge.sandbox.monty import Called, Ended, FailedError  # noqa: PLC0415

        turn = session.start(source, variables)
        while not isinstance(turn, Ended):
            self._check()
            if not isinstance(turn, Called):
                raise FailedError("RuntimeError", "awaits what will never come", None, None)
            try:
                turn = self._called(session, turn, answer)
            except SubmittedError as error:
                return Outcome(None, self._ended(session), [error.value])
        return Outcome(turn.value, session.printed)

    def _called(
        self,
        session: Session,
        turn: Called,
        answer: Callable[[str, list[Any], dict[str, Any]], Any],
    ) -> Turn:
        self._calls += 1
        if self._calls > self._bounds.calls:
            raise SandboxLimit(f"code: calls more than {self._bounds.calls} times", bound="calls")
        try:
            with session.waiting():
                said = answer(turn.name, turn.args, turn.named)
        except LookupError:
            refused = partial(_refuse, "NameError", f"name '{turn.name}' is not defined")
            return session.turn(refused)
        except SubmittedError:
            raise
        except Exception as error:  # noqa: BLE001 - the source may catch it, and the LM reads it
            return session.turn(partial(_refuse, "RuntimeError", str(error)[:2_000]))
        return session.turn(lambda seat: seat.answer(said))

    def _ended(self, session: Session) -> str:
        """Unwind the source from where it stands, as if it had raised; what it printed."""
        from bridge.sandbox.monty import ExceededError, FailedError  # noqa: PLC0415
        from bridge.sandbox.values import ValueFaultError  # noqa: PLC0415

        try:
            session.turn(partial(_refuse, "SystemExit", "submitted"))
        except (FailedError, ExceededError, ValueFaultError):
            return session.printed
        # It caught that as well. What it would do next nobody wants to know.
        return session.printed


def _refuse(kind: str, message: str, seat: Seat) -> Turn:
    return seat.refuse(kind, message)
