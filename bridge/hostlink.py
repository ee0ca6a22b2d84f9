"""The way to the host, as whatever works for a request sees it.

A tool, a metric, a retriever, an LM or a program's `forward` may live on the host. `Scope.ask_host`
asks through this; who carries the question is the serving layer's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from bridge.scope import Scope
    from protocol.messages import HostCall, Id

__all__ = ["Asker", "HostLink"]


class Asker(Protocol):
    """A process of ours that asks the host through us, as the port to it is used here."""

    def answer(self, call: Id, *, result: Any = None, error: Any = None) -> None:
        """Give it the host's answer."""

    def send(self, command: str, args: Any = None, **envelope: Any) -> Future[Any]:
        """Pass a request of the host's on to it."""


class HostLink(Protocol):
    """What one request causes goes to the host through one of these. Any thread."""

    def ask(
        self,
        scope: Scope,
        target: str,
        name: str,
        args: dict[str, Any],
        *,
        on_chunk: Callable[[str], None] | None = None,
        seconds: float | None = None,
    ) -> Any:
        """Call the host and wait; see `Scope.ask_host`."""

    def relay(self, call: HostCall, asker: Asker) -> None:
        """Pass a call of `asker`'s on; the answer goes back to it."""

    def withdraw(self, asker: Asker, call: Id | None = None) -> None:
        """Withdraw one relayed call of `asker`'s, or all of them."""
