"""What is imported after the handshake, in the background: codecs, commands, and then DSPy."""

from __future__ import annotations

import gc
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from bridge.turnstile import turnstile
from protocol import load_quick_codecs

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.commands.desk import Desk
    from bridge.engine.runtime import Engine
    from bridge.ledger import Ledger
    from bridge.serving.loop import Loop
    from bridge.serving.requests import Requests
    from bridge.settings import Settings

__all__ = ["Loading"]

YOUNG_OBJECTS = 10_000
"""Between two garbage collections. A thousand calls in flight are a million objects, and Python's
700 would have it look through some of them at every second call. What a call leaves is mostly
freed without one. Five times as many are looked through in a time that a ping would feel."""

YOUNG_COLLECTIONS = 50
"""Until those are looked at that were alive then: mostly calls that are in flight still."""


class Loading:
    """The state of the imports. `engine` may be waited for from any thread but the loop's."""

    def __init__(self, loop: Loop, settings: Settings) -> None:
        self._loop = loop
        self._settings = settings
        self._engine: Engine | None = None
        self._failure: BaseException | None = None
        self._done = threading.Event()
        self._begun = False
        self.seconds: float | None = None
        self.on_desk: Callable[[Desk, type[Requests]], None] = lambda _, __: None
        """Called on the loop's thread, which imports nothing itself."""
        self.on_engine: Callable[[Engine], None] = lambda _: None
        self.on_failure: Callable[[BaseException], None] = lambda _: None

    @property
    def ready(self) -> bool:
        """Whether DSPy is imported."""
        return self._engine is not None

    def begin(self) -> None:
        """Start importing; later calls do nothing."""
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._load, name="loading", daemon=True).start()

    def engine(self) -> Engine:
        """The engine, once DSPy is imported; raises what the import raised."""
        if self._engine is None:
            with turnstile.outside():
                self._done.wait()
        if self._engine is None:
            raise self._failure or RuntimeError("the import of DSPy gave nothing")
        return self._engine

    def _load(self) -> None:
        begun = time.monotonic()
        try:
            load_quick_codecs()
            from bridge.commands.desk import Desk  # noqa: PLC0415
            from bridge.serving.requests import Requests  # noqa: PLC0415

            desk = Desk(self._settings)
            self._call(self.on_desk, desk, Requests)
            engine = self._import_engine(desk.ledger)
        except BaseException as error:  # noqa: BLE001 - whatever it was, the daemon cannot work
            self._failure = error
            self._done.set()
            self._call(self.on_failure, error)
            return
        self.seconds = time.monotonic() - begun
        self._call(self.on_engine, engine)

    def settle(self, engine: Engine) -> None:
        """Let those who wait for the engine have it, now that it is set up."""
        self._engine = engine
        self._done.set()

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        self._loop.call_soon_threadsafe(function, *args)

    def _import_engine(self, ledger: Ledger) -> Engine:
        # Otherwise the first call fetches a price list from the network and waits 5 s for it.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        gc.disable()  # 750 modules make garbage collection a fifth of the import
        try:
            from bridge.engine.runtime import Engine  # noqa: PLC0415

            return Engine(ledger, self._settings.limits)
        finally:
            gc.enable()
            gc.freeze()
            gc.set_threshold(YOUNG_OBJECTS, YOUNG_COLLECTIONS, 10)
