"""The daemon, with an embedded LM that prints all it can while it answers.

``python tests/noisy_daemon.py [options]``: every answer writes `LINES` lines each by `print`,
`os.write(1, …)`, a subprocess's `echo` and a progress bar, and tries to read standard input. An
answer whose reading found something says so instead.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bridge.__main__ import main
from bridge.embedded import answering

LINES = 100


def make_noise() -> None:
    from tqdm import tqdm  # type: ignore[import-untyped] # noqa: PLC0415 - only DSPy needs it

    for number in range(LINES):
        print(f"by print {number}")
        os.write(1, b"by os.write %d\n" % number)
    script = f"i=0; while [ $i -lt {LINES} ]; do echo by echo $i; i=$((i+1)); done"
    subprocess.run(["/bin/sh", "-c", script], check=True)
    # Twice as many: bars that overlap leave some of their steps out.
    for _ in tqdm(range(2 * LINES), desc="by tqdm", mininterval=0, miniters=1, file=sys.stdout):
        pass


def input_found() -> str:
    """What standard input gives, by every way to read it; nothing, if all is well."""
    found = [sys.stdin.read(), os.read(0, 100).decode()]
    with suppress(EOFError):
        found.append(input())
    child = subprocess.run(["/bin/cat"], capture_output=True, check=True)
    found.append(child.stdout.decode())
    return "".join(found)


def noisy(answer: Any) -> Any:
    def answer_noisily(messages: Sequence[Mapping[str, Any]], *, model: str) -> str:
        make_noise()
        found = input_found()
        return f"standard input held {found!r}" if found else answer(messages, model=model)

    return answer_noisily


if __name__ == "__main__":
    # Before the engine takes its own reference to it, which is when DSPy is imported.
    answering.answer = noisy(answering.answer)
    main()
