"""The host's functions that the daemon may call, each call on a thread of its own.

As an Elixir host runs each call in a task: a slow function delays nobody else's.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from bridge.client.port import DaemonExited, RequestFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.client.port import Port
    from protocol import HostCall

__all__ = ["HostFunctions"]


class HostFunctions:
    """Answers the calls of one daemon.

    Args:
        port: its daemon; ``on_call`` becomes this.
    """

    def __init__(self, port: Port) -> None:
        self._port = port
        self._functions: dict[tuple[str, str], Callable[[HostCall], Any]] = {}
        port.on_call = self

    def add(self, target: str, name: str, function: Callable[[HostCall], Any]) -> None:
        """Let `function` answer calls of this target and name; what it raises is the error."""
        self._functions[target, name] = function

    def __call__(self, call: HostCall) -> None:
        """Answer `call`, from another thread."""
        threading.Thread(target=self._answer, args=(call,), name="host-call", daemon=True).start()

    def _answer(self, call: HostCall) -> None:
        function = self._functions.get((call.target, call.name))
        if function is None:
            said = f"no {call.target} {call.name!r} is registered"
            self._port.answer(call.call, error={"code": "not_found", "message": said})
            return
        try:
            self._port.answer(call.call, result=function(call))
        except RequestFailed as failed:
            # What failed further down keeps its code on the way up.
            self._port.answer(call.call, error=failed.error)
        except DaemonExited:
            return
        except Exception as error:  # noqa: BLE001 - whatever it was, the daemon waits for a word
            said = f"{type(error).__name__}: {error}"
            self._port.answer(call.call, error={"code": "host_error", "message": said})
