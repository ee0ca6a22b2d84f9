"""What the daemon says of itself: in `hello`, and in `stats`."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from bridge import __version__
from bridge.commands import catalogue
from bridge.sandbox.sandbox import sandbox
from bridge.specs.lm_providers import provider_names
from bridge.specs.optimizers import listing

if TYPE_CHECKING:
    from bridge.serving.admission import Admission
    from bridge.serving.inflight import InFlight
    from bridge.serving.loading import Loading
    from bridge.serving.workers import Workers
    from bridge.settings import Limits

__all__ = ["greeting_of", "health_of", "resident_bytes"]


def greeting_of(protocol: int, loading: Loading, limits: Limits) -> dict[str, Any]:
    """The result of `hello`."""
    return {
        "protocol": protocol,
        "server": {
            "name": "dspy-bridge",
            "version": __version__,
            "pid": os.getpid(),
            "python": ".".join(map(str, sys.version_info[:3])),
        },
        "dspy": {"version": _installed_version("dspy"), "ready": loading.ready},
        "commands": [name for names in catalogue.FAMILIES.values() for name in names],
        "modules": list(catalogue.MODULES),
        "optimizers": listing(),
        "metrics": list(catalogue.METRICS),
        "adapters": list(catalogue.ADAPTERS),
        "lm_providers": provider_names(),
        "limits": {
            "max_frame": limits.max_frame,
            "max_concurrent": limits.max_concurrent,
            "max_queued": limits.max_queued,
            "max_batch_concurrency": limits.max_batch_concurrency,
            "default_deadline_ms": limits.default_deadline_ms,
        },
        "sandbox": sandbox.about(_installed_version("pydantic_monty")),
        "codecs": ["json", "msgpack"],
    }


def health_of(
    *, since: float, loading: Loading, inflight: InFlight, admission: Admission, workers: Workers
) -> dict[str, Any]:
    """The part of `stats` that is about the process. Sizes are bytes, times seconds."""
    return {
        "rss": resident_bytes(),
        "uptime_s": time.monotonic() - since,
        "threads": threading.active_count(),
        "workers": workers.count,
        "in_flight": len(inflight),
        "running": admission.running,
        "queued": admission.queued,
        "queued_bytes": admission.queued_bytes,
        "dspy_ready": loading.ready,
        "dspy_import_s": loading.seconds,
    }


def resident_bytes() -> int:
    """Resident memory of this process."""
    try:
        with open("/proc/self/statm") as statm:  # noqa: PTH123 - as below
            pages = int(statm.read().split()[1])
    except OSError:
        import resource  # noqa: PLC0415 - for systems without /proc; the peak is the next best

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


def _installed_version(package: str) -> str | None:
    """The version that a package's metadata folder is named after.

    `importlib.metadata` would read the same at the price of half a handshake, and `pathlib` at
    that of a tenth.
    """
    begins, ends = f"{package}-", ".dist-info"
    for place in sys.path:
        try:
            names = os.listdir(place or ".")  # noqa: PTH208
        except OSError:
            continue
        for name in names:
            if name.startswith(begins) and name.endswith(ends):
                return name.removeprefix(begins).removesuffix(ends)
    return None
