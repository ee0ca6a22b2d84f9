"""The server in a process of its own, driven over its `/control` paths."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Self

_ROOT = Path(__file__).resolve().parents[2]


class LMServerProcess:
    """`python -m tests.lm_server`, started and ended with a `with`; dies with this process."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.port = 0

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.lm_server", "--until-stdin-closes"]
        self._process = subprocess.Popen(
            [*command, *self._arguments],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.port = json.loads(self._process.stdout.readline())["port"]
        return self

    def __exit__(self, *_: object) -> None:
        # Closes its stdin, which is what it waits for.
        self._process.communicate(timeout=10)

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:<port>`, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def stats(self) -> dict[str, Any]:
        """All counts of the server."""
        return self._control("stats")

    def requests(self) -> list[dict[str, Any]]:
        """The requests it remembers, without headers and bodies."""
        outlines: list[dict[str, Any]] = self._control("requests")["requests"]
        return outlines

    def set_behaviour(self, model: str, behaviour: str) -> None:
        """Let a model do as `behaviour` says, whatever its name says, until `reset`."""
        self._control("behaviour", {"model": model, "behaviour": behaviour})

    def script(self, model: str, *texts: str) -> None:
        """Let the next well-formed replies of a model have exactly these texts, one each."""
        self._control("script", {"model": model, "texts": texts})

    def reset(self) -> None:
        """Forget requests, counts, attempts, behaviours set and scripts."""
        self._control("reset", {})

    def _control(self, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.base_url}/control/{name}", data, timeout=10) as reply:
            result: dict[str, Any] = json.load(reply)
            return result
