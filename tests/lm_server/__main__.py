"""The server as a process: prints `{"port": …, "base_url": …, "pid": …}`, one line, and serves."""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import threading

from .server import LMServer


def main() -> None:
    """Serve until killed, or until stdin closes where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.lm_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--keep", type=int, default=1000, help="requests remembered (1000)")
    parser.add_argument("--gap-ms", type=float, default=0.0, help="between streamed pieces (0)")
    parser.add_argument("--until-stdin-closes", action="store_true")
    options = parser.parse_args()
    # Thousands of connections need more descriptors than the usual soft limit.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with LMServer(port=options.port, keep=options.keep, gap_s=options.gap_ms / 1000) as server:
        line = {"port": server.port, "base_url": server.base_url, "pid": os.getpid()}
        print(json.dumps(line), flush=True)
        if options.until_stdin_closes:
            sys.stdin.read()
        else:
            threading.Event().wait()


if __name__ == "__main__":
    main()
