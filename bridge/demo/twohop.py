"""`dspy-bridge demo`: the seed's two-hop program, driven both ways through a real daemon.

First as an Elixir application would drive it, a `forward` a module, the program's way kept in the
host. Then as a program of the daemon's own, its way given as `steps`, over questions it has not
seen. Everything passes the port; nothing here imports DSPy.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
import time
from importlib import resources
from typing import TYPE_CHECKING, Any

from bridge.client import DaemonExited, Port, RequestFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

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

LESSONS = 3
"""Demonstrations of how short an answer is; the embedded LM imitates what it is shown."""

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
        with Port() as port:
            _run(port, options.lm, options.questions)
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
        "--questions", type=int, default=10, metavar="N", help="questions of the table"
    )
    return parser


def _run(port: Port, lm: str, count: int) -> None:
    begun = time.perf_counter()
    hello = port.hello()
    first = time.perf_counter() - begun
    server, dspy = hello["server"], hello["dspy"]
    print(
        f"dspy-bridge {server['version']} (pid {server['pid']}, Python {server['python']}, "
        f"DSPy {dspy['version']}) said hello after {1000 * first:.0f} ms"
    )
    corpus = load("corpus")
    port.call("configure", {"lm": {"model": lm}})
    search = {
        "id": "search",
        "type": "retrieve",
        "config": {"passages": [row["text"] for row in corpus], "k": 3},
    }
    for module in [*MODULES, search]:
        port.call("create_module", module)
    port.call("create_program", PROGRAM)
    print(f"{len(corpus)} passages, 3 modules, 1 program, LM {lm}\n")
    questions = load("questions")
    _by_hand(port, questions[0])
    heldout = [row for row in questions if row["split"] == "heldout"]
    train = [row for row in questions if row["split"] == "train"]
    _by_program(port, heldout[:count], train[2 : 2 + LESSONS])
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


def _by_program(port: Port, rows: list[dict[str, Any]], taught: list[dict[str, Any]]) -> None:
    """The program's way in the daemon: all questions at once, before and after a lesson."""
    print(f"execute: the daemon keeps the way as `steps`; {len(rows)} questions at once")
    begun = time.perf_counter()
    before = _execute_all(port, rows)
    seconds = time.perf_counter() - begun
    port.call("create_module", {**ANSWER, "state": {"demos": [_demonstration(r) for r in taught]}})
    after = _execute_all(port, rows)
    width = max(76, min(shutil.get_terminal_size((118, 24)).columns, 150))
    ask, say = width * 2 // 5, width * 2 // 5
    print(f"  {'question':<{ask}}  {'as it is':<{say}}  taught")
    for row, plain, learned in zip(rows, before, after, strict=True):
        question = textwrap.shorten(row["question"], ask, placeholder=" …")
        answer = textwrap.shorten(plain["answer"], say, placeholder=" …")
        mark = "" if _right(row, learned) else f"  (expected: {row['answer']})"
        print(f"  {question:<{ask}}  {answer:<{say}}  {learned['answer']}{mark}")
    found = sum(
        all(p in result["context"] for p in row["gold_passages"])
        for row, result in zip(rows, before, strict=True)
    )
    counts = [sum(map(_right, rows, results)) for results in (before, after)]
    print(
        f"\n  exactly right: {counts[0]} of {len(rows)} as it is, {counts[1]} of {len(rows)} after "
        f"{len(taught)} demonstrations in the module's state;"
        f"\n  both passages found for {found}; {seconds:.2f} s for all.\n"
    )


def _execute_all(port: Port, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    futures = [
        port.send("execute", {"program_id": "two_hop", "inputs": {"question": row["question"]}})
        for row in rows
    ]
    return [future.result(120) for future in futures]


def _demonstration(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "question": row["question"],
        "context": "\n".join(row["gold_passages"]),
        "reasoning": "The second passage tells it.",
        "answer": row["answer"],
        "confidence": 1.0,
    }


def _right(row: dict[str, Any], result: dict[str, Any]) -> bool:
    return bool(result["answer"].strip(". ").lower() == row["answer"].lower())


def _costs(port: Port) -> None:
    total = port.call("usage")["total"]
    memory = port.call("stats")["rss"] / 1e6
    cost = "no known price" if total["cost"] is None else f"${total['cost']:.4f}"
    print(
        f"{total['calls']} LM calls, {total['input_tokens']} tokens in, "
        f"{total['output_tokens']} out ({cost}); the daemon holds {memory:.0f} MB."
    )
