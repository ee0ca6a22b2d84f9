"""Who listens when an LM speaks: between the adapter that knows the fields and the host.

An adapter says how its answers are written (`expect`), the meter finds an `Ear` for the LM call
that follows (`listen`), and the adapter tells it in the end what it has read (`settle`). So what
the host has heard of a field that is a text is that text, whatever DSPy has had to repair.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from dspy.dsp.utils.settings import settings

from bridge.engine.conversion import plain
from bridge.engine.streaming.splitter import Verbatim
from bridge.scope import current_module, current_scope
from bridge.stream import Utterance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from bridge.engine.streaming.splitter import Said, Splitter
    from bridge.stream import Stream

__all__ = ["Ear", "expect", "expecting_text", "listen", "name_predictors", "reading", "settle"]

NAME = "name_on_the_wire"
"""The attribute of a predictor that holds its name within its module."""


class Reading:
    """What an adapter is about to read: how it is written, and what has been heard of it."""

    def __init__(self, make: Callable[[], Splitter]) -> None:
        self.make = make
        self.heard: deque[Ear] = deque()


_reading: ContextVar[Reading | None] = ContextVar("reading", default=None)


class Ear:
    """One LM call as the host hears it. Each attempt at it is heard from the beginning."""

    def __init__(self, stream: Stream, reading: Reading | None, model: str) -> None:
        self._stream = stream
        self._reading = reading
        self._model = model
        module = current_module.get()
        self._about = {
            "module_id": module.module_id if module is not None else None,
            "predictor": getattr(_caller(), NAME, None),
            "call": stream.begin_call(),
        }
        self._begin()
        if reading is not None:
            reading.heard.append(self)

    @property
    def hears(self) -> bool:
        """Whether anybody knows what is in the answer; else it need not come in pieces."""
        return self._reading is not None

    def begin(self, attempt: int) -> None:
        """An attempt begins; what was heard before is void."""
        self._begin()
        self._stream.status(
            {"status": "lm_start", **self._about, "model": self._model, "attempt": attempt}
        )

    def _begin(self) -> None:
        self._utterance = Utterance(self._stream, self._about)
        self._said: dict[str, list[str]] = {}
        self._splitter = self._reading.make() if self._reading is not None else None

    def hear(self, text: str) -> None:
        """The LM says more."""
        if self._splitter is not None:
            self._tell(self._splitter.feed(text))

    def end(self) -> None:
        """The LM has ended; wait until the host has room for all of it. Raises Stopped."""
        if self._splitter is not None:
            self._tell(self._splitter.finish())
        self._utterance.flush()

    def settle(self, values: Mapping[str, Any]) -> None:
        """`values` is what was read: say again what was heard otherwise. Raises Stopped."""
        for field, value in values.items():
            text = plain(value)
            if isinstance(text, str) and text != "".join(self._said.get(field, ())):
                self._utterance.begin_anew(field)
                self._utterance.say(field, text)
        self._utterance.flush()

    def _tell(self, sayings: Iterable[Said]) -> None:
        for field, text in sayings:
            if text is None:
                self._said.pop(field, None)
                self._utterance.begin_anew(field)
            else:
                self._said.setdefault(field, []).append(text)
                self._utterance.say(field, text)


def listen(model: str) -> Ear | None:
    """The ear for an LM call that begins; None when the request is not streamed."""
    stream = current_scope.get().stream
    return Ear(stream, _reading.get(), model) if stream is not None else None


class reading:  # noqa: N801 - used as a function is; as a generator it would cost twice as much
    """Within, one adapter asks an LM and reads its answer."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token = _reading.set(None)

    def __exit__(self, *_: object) -> None:
        _reading.reset(self._token)


def expect(make: Callable[[], Splitter]) -> None:
    """The next answer is written as the splitters that `make` makes expect it."""
    scope = current_scope.get(None)
    if scope is not None and scope.stream is not None:
        _reading.set(Reading(make))


def settle(values: Mapping[str, Any]) -> None:
    """An adapter has read these fields, in plain values or DSPy's, from the next answer heard."""
    current = _reading.get()
    if current is not None and current.heard:
        current.heard.popleft().settle(values)


@contextmanager
def expecting_text(field: str) -> Iterator[None]:
    """Within, an LM's whole answer is `field`."""
    with reading():
        expect(lambda: Verbatim(field))
        yield


def name_predictors(predictors: Mapping[str, Any]) -> None:
    """Let each predictor, and every copy of it, know its name within its module."""
    for name, predictor in predictors.items():
        setattr(predictor, NAME, name)


def _caller() -> Any:
    """The DSPy module that asks."""
    modules = settings.caller_modules
    return modules[-1] if modules else None
