"""One child process: a daemon whose host is this daemon.

The child is told the tenant's LMs, keys and all, over its pipe; the specs and examples it needs;
and then to optimize. It ends with its pipe, so it cannot outlive us.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bridge.client import DaemonExited, Port, RequestFailed
from bridge.priority import give_way
from protocol.errors import WorkerDied, error_from_wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.hostlink import HostLink
    from bridge.log import Log
    from bridge.specs.lms import LMSpec, LMTable
    from protocol import Event

__all__ = ["Child", "Orders"]

SETUP_SECONDS = 60.0
"""For importing DSPy on a machine that is busy with other runs."""

ASK_AGAIN_SECONDS = 0.05
"""Between two requests to stop: the child may not have begun the run when the first arrives."""

ENVIRONMENT = {"TQDM_DISABLE": "1"}
"""Progress goes to the host as events; bars would only fill its console."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a child is told: requests in order, the last one being the run itself.

    `host` is the way to the host for what the run asks of it. `ends` is when the run's time is
    over, in `time.monotonic` seconds, and `ends_by` what set it: starting the child counts.
    """

    lms: LMTable
    lm: LMSpec | str | None
    adapter: dict[str, Any]
    specs: dict[str, Any]
    arguments: dict[str, Any]
    limits: dict[str, int]
    host: HostLink
    ends: float | None = None
    ends_by: Literal["budget", "deadline"] = "deadline"


class Child:
    """A run's process. `run` blocks its thread; the other methods may be called meanwhile."""

    def __init__(self, log: Log) -> None:
        self._log = log
        argv = [sys.executable, "-m", "bridge", "--worker", "--drain-ms", "1"]
        self._port = Port([*argv, "--log-level", log.level], env=ENVIRONMENT)
        give_way(self.pid)
        self._begun = threading.Event()
        self._stopping = False
        self._host: HostLink | None = None

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._port.process.pid

    def run(self, orders: Orders, on_progress: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Carry the orders out and give the run's result.

        Raises:
            WorkerDied: the process ended first.
            BridgeError: what the child answered.
        """
        try:
            return self._run(orders, on_progress)
        except DaemonExited as error:
            raise WorkerDied(
                f"the run's process ended with status {error.status}; `resume` goes on from there",
                status=error.status,
            ) from error
        except TimeoutError as error:
            raise WorkerDied(
                f"the run's process was not ready within {SETUP_SECONDS:.0f} s", status=None
            ) from error
        except RequestFailed as error:
            raise error_from_wire(error.error) from error

    def _run(self, orders: Orders, on_progress: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        port = self._port

        def hear(event: Event) -> None:
            if event.event == "progress":
                on_progress(event.data)
            elif event.event == "log":
                self._log.relay(event.data, run_id=orders.arguments["run_id"])

        port.on_event = hear
        port.on_call = lambda call: orders.host.relay(call, port)
        port.on_cancel_call = lambda cancel: orders.host.withdraw(port, cancel.call)
        self._host = orders.host
        port.hello()
        port.call("configure", _configuration(orders), timeout=SETUP_SECONDS)
        port.call("import", orders.specs, timeout=SETUP_SECONDS)
        arguments = dict(orders.arguments)
        if orders.ends is not None:
            left = max(0.0, orders.ends - time.monotonic())
            if orders.ends_by == "budget":
                arguments["budget"] = {**arguments["budget"], "seconds": left}
            else:
                arguments["seconds"] = left
        lm = orders.lm if orders.lm is None or isinstance(orders.lm, str) else orders.lm.whole()
        envelope: dict[str, Any] = {} if lm is None else {"lm": lm}
        answer = port.send("optimize", arguments, **envelope)
        self._run_id = arguments["run_id"]
        self._begun.set()
        # The daemon tells its own host what the request used.
        return {key: value for key, value in answer.result().items() if key != "_meta"}

    def stop(self) -> None:
        """Ask the run to end with its best so far, as soon as it has begun. Returns at once."""
        if not self._stopping:
            self._stopping = True
            threading.Thread(target=self._stop, name="stop", daemon=True).start()

    def _stop(self) -> None:
        port = self._port
        while port.process.returncode is None:
            if self._begun.wait(ASK_AGAIN_SECONDS):
                try:
                    if port.call("run_stop", {"run_id": self._run_id})["stopping"]:
                        return
                except (DaemonExited, RequestFailed, TimeoutError, OSError, ValueError):
                    # It has ended by itself.
                    return
                time.sleep(ASK_AGAIN_SECONDS)

    def kill(self) -> None:
        """End the process at once; `run` then raises WorkerDied."""
        self._port.process.kill()

    def close(self) -> None:
        """Make sure that the process is gone; what it has answered is all that it had to say."""
        self._port.kill()
        self._port.release()
        if self._host is not None:
            self._host.withdraw(self._port)


def _configuration(orders: Orders) -> dict[str, Any]:
    args: dict[str, Any] = {
        "lms": {name: spec.whole() for name, spec in orders.lms.named.items()},
        "limits": orders.limits,
        **orders.adapter,
    }
    if orders.lms.default is not None:
        args["lm"] = orders.lms.default.whole()
    return args
