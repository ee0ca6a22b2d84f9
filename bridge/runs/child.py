"""One child process: a daemon whose host is this daemon.

The child is told the tenant's LMs, keys and all, over its pipe; the specs and examples it needs;
and then to optimize. It ends with its pipe, so it cannot outlive us.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bridge.client import DaemonExited, Port, RequestFailed
from protocol.errors import WorkerDied, error_from_wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.specs.lms import LMSpec, LMTable

__all__ = ["Child", "Orders"]

SETUP_SECONDS = 60.0
"""For importing DSPy on a machine that is busy with other runs."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a child is told: requests in order, the last one being the run itself."""

    lms: LMTable
    lm: LMSpec | str | None
    adapter: dict[str, Any]
    specs: dict[str, Any]
    arguments: dict[str, Any]


class Child:
    """A run's process. `run` blocks its thread; the other methods may be called meanwhile."""

    def __init__(self, log_level: str) -> None:
        argv = [sys.executable, "-m", "bridge", "--worker", "--drain-ms", "1"]
        # DSPy's progress bars and remarks are for a person at a terminal; progress is events here.
        quiet = {} if log_level == "debug" else {"TQDM_DISABLE": "1"}
        self._port = Port([*argv, "--log-level", log_level], env=quiet)
        self._run_id: str | None = None

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._port.process.pid

    def run(self, orders: Orders, on_progress: Callable[[dict[str, Any]], None]) -> Any:
        """Carry the orders out and give the run's result.

        Raises:
            WorkerDied: the process ended first.
            BridgeError: what the child answered.
        """
        try:
            with self._port:
                return self._run(orders, on_progress)
        except DaemonExited as error:
            raise WorkerDied(
                f"the run's process ended with status {error.status}; `resume` goes on from there",
                status=error.status,
            ) from error
        except RequestFailed as error:
            raise error_from_wire(error.error) from error

    def _run(self, orders: Orders, on_progress: Callable[[dict[str, Any]], None]) -> Any:
        port = self._port
        port.on_event = lambda event: on_progress(event.data) if event.event == "progress" else None
        port.hello()
        port.call("configure", _configuration(orders), timeout=SETUP_SECONDS)
        port.call("import", orders.specs, timeout=SETUP_SECONDS)
        self._run_id = orders.arguments["run_id"]
        lm = orders.lm if orders.lm is None or isinstance(orders.lm, str) else orders.lm.whole()
        envelope: dict[str, Any] = {} if lm is None else {"lm": lm}
        return port.send("optimize", orders.arguments, **envelope).result()

    def stop(self) -> None:
        """Ask the run to end with its best so far; a child that is gone has ended already."""
        try:
            self._port.send("run_stop", {"run_id": self._run_id})
        except OSError:
            return

    def kill(self) -> None:
        """End the process at once; `run` then raises WorkerDied."""
        self._port.process.kill()


def _configuration(orders: Orders) -> dict[str, Any]:
    args: dict[str, Any] = {
        "lms": {name: spec.whole() for name, spec in orders.lms.named.items()},
        **orders.adapter,
    }
    if orders.lms.default is not None:
        args["lm"] = orders.lms.default.whole()
    return args
