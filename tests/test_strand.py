"""Strands: who waits holds no thread, and what is waited for is awaited in one context."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from bridge.strand import Strand, Wait, drive
from bridge.turnstile import turnstile

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.turnstile import Ticket

PATIENCE = 30.0
name: ContextVar[str] = ContextVar("name")


class Door(Wait):
    """A wait that a test ends."""

    __slots__ = ("holds", "parked")

    def __init__(self) -> None:
        super().__init__()
        self.parked: list[Ticket] = []
        self.holds = 0

    def hold(self) -> None:
        self.holds += 1
        self.came = True

    def park(self, ticket: Ticket) -> None:
        self.parked.append(ticket)

    def open(self) -> None:
        self.came = True
        turnstile.call_in(self.parked.pop())


def on_a_thread(job: Callable[[], None]) -> None:
    threading.Thread(target=job, daemon=True).start()


def test_who_waits_holds_no_thread_and_goes_on_where_it_stood():
    doors = [Door() for _ in range(100)]
    went: list[int] = []
    over = threading.Event()

    async def walk(number: int) -> None:
        assert await doors[number]
        assert turnstile.is_inside
        went.append(number)
        if len(went) == len(doors):
            over.set()

    before = threading.active_count()
    for number in range(len(doors)):
        Strand(walk(number), on_a_thread).go_on()
    assert threading.active_count() == before
    assert not turnstile.is_inside
    for door in doors:
        door.open()
    assert over.wait(PATIENCE)
    assert sorted(went) == list(range(len(doors)))


def test_a_strand_keeps_its_own_context_across_its_waits():
    doors = {"one": Door(), "two": Door()}
    found: dict[str, str] = {}
    over = threading.Barrier(3)

    async def walk(called: str) -> None:
        token = name.set(called)
        await doors[called]
        found[called] = name.get()
        name.reset(token)
        over.wait(PATIENCE)

    for called in doors:
        Strand(walk(called), on_a_thread).go_on()
    assert name.get("nobody") == "nobody"
    for door in doors.values():
        on_a_thread(door.open)
    over.wait(PATIENCE)
    assert found == {"one": "one", "two": "two"}


def test_what_is_driven_waits_on_its_thread_and_gives_its_value():
    door = Door()

    async def walk() -> tuple[bool, str]:
        return await door, threading.current_thread().name

    assert drive(walk()) == (True, threading.current_thread().name)
    assert (door.holds, door.parked) == (1, [])


def test_what_a_driven_coroutine_raises_is_raised():
    async def walk() -> None:
        await Door()
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        drive(walk())


def test_who_awaits_what_is_no_wait_of_ours_is_told_so():
    class Foreign:
        def __await__(self) -> Any:
            yield "a future of somebody else's"

    said: list[str] = []

    async def walk() -> None:
        try:
            await Foreign()
        except TypeError as error:
            said.append(str(error))

    drive(walk())  # type: ignore[arg-type]
    Strand(walk(), on_a_thread).go_on()  # type: ignore[arg-type]
    assert len(said) == 2
    assert all("str" in text for text in said)
