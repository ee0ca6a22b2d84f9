"""The measurements, each a function that gives its figures. Times are milliseconds, sizes MB.

Ratios are taken inside one run, round by round, because machines are noisy: the median of the
rounds' ratios is the figure.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

from bench.lean_port import LeanPort
from bridge.client import Port
from tests.lm_server import LMServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

ECHO = {"lm": {"provider": "embedded", "model": "echo"}}
MODULE = {"id": "qa", "type": "predict", "signature": "question -> answer"}
FORWARD = {"module_id": "qa", "inputs": {"question": "What is the capital of France?"}}


def start(rounds: int = 7) -> dict[str, float]:
    """Spawn to first reply, spawn to `ready`, and resident memory then."""
    replies, readies, sizes = [], [], []
    for _ in range(rounds):
        begun = time.perf_counter()
        with LeanPort() as port:
            port.call("hello")
            replies.append(1000 * (time.perf_counter() - begun))
            port.wait_ready()
            readies.append(1000 * (time.perf_counter() - begun))
            sizes.append(port.call("stats")["rss"] / 1e6)
    return {
        "hello_ms": statistics.median(replies),
        "ready_ms": statistics.median(readies),
        "rss_ready_mb": statistics.median(sizes),
    }


def overhead(rounds: int = 9, calls: int = 200) -> dict[str, float]:
    """Sequential forwards through the bridge over the same calls of DSPy itself, instant LM."""
    direct = _direct_call()
    with LeanPort() as port:
        port.call("hello")
        port.wait_ready()
        port.call("configure", ECHO)
        port.call("create_module", MODULE)

        def bridged() -> None:
            port.call("forward", FORWARD)

        _median_us(direct, calls)
        _median_us(bridged, calls)
        pairs = [(_median_us(direct, calls), _median_us(bridged, calls)) for _ in range(rounds)]
        ping = _median_us(lambda: port.call("ping"), 1000)
    return {
        "direct_us": statistics.median(pair[0] for pair in pairs),
        "bridge_us": statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(pair[1] / pair[0] for pair in pairs),
        "ping_us": ping,
    }


def burst(requests: int) -> dict[str, float]:
    """That many forwards at once at an HTTP LM of 200 ms, pings in between."""
    with LMServerProcess("--keep", "0") as server, Port() as port:
        port.hello()
        port.wait_ready()
        port.call(
            "configure",
            {
                "lm": {
                    "provider": "local",
                    "model": "m+slow-200",
                    "base_url": f"{server.base_url}/v1",
                }
            },
        )
        port.call("create_module", MODULE)
        port.call("forward", FORWARD)
        pings: list[float] = []
        done = threading.Event()

        def ping() -> None:
            while not done.is_set():
                begun = time.perf_counter()
                port.call("ping")
                pings.append(1000 * (time.perf_counter() - begun))
                done.wait(0.002)

        pinging = threading.Thread(target=ping)
        begun = time.perf_counter()
        futures = [port.send("forward", FORWARD) for _ in range(requests)]
        pinging.start()
        for future in futures:
            future.result(120)
        wall = 1000 * (time.perf_counter() - begun)
        done.set()
        pinging.join()
        stats = port.call("stats")
    pings.sort()
    return {
        "wall_ms": wall,
        "ping_p50_ms": pings[len(pings) // 2],
        "ping_p99_ms": pings[int(len(pings) * 0.99)],
        "rss_mb": stats["rss"] / 1e6,
    }


def growth(forwards: int = 20_000, warm: int = 1_000) -> dict[str, float]:
    """Resident memory over that many forwards, after some to fill the history."""
    with Port() as port:
        port.hello()
        port.wait_ready()
        port.call("configure", ECHO)
        port.call("create_module", MODULE)
        _pipelined(port, warm)
        before = port.call("stats")["rss"] / 1e6
        begun = time.perf_counter()
        _pipelined(port, forwards)
        seconds = time.perf_counter() - begun
        after = port.call("stats")["rss"] / 1e6
    return {"before_mb": before, "grown_mb": after - before, "forwards_per_s": forwards / seconds}


def payload(megabytes: int = 10) -> dict[str, float]:
    """A text of that size to `ping` and back."""
    text = "x" * (megabytes * 1_000_000)
    with LeanPort() as port:
        port.call("hello")
        port.wait_ready()
        port.call("ping", {"text": text})
        figures = [_median_us(lambda: port.call("ping", {"text": text}), 1) for _ in range(7)]
    return {"echo_ms": statistics.median(figures) / 1000}


def _pipelined(port: Port, count: int, at_once: int = 16) -> None:
    for begun in range(0, count, at_once):
        futures = [port.send("forward", FORWARD) for _ in range(min(at_once, count - begun))]
        for future in futures:
            future.result(60)


def _median_us(call: Callable[[], Any], count: int) -> float:
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return 1e6 * statistics.median(times)


def _direct_call() -> Callable[[], Any]:
    """DSPy itself with the same LM, as its users write it."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import dspy
    from dspy.lm15 import Message, Response, TextPart, Usage

    from bridge.engine.embedded import answer
    from bridge.engine.lms.providers import messages_of

    class Echo:
        def complete(self, request: Any) -> Any:
            text = answer(messages_of(request), model="echo")
            message = Message.assistant([TextPart(text)])
            usage = Usage(input_tokens=1, output_tokens=1)
            return Response("1", "embedded/echo", message, "stop", usage)

    dspy.configure(lm=dspy.LM("embedded/echo", engine=Echo(), cache=False))
    predict = dspy.Predict("question -> answer")
    return lambda: predict(question=FORWARD["inputs"]["question"])
