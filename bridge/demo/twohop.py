"""`dspy-bridge demo`: the seed's two-hop program through a real daemon, and what it learns.

First driven as an Elixir application would drive it, a `forward` a module, the program's way kept
in the host. Then as a program of the daemon's own, its way given as `steps`: scored on questions it
has not seen, optimized on others, and scored again. Everything passes the port; nothing here
imports DSPy.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
import time
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bridge.client import DaemonExited, Port, RequestFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protocol import Event

__all__ = ["MODULES", "PROGRAM", "load", "main"]

ANSWER: dict[str, Any] = {
    "id": "generate_answer",
    "type": "chain_of_thought",
    "signature": {
        "instructions": "Answer the question from the context.",
        "inputs": [
            {"name": "question", "type": "string", "description": "the question to answer"},
            {"name": "context", "type": "string", "description": "passages that were found"},
        ],
        "outputs": [
            {"name": "answer", "type": "string", "description": "the answer"},
            {"name": "confidence", "type": "float", "description": "from 0 to 1"},
        ],
    },
}

MODULES: list[dict[str, Any]] = [
    {
        "id": "generate_query",
        "type": "predict",
        "signature": {
            "instructions": "Write a search query that finds what is still missing.",
            "inputs": [
                {"name": "question", "type": "string", "description": "the question to answer"},
                {"name": "context", "type": "string", "description": "what was found so far"},
            ],
            "outputs": [{"name": "query", "type": "string", "description": "words to look for"}],
        },
    },
    ANSWER,
]

HOP: list[dict[str, Any]] = [
    {"call": "generate_query"},
    {"call": "search"},
    {
        "let": {
            "context": {"concat": ["$context", "\n", {"join": "$search.passages", "with": "\n"}]}
        }
    },
]

PROGRAM: dict[str, Any] = {
    "id": "two_hop",
    "modules": [
        {"id": "generate_query", "name": "generate_query"},
        {"id": "search", "name": "search"},
        {"id": "generate_answer", "name": "generate_answer"},
    ],
    "steps": [
        {"let": {"context": ""}},
        {"repeat": 2, "do": HOP},
        {"call": "generate_answer"},
        {
            "output": {
                "answer": "$generate_answer.answer",
                "confidence": "$generate_answer.confidence",
                "context": "$context",
            }
        },
    ],
}


def load(name: str) -> list[dict[str, Any]]:
    """The rows of one of the demo's files: `corpus` or `questions`."""
    text = resources.files("bridge.demo").joinpath(f"{name}.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def main(argv: Sequence[str]) -> int:
    """Run the demo; the exit status."""
    options = _parser().parse_args(argv)
    try:
        with TemporaryDirectory() as directory:
            argv = [sys.executable, "-m", "bridge", "--state-dir", directory]
            with Port(argv) as port:
                _run(port, options)
    except RequestFailed as error:
        print(f"\nThe daemon answered with an error: {error}", file=sys.stderr)
        return 1
    except DaemonExited as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dspy-bridge demo", description=__doc__)
    parser.add_argument(
        "--lm",
        default="embedded/lexical",
        metavar="PROVIDER/MODEL",
        help="which LM answers (default: the bridge's own, which needs no key); keys come from "
        "the provider's environment variable, such as OPENAI_API_KEY",
    )
    parser.add_argument(
        "--optimizer", default="BootstrapFewShot", metavar="NAME", help="default BootstrapFewShot"
    )
    parser.add_argument(
        "--questions", type=int, default=18, metavar="N", help="held-out questions to score"
    )
    parser.add_argument(
        "--save", type=Path, metavar="RUN.json", help="keep the run for `dspy-bridge report`"
    )
    return parser


def _run(port: Port, options: argparse.Namespace) -> None:
    begun = time.perf_counter()
    hello = port.hello()
    first = time.perf_counter() - begun
    server, dspy = hello["server"], hello["dspy"]
    print(
        f"dspy-bridge {server['version']} (pid {server['pid']}, Python {server['python']}, "
        f"DSPy {dspy['version']}) said hello after {1000 * first:.0f} ms"
    )
    corpus, questions = load("corpus"), load("questions")
    port.call("configure", {"lm": {"model": options.lm}})
    search = {
        "id": "search",
        "type": "retrieve",
        "config": {"passages": [row["text"] for row in corpus], "k": 3},
    }
    for module in [*MODULES, search]:
        port.call("create_module", module)
    port.call("create_program", PROGRAM)
    print(f"{len(corpus)} passages, 3 modules, 1 program, LM {options.lm}\n")
    _by_hand(port, questions[0])
    heldout = [row for row in questions if row["split"] == "heldout"][: options.questions]
    before = _evaluate(port, heldout)
    run_id = _optimize(
        port, options.optimizer, [row for row in questions if row["split"] == "train"]
    )
    after = _evaluate(port, heldout)
    _compare(before, after)
    if options.save:
        run = port.call("run_get", {"run_id": run_id})
        options.save.write_text(json.dumps(run, ensure_ascii=False, indent=1), "utf-8")
        print(f"The run is in {options.save}: dspy-bridge report {options.save}")
    _costs(port)


def _by_hand(port: Port, row: dict[str, Any]) -> None:
    """The program's way in the host, as the seed's Elixir has it: five `forward`s."""
    print("forward: the host keeps the way and calls each module")
    print(f"  question  {row['question']}")
    context = ""
    for hop in (1, 2):
        inputs = {"question": row["question"], "context": context}
        query = port.call("forward", {"module_id": "generate_query", "inputs": inputs})["query"]
        found = port.call("forward", {"module_id": "search", "inputs": {"query": query}})
        print(f"  query {hop}   {query}")
        for passage in found["passages"]:
            print(f"            - {textwrap.shorten(passage, 88)}")
        context += "\n" + "\n".join(found["passages"])
    inputs = {"question": row["question"], "context": context}
    answer = port.call("forward", {"module_id": "generate_answer", "inputs": inputs})
    print(f"  answer    {answer['answer']}")
    print(f"  expected  {row['answer']}\n")


def _evaluate(port: Port, rows: list[dict[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = port.call(
        "evaluate", {"program_id": PROGRAM["id"], "devset": rows, "metric": "exact_match"}
    )
    return result


def _optimize(port: Port, optimizer: str, rows: list[dict[str, Any]]) -> str:
    """Optimize in a process of its own, with a bar where a person looks on; the run's id."""
    print(f"optimize: {optimizer} on {len(rows)} other questions, in a process of its own")
    bar = _Bar()
    port.on_event = bar.show
    result = port.call(
        "optimize",
        {
            "optimizer": optimizer,
            "program_id": PROGRAM["id"],
            "trainset": rows,
            "metric": "exact_match",
        },
        timeout=3600,
    )
    bar.clear()
    stats = result["stats"]
    demos = sum(len(demos or ()) for demos in result["module_demos"].values())
    print(
        f"  {result['status']} in {stats['seconds']:.1f} s with {stats['lm_calls']} LM calls: "
        f"{result['baseline_score']:.2f} before, {result['score']:.2f} after, on its own questions;"
        f"\n  learned {demos} demonstrations, which are now in the modules' state\n"
    )
    for warning in result.get("warnings") or ():
        print(f"  warning: {warning}")
    return str(result["run_id"])


class _Bar:
    """A line that changes, on a terminal only."""

    WIDTH = 30

    def __init__(self) -> None:
        self._shown = sys.stdout.isatty()

    def show(self, event: Event) -> None:
        """Draw a `progress` event."""
        if not self._shown or event.event != "progress":
            return
        data = event.data
        trial, trials = data.get("trial") or 0, data.get("trials") or 0
        filled = round(self.WIDTH * min(1.0, trial / trials)) if trials else 0
        best = data.get("best_score")
        score = "" if best is None else f"  best {best:.2f}"
        counted = f" {trial}/{trials}" if trials else ""
        line = f"  [{'#' * filled:<{self.WIDTH}}] {data.get('phase', '')}{counted}{score}"
        print(f"\r{line}  {data.get('lm_calls', 0)} LM calls".ljust(100), end="", flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            print("\r" + " " * 100 + "\r", end="", flush=True)


def _compare(before: dict[str, Any], after: dict[str, Any]) -> None:
    """The held-out questions side by side, as they were answered before and after."""
    print(f"evaluate: {before['total']} held-out questions, before and after")
    width = max(76, min(shutil.get_terminal_size((118, 24)).columns, 150))
    ask, say = width * 2 // 5, width * 2 // 5
    print(f"  {'question':<{ask}}  {'before':<{say}}  after")
    for old, new in zip(before["rows"], after["rows"], strict=True):
        question = textwrap.shorten(old["example"]["question"], ask, placeholder=" …")
        answer = textwrap.shorten(_answer(old), say, placeholder=" …")
        right = "" if new["score"] >= 1.0 else f"  (expected: {old['example']['answer']})"
        print(f"  {question:<{ask}}  {answer:<{say}}  {_answer(new)}{right}")
    print(
        f"\n  score {before['score']:.2f} before, {after['score']:.2f} after "
        f"({before['correct']} and {after['correct']} of {after['total']} exactly right)\n"
    )


def _answer(row: dict[str, Any]) -> str:
    if row["error"] is not None:
        return f"error: {row['error']['code']}"
    return str(row["prediction"]["answer"])


def _costs(port: Port) -> None:
    total = port.call("usage")["total"]
    memory = port.call("stats")["rss"] / 1e6
    cost = "no known price" if total["cost"] is None else f"${total['cost']:.4f}"
    print(
        f"{total['calls']} LM calls, {total['input_tokens']} tokens in, "
        f"{total['output_tokens']} out ({cost}); the daemon holds {memory:.0f} MB."
    )
