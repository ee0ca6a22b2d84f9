"""Work over items on several threads: results in order, each item in a copy of the context.

Law: the caller's thread works as well, so there is always one. The others take places of which the
whole process has a fixed number: a hundred batches at once make no thousands of threads, and the
places of one that ends go to those that have items left.
"""

from __future__ import annotations

import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Generic, TypeVar

from bridge.turnstile import turnstile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MOST_THREADS", "Places", "in_parallel"]

MOST_THREADS = 1_024
"""As many as the requests that may run at once have by default; 50 KiB each while it waits."""

T = TypeVar("T")
R = TypeVar("R")


class Places:
    """A number of threads that may be. Any thread."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """Places that nobody has."""
        return self._free

    def take(self, wanted: int) -> int:
        """Take as many places as there are, at most `wanted`."""
        with self._lock:
            taken = max(0, min(wanted, self._free))
            self._free -= taken
        return taken

    def give(self, count: int) -> None:
        """Give places back."""
        with self._lock:
            self._free += count


places = Places(MOST_THREADS)
"""Those of this process."""


def in_parallel(
    work: Callable[[T], R], items: Sequence[T], at_most: int, name: str = "parallel"
) -> list[R]:
    """`work` of each item, in the order of the items.

    Args:
        work: is called inside the turnstile, in a copy of the caller's context.
        items: begun in their order.
        at_most: items at once; fewer when the process has no place for more threads.
        name: of the threads.

    Raises:
        BaseException: the first failure in the order of the items, once those that had begun have
            ended; no item begins after a failure.
    """
    return _Batch(work, items, at_most, name).run()


class _Batch(Generic[T, R]):
    """One call of `in_parallel`."""

    def __init__(self, work: Callable[[T], R], items: Sequence[T], at_most: int, name: str) -> None:
        self._work = work
        self._items = items
        self._name = name
        self._most_helpers = min(at_most, len(items)) - 1
        self._context = copy_context()
        self._results: dict[int, R] = {}
        self._failures: dict[int, BaseException] = {}
        self._begun = 0
        self._helpers = 0
        self._changed = threading.Condition()

    def run(self) -> list[R]:
        """The results, or the first failure."""
        self._work_on()
        with turnstile.outside(), self._changed:
            while self._helpers:
                self._changed.wait()
        if self._failures:
            raise min(self._failures.items())[1]
        return [self._results[number] for number in range(len(self._items))]

    def _work_on(self) -> None:
        """Take items until none is left, and help for them while there is a place."""
        while (number := self._next()) is not None:
            self._find_help()
            try:
                with turnstile.inside():
                    result = self._context.copy().run(self._work, self._items[number])
                self._results[number] = result
            except BaseException as error:  # noqa: BLE001 - `run` raises it
                with self._changed:
                    self._failures[number] = error

    def _next(self) -> int | None:
        with self._changed:
            if self._failures or self._begun == len(self._items):
                return None
            self._begun += 1
            return self._begun - 1

    def _find_help(self) -> None:
        with self._changed:
            left = len(self._items) - self._begun
            wanted = min(self._most_helpers - self._helpers, left)
            found = places.take(wanted) if wanted > 0 else 0
            self._helpers += found
        for started in range(found):
            try:
                threading.Thread(target=self._help, name=self._name, daemon=True).start()
            except RuntimeError:
                # The system has no thread to spare; those that there are do the work.
                self._leave(found - started)
                return

    def _help(self) -> None:
        try:
            self._work_on()
        finally:
            self._leave(1)

    def _leave(self, count: int) -> None:
        places.give(count)
        with self._changed:
            self._helpers -= count
            self._changed.notify_all()
