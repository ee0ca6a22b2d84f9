"""The command line: argv to settings, settings to `serve`; `demo` and `schema` beside it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["main"]

USAGE = """\
dspy-bridge is the Python half of an Erlang port: it waits for frames, not for a person.

  dspy-bridge demo             see it work: a two-hop question answerer over a small library
  dspy-bridge --framing lines  talk to it by hand: one JSON object a line, such as
                               {"id": 1, "command": "ping", "args": {"hello": "there"}}
  dspy-bridge report RUN.json  an optimizer run as one HTML page
  dspy-bridge schema           the JSON Schema of every command and error
  dspy-bridge --help           all options
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; does not return from the daemon."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        if os.isatty(0):
            sys.stderr.write(USAGE)
            raise SystemExit(os.EX_USAGE)
        _serve([])
    elif arguments[0] == "demo":
        from bridge.demo.twohop import main as demo  # noqa: PLC0415 - the daemon needs none of it

        raise SystemExit(demo(arguments[1:]))
    elif arguments[0] == "report":
        from bridge.report.command import main as report  # noqa: PLC0415

        raise SystemExit(report(arguments[1:]))
    elif arguments[0] == "schema":
        from bridge.commands.schema import main as schema  # noqa: PLC0415

        raise SystemExit(schema(arguments[1:]))
    else:
        _serve(arguments)


def _serve(arguments: Sequence[str]) -> None:
    from bridge.serving.serve import serve  # noqa: PLC0415 - `schema` and `demo` need no loop
    from bridge.settings import Limits, Settings  # noqa: PLC0415

    if not arguments:
        serve(Settings())
    options = _parser().parse_args(arguments)
    limits = Limits(
        max_frame=options.max_frame,
        max_concurrent=options.max_concurrent,
        drain_ms=options.drain_ms,
        sandbox_workers=options.sandbox_workers,
    )
    serve(
        Settings(
            framing=options.framing,
            fds=options.fds,
            log_level=options.log_level,
            limits=limits,
            worker=options.worker,
            state_dir=options.state_dir,
        )
    )


def _parser() -> argparse.ArgumentParser:
    import argparse  # noqa: PLC0415 - a daemon without options need not wait for them
    from pathlib import Path  # noqa: PLC0415

    from bridge.settings import Limits  # noqa: PLC0415

    bounds = Limits()
    parser = argparse.ArgumentParser(
        prog="dspy-bridge",
        description="Real DSPy behind an Erlang port. Also: dspy-bridge demo, report, schema.",
    )
    parser.add_argument(
        "--framing",
        choices=("packet", "lines"),
        default="packet",
        help="packet: {packet, 4}, as ports have it (default); lines: one JSON object a line",
    )
    parser.add_argument(
        "--fds",
        type=_fds,
        default=(0, 1),
        metavar="IN,OUT",
        help="descriptors of the connection (default 0,1); 3,4 for Erlang's nouse_stdio",
    )
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="warning",
        help="least level that is written to standard error (default warning)",
    )
    parser.add_argument(
        "--max-frame",
        type=_positive,
        default=bounds.max_frame,
        metavar="BYTES",
        help=f"largest payload (default {bounds.max_frame})",
    )
    parser.add_argument(
        "--max-concurrent",
        type=_positive,
        default=bounds.max_concurrent,
        metavar="N",
        help=f"requests that run at once (default {bounds.max_concurrent})",
    )
    parser.add_argument(
        "--drain-ms",
        type=_positive,
        default=bounds.drain_ms,
        metavar="MS",
        help=f"after end of input, time for requests to finish (default {bounds.drain_ms})",
    )
    parser.add_argument(
        "--sandbox-workers",
        type=_positive,
        default=bounds.sandbox_workers,
        metavar="N",
        help=f"processes that run given source (default {bounds.sandbox_workers})",
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="where optimizer runs are kept (default: dspy-bridge/runs in the user's state dir)",
    )
    # The daemon starts its runs with this; it is nobody else's to say.
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def _fds(text: str) -> tuple[int, int]:
    from argparse import ArgumentTypeError  # noqa: PLC0415 - as above

    parts = text.split(",")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts) or parts[0] == parts[1]:
        raise ArgumentTypeError(f"{text!r} is not two descriptors, such as 3,4")
    for part in parts:
        try:
            os.fstat(int(part))
        except (OSError, OverflowError):
            raise ArgumentTypeError(f"descriptor {part} is not open") from None
    return int(parts[0]), int(parts[1])


def _positive(text: str) -> int:
    from argparse import ArgumentTypeError  # noqa: PLC0415 - as above

    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    main()
