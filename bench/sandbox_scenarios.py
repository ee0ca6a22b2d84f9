"""What source costs: over a call without it, and when thousands of programs wait at once."""

from __future__ import annotations

import statistics
import threading
import time
from typing import Any

from bench.lean_port import LeanPort
from bench.scenarios import DAEMON, ECHO, FORWARD, MODULE
from bridge.client import Port

ONE_MODULE = {
    "id": "one",
    "modules": [{"id": "qa", "name": "qa"}],
    "forward_fn": "result = self.qa(question=question)",
}
CALLS = 5
PARKED = {
    "id": "parked",
    "modules": [{"id": "qa", "name": "qa"}],
    "forward_fn": (
        "seen = []\n"
        f"for hop in range({CALLS}):\n"
        "    seen.append(self.qa(question=question + str(hop)).answer)\n"
        "result = {'seen': seen}"
    ),
}


def source_overhead(rounds: int = 9, calls: int = 100) -> dict[str, float]:
    """A program of one module over a forward of that module, one after the other."""
    with LeanPort() as port:
        port.call("hello")
        port.wait_ready()
        port.call("configure", ECHO)
        port.call("create_module", MODULE)
        port.call("create_program", ONE_MODULE)
        execute = {"program_id": "one", "inputs": FORWARD["inputs"]}
        _median_ms(port, "execute", execute, calls)
        pairs = [
            (
                _median_ms(port, "forward", FORWARD, calls),
                _median_ms(port, "execute", execute, calls),
            )
            for _ in range(rounds)
        ]
    return {
        "forward_ms": statistics.median(direct for direct, _ in pairs),
        "source_ms": statistics.median(source for _, source in pairs),
        "overhead_ms": statistics.median(source - direct for direct, source in pairs),
    }


def parked_programs(
    programs: int = 2_000, latency_ms: int = 50, workers: int = 2
) -> dict[str, float]:
    """That many programs in flight on that many workers, each calling its LM five times."""
    options = ["--max-concurrent", str(programs), "--sandbox-workers", str(workers)]
    with Port([*DAEMON, *options]) as port:
        port.hello()
        port.wait_ready()
        lm = {"provider": "embedded", "model": "echo", "config": {"latency_ms": latency_ms}}
        port.call("configure", {"lm": lm, "limits": {"default_deadline_ms": 3_600_000}})
        port.call("create_module", MODULE)
        port.call("create_program", PARKED)
        port.call("execute", {"program_id": "parked", "inputs": {"question": "warm "}})
        pings: list[float] = []
        most = [0.0]
        done = threading.Event()
        watching = threading.Thread(target=_watch, args=(port, pings, most, done))
        begun = time.perf_counter()
        futures = [
            port.send("execute", {"program_id": "parked", "inputs": {"question": f"{n} "}})
            for n in range(programs)
        ]
        watching.start()
        wrong = 0
        for number, future in enumerate(futures):
            seen = future.result(1_800)["seen"]
            wrong += seen != [f"{number} {hop}" for hop in range(CALLS)]
        wall = time.perf_counter() - begun
        done.set()
        watching.join()
    pings.sort()
    return {
        "wall_s": wall,
        "turns_per_s": programs * CALLS / wall,
        "wrong": float(wrong),
        "rss_mb": most[0],
        "ping_p50_ms": pings[len(pings) // 2],
        "ping_p99_ms": pings[int(len(pings) * 0.99)],
    }


def _watch(port: Port, pings: list[float], most: list[float], done: threading.Event) -> None:
    """Ping all the time, and note how large the daemon becomes."""
    while not done.is_set():
        begun = time.perf_counter()
        port.call("ping")
        pings.append(1000 * (time.perf_counter() - begun))
        if len(pings) % 50 == 1:
            most[0] = max(most[0], port.call("stats")["rss"] / 1e6)
        done.wait(0.005)


def _median_ms(port: Any, command: str, args: dict[str, Any], calls: int) -> float:
    times = []
    for _ in range(calls):
        begun = time.perf_counter()
        port.call(command, args)
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)
