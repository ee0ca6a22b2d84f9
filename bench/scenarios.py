"""The measurements, each a function that gives its figures. Times are milliseconds, sizes MB.

Ratios are taken inside one run, round by round, because machines are noisy: the median of the
rounds' ratios is the figure.
"""

from __future__ import annotations

import compileall
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.lean_port import LeanPort
from bridge.client import Port
from tests.lm_server import LMServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
ECHO = {"lm": {"provider": "embedded", "model": "echo"}}
DAEMON = (sys.executable, "-m", "bridge")
MODULE = {"id": "qa", "type": "predict", "signature": "question -> answer"}
FORWARD = {"module_id": "qa", "inputs": {"question": "What is the capital of France?"}}


def start(rounds: int = 7) -> dict[str, float]:
    """Spawn to first reply, spawn to `ready`, and resident memory then; with compiled files.

    Beside them, a Python that does nothing.
    """
    for package in ("bridge", "protocol"):
        # As an installation leaves them, whatever the environment says of writing any.
        compileall.compile_dir(ROOT / package, quiet=1)
    bare, replies, readies, sizes = [], [], [], []
    for _ in range(rounds):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare.append(1000 * (time.perf_counter() - begun))
        begun = time.perf_counter()
        with LeanPort() as port:
            port.call("hello")
            replies.append(1000 * (time.perf_counter() - begun))
            port.wait_ready()
            readies.append(1000 * (time.perf_counter() - begun))
            sizes.append(port.call("stats")["rss"] / 1e6)
    return {
        "bare_ms": statistics.median(bare),
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
    """That many forwards at once at an HTTP LM of 200 ms, pings in between.

    The ratio is over plain DSPy, with a thread and a connection a call.
    """
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
        plain = _plain_burst(server, requests)
    pings.sort()
    return {
        "wall_ms": wall,
        "plain_ms": plain,
        "ratio": wall / plain,
        "ping_p50_ms": pings[len(pings) // 2],
        "ping_p99_ms": pings[int(len(pings) * 0.99)],
        "rss_mb": stats["rss"] / 1e6,
    }


def _plain_burst(server: LMServerProcess, requests: int) -> float:
    """Milliseconds of the same calls by DSPy's own engine, as a program in Python would have it."""
    import dspy
    from dspy._vendor.lm15.transports import StdlibTransport
    from dspy.clients.engines.lm15_engine import LM15Engine
    from dspy.lm15 import RouterConfig

    config = RouterConfig(
        api_keys={"openai-chat": "key"},
        base_urls={"openai-chat": f"{server.base_url}/v1"},
        # Its own 100 connections would have the calls wait in rows.
        transport=StdlibTransport(max_connections=4096),
    )
    lm = dspy.LM("openai/m+slow-200", engine=LM15Engine(config), cache=False)
    predict = dspy.Predict("question -> answer")
    question = FORWARD["inputs"]["question"]

    def ask(_: int) -> Any:
        with dspy.context(lm=lm, trace=[], disable_history=True):
            return predict(question=question).answer

    ask(0)
    with ThreadPoolExecutor(requests) as pool:
        begun = time.perf_counter()
        answers = list(pool.map(ask, range(requests)))
        wall = 1000 * (time.perf_counter() - begun)
    assert len(answers) == requests
    return wall


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


def during_run(latency_ms: int = 0, rounds: int = 5, seconds: float = 3.0) -> dict[str, float]:
    """Forwards with and without an optimizer run in progress, both at an LM of that latency.

    A run's start counts: it imports DSPy in a process of its own. With no latency the LM is the
    embedded one, and the run computes all the time.
    """
    with tempfile.TemporaryDirectory() as state, LMServerProcess("--keep", "0") as server:
        lm = _lm(server, latency_ms)
        run_lm = lm if latency_ms else {"provider": "embedded", "model": "lexical"}
        with Port([*DAEMON, "--state-dir", state]) as port:
            port.hello()
            port.wait_ready()
            port.call("configure", {"lm": lm, "lms": {"run": run_lm}})
            port.call("create_module", MODULE)
            at_once = 8 if latency_ms else 1
            _latencies(port, at_once, seconds / 3)
            pairs = [_with_and_without(port, at_once, seconds, n) for n in range(rounds)]
    return {
        "alone_p50_ms": statistics.median(_at(alone, 0.5) for alone, _ in pairs),
        "alone_p99_ms": statistics.median(_at(alone, 0.99) for alone, _ in pairs),
        "run_p50_ms": statistics.median(_at(busy, 0.5) for _, busy in pairs),
        "run_p99_ms": statistics.median(_at(busy, 0.99) for _, busy in pairs),
        "p50_ratio": statistics.median(_at(b, 0.5) / _at(a, 0.5) for a, b in pairs),
        "p99_ratio": statistics.median(_at(b, 0.99) / _at(a, 0.99) for a, b in pairs),
    }


def evaluation(rows: int = 1_000, latency_ms: int = 100, in_flight: int = 64) -> dict[str, float]:
    """One `evaluate` of that many rows at an HTTP LM; rows must come back in order."""
    devset = [{"question": f"question {n}", "answer": f"m: question {n}"} for n in range(rows)]
    args = {"module_id": "qa", "devset": devset, "metric": "f1_score", "max_concurrency": in_flight}
    with LMServerProcess("--keep", "0") as server, Port() as port:
        port.hello()
        port.wait_ready()
        port.call("configure", {"lm": _lm(server, latency_ms)})
        port.call("create_module", MODULE)
        port.call("evaluate", {**args, "devset": devset[:in_flight]})
        walls = []
        for _ in range(3):
            begun = time.perf_counter()
            result = port.call("evaluate", args, timeout=120)
            walls.append(time.perf_counter() - begun)
            assert [row["example"] for row in result["rows"]] == devset
            assert result["errors"] == 0
    floor = latency_ms / 1000 * -(-rows // in_flight)
    return {"wall_s": statistics.median(walls), "floor_s": floor}


def _lm(server: LMServerProcess, latency_ms: int) -> dict[str, Any]:
    if not latency_ms:
        return ECHO["lm"]
    model = f"m+slow-{latency_ms}"
    return {"provider": "local", "model": model, "base_url": f"{server.base_url}/v1"}


def _with_and_without(
    port: Port, at_once: int, seconds: float, number: int
) -> tuple[list[float], list[float]]:
    """Sorted latencies of forwards, first alone and then beside a run."""
    alone = _latencies(port, at_once, seconds)
    run_id = f"run-{number}"
    rows = [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(100)]
    port.call(
        "optimize",
        {
            "optimizer": "BootstrapFewShotWithRandomSearch",
            "module_id": "qa",
            "trainset": rows,
            "metric": "f1_score",
            "config": {"num_candidate_programs": 10_000},
            "run_id": run_id,
            "detach": True,
            "keep": "new",
        },
        lm="run",
    )
    busy: list[float] = []
    row: dict[str, Any] = {"progress": {}}
    # Half of the time the run computes, however long its start takes.
    while not row["progress"].get("lm_calls"):
        busy += _latencies(port, at_once, seconds / 2)
        row = port.call("run_get", {"run_id": run_id})
        assert row["status"] == "running", row["error"]
    busy += _latencies(port, at_once, seconds / 2)
    busy.sort()
    port.call("run_stop", {"run_id": run_id})
    while port.call("run_get", {"run_id": run_id})["status"] == "running":
        time.sleep(0.05)
    return alone, busy


def _latencies(port: Port, at_once: int, seconds: float) -> list[float]:
    """Sorted milliseconds of forwards, that many at once, for that long."""
    times: list[float] = []
    ends = time.perf_counter() + seconds

    def ask() -> None:
        while (begun := time.perf_counter()) < ends:
            port.call("forward", FORWARD)
            times.append(1000 * (time.perf_counter() - begun))

    threads = [threading.Thread(target=ask) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(times)


def _at(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


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

    from bridge.embedded.answering import answer
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
