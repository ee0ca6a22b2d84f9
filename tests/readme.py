"""The README as data: its generated blocks, its fenced examples, its tables.

``python -m tests.readme`` writes the generated blocks again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bridge.commands.reference import BLOCKS
from bridge.commands.schema import document

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"

_FENCE = re.compile(
    r"(?:<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Fence:
    """A fenced example; `note` is the comment right above it, `line` where its text begins."""

    language: str
    body: str
    line: int
    note: str


def text() -> str:
    return README.read_text(encoding="utf-8")


def block(name: str, source: str) -> str:
    """What stands between the markers of a block; raises AttributeError without them."""
    return _between(name).search(source)["body"]  # type: ignore[index]


def refilled(source: str) -> str:
    """`source` with every generated block as it should be."""
    contract = document()
    for name, write in BLOCKS.items():
        fresh = "\n" + write(contract)
        source = _between(name).sub(lambda found: found[1] + fresh + found[3], source)  # noqa: B023
    return source


def fences(source: str, language: str = "") -> list[Fence]:
    """The fenced examples, of one language or of all."""
    return [
        Fence(
            found["language"],
            found["body"],
            source.count("\n", 0, found.start("body")) + 1,
            found["note"] or "",
        )
        for found in _FENCE.finditer(source)
        if language in {"", found["language"]}
    ]


def table(source: str, head: str) -> list[list[str]]:
    """The rows of the table whose first line is `head`, as cells; escaped bars are unescaped."""
    lines = source.partition(f"{head}\n")[2].splitlines()[1:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
        rows.append([cell.strip().replace("\\|", "|") for cell in cells])
    return rows


def _between(name: str) -> re.Pattern[str]:
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    return re.compile(f"({re.escape(begin)})(?P<body>.*?)({re.escape(end)})", re.DOTALL)


if __name__ == "__main__":
    README.write_text(refilled(text()), encoding="utf-8")
