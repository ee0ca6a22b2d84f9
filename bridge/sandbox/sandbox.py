"""The sandbox of this process: its limits, its workers, and what it says of itself in `hello`.

Importing this costs nothing; the first run of given source starts the workers.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bridge.sandbox.bounds import Bounds
from bridge.sandbox.jail import why_not
from bridge.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridge.sandbox.workers import Session, Workers

__all__ = ["Sandbox", "sandbox"]

ENGINE = "pydantic-monty"

MOST_IMAGES = 512
"""Sessions kept with a prelude in them, about 15 KB each: as many as there are built programs."""


class Sandbox:
    """Any thread."""

    def __init__(self) -> None:
        self._limits = Limits()
        self._bounds = Bounds.of(self._limits)
        self._workers: Workers | None = None
        self._lock = threading.Lock()
        self._images: dict[tuple[str, Bounds], bytes] = {}

    @property
    def bounds(self) -> Bounds:
        """The most that a run gets now."""
        return self._bounds

    def limit(self, limits: Limits) -> None:
        """Use these limits from now on; how many workers there are is settled by the first run."""
        self._limits = limits
        self._bounds = Bounds.of(limits)

    @contextmanager
    def session(
        self, bounds: Bounds, check: Callable[[], None], image: bytes | None = None
    ) -> Iterator[Session]:
        """A session in one of the workers; see `Workers.session`."""
        if self._workers is None:
            with self._lock:
                if self._workers is None:
                    from bridge.sandbox.workers import Workers  # noqa: PLC0415 - when needed

                    self._workers = Workers(self._limits)
        with self._workers.session(bounds, check, image) as session:
            yield session

    def image(self, prelude: str, bounds: Bounds, check: Callable[[], None]) -> bytes:
        """A session that has run `prelude`, kept: half of a small run would be running it."""
        key = (prelude, bounds)
        with self._lock:
            kept = self._images.get(key)
        if kept is None:
            with self.session(bounds, check) as session:
                session.start(prelude, {})
                kept = session.image()
            with self._lock:
                self._images[key] = kept
                if len(self._images) > MOST_IMAGES:
                    del self._images[next(iter(self._images))]
        return kept

    def about(self, version: str | None) -> dict[str, Any]:
        """``{engine, version, jailed, note?}``, for `hello`: the engine is not imported for it."""
        if version is None:
            note: str | None = f"{ENGINE} is not installed"
        else:
            note = why_not() if self._workers is None else self._workers.note
        about = {"engine": ENGINE, "version": version, "jailed": note is None}
        return about if note is None else {**about, "note": note}


sandbox = Sandbox()
"""The one of this process."""
