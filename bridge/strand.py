"""Calls that have a thread only while they compute.

A strand is a coroutine that awaits nothing but the `Wait`s of ours. Between two of them it is a
job in the turnstile's queue like any other, so a thousand calls that wait for their LMs hold a
thousand coroutines, not a thousand threads. Whoever must stay on its thread, as DSPy's synchronous
code must, runs the same coroutine to its end with `drive`.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar

from bridge.turnstile import turnstile

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from bridge.turnstile import Ticket

__all__ = ["Strand", "Wait", "drive"]

T = TypeVar("T")


class Wait:
    """Something to wait for; awaiting it gives whether it came in time.

    Every wait has an end, and `park` sees to it that the ticket is called in by then.
    """

    __slots__ = ("came",)

    def __init__(self) -> None:
        self.came = False

    def __await__(self) -> Generator[Wait, None, bool]:
        yield self
        return self.came

    def hold(self) -> None:
        """Wait on this thread; must not raise."""
        raise NotImplementedError

    def park(self, ticket: Ticket) -> None:
        """Call `ticket` in when the wait is over; must not raise.

        Where nobody else can stand there, this thread has to.
        """
        self.hold()
        turnstile.call_in(ticket)


def drive(coroutine: Coroutine[Wait, None, T]) -> T:
    """What `coroutine` gives, waiting on this thread."""
    try:
        while True:
            _next_wait(coroutine).hold()
    except StopIteration as done:
        value: T = done.value
        return value


def _next_wait(coroutine: Coroutine[Wait, None, object]) -> Wait:
    """What `coroutine` waits for next; raise StopIteration at its end."""
    wait: object = coroutine.send(None)
    while not isinstance(wait, Wait):
        # It would be asyncio's, and nobody would ever call it back.
        wait = coroutine.throw(TypeError(f"a strand cannot wait for a {type(wait).__name__}"))
    return wait


class Strand:
    """One coroutine on its way, in a context of its own.

    Args:
        coroutine: what to do; must not raise.
        submit: gives a thread to what it takes; must not raise. Any thread calls it.
    """

    __slots__ = ("_context", "_coroutine", "_submit")

    def __init__(
        self, coroutine: Coroutine[Wait, None, None], submit: Callable[[Callable[[], None]], None]
    ) -> None:
        self._coroutine = coroutine
        self._submit = submit
        self._context = copy_context()

    def go_on(self) -> None:
        """Compute until the next wait, or the end."""
        with turnstile.inside():
            try:
                wait = self._context.run(_next_wait, self._coroutine)
            except StopIteration:
                return
            wait.park(turnstile.ticket_for(self.go_on, self._submit))
