"""`dspy-bridge report RUN.json`: read the file, write the page, say where it is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.report.page import page
from bridge.report.reading import NotARunError, read_run

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

MOST_BYTES = 256 * 1024 * 1024
"""Of the file: four of the largest frames; more is no run."""

WRONG = 2
"""Exit status when the file, or what was asked, is wrong; argparse has the same."""


def main(argv: Sequence[str]) -> int:
    """Write the report; the exit status: 0, or 2 with one line on standard error."""
    parser = argparse.ArgumentParser(
        prog="dspy-bridge report",
        description="Write an optimizer run as one HTML page that needs nothing but itself.",
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN.json", help="what `run_get` answers, saved to a file"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT.html",
        help="where the page goes (default: beside RUN.json, with .html instead)",
    )
    options = parser.parse_args(argv)
    source: Path = options.run
    try:
        written = page(read_run(_read(source))).encode()
    except NotARunError as error:
        return _refused(f"{source} {error}")
    except OSError as error:
        return _refused(f"{source} cannot be read: {error.strerror or error}")
    target: Path = options.output or source.with_suffix(".html")
    if target.exists() and target.samefile(source):
        return _refused(f"{target} is the run itself; name another file with -o")
    try:
        target.write_bytes(written)
    except OSError as error:
        return _refused(f"{target} cannot be written: {error.strerror or error}")
    return _told(f"{target} ({len(written) / 1000:,.0f} kB)\n")


def _read(source: Path) -> bytes:
    with source.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise NotARunError(f"is larger than {MOST_BYTES >> 20} MiB, which no run is")
    return data


def _told(message: str) -> int:
    # A file's name may hold bytes that the terminal's encoding has no character for.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(message.encode(encoding, "backslashreplace").decode(encoding))
    return 0


def _refused(message: str) -> int:
    sys.stderr.write(f"dspy-bridge report: {message}\n")
    return WRONG
