"""What a run's LMs have answered, kept in a file so that a resumed run pays for nothing twice.

One JSON line a response: ``{"k": hash of the request, "r": response as plain data}``. The file is
only ever added to; a line that a dying process left unfinished is dropped. The n-th request of
equal content gets the n-th response that was recorded for it, in whatever order requests come.
No key and no credential is in the file; prompts are there as hashes, answers as they are.
"""

from __future__ import annotations

import os
import threading
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson
from dspy._vendor.lm15.serde import response_from_dict, response_to_dict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dspy.lm15 import Response

    from bridge.specs.lms import LMSpec

__all__ = ["LMRecord"]


class LMRecord:
    """The responses of one run. Any thread.

    Args:
        path: the file; made, for the owner's eyes only, when it is not there.
        mask: takes the secrets out of a line: an LM may repeat what it was sent. A mask is as long
            as what it covers.
    """

    def __init__(self, path: Path, mask: Callable[[bytes], bytes] | None = None) -> None:
        self._mask = mask
        self._lock = threading.Lock()
        self._kept: dict[bytes, list[bytes]] = {}
        self._asked: dict[bytes, int] = {}
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._file: int | None = file
        self.replayed = 0
        self._load(file)

    def replay(self, spec: LMSpec, canonical: bytes) -> Response | None:
        """The response to the next request like this; None when it has to be asked."""
        key = _key(spec, canonical)
        with self._lock:
            number = self._asked.get(key, 0)
            kept = self._kept.get(key, ())
            if number >= len(kept):
                return None
            self._asked[key] = number + 1
            self.replayed += 1
        return response_from_dict(orjson.loads(kept[number]))

    def keep(self, spec: LMSpec, canonical: bytes, response: Response) -> None:
        """Add a response that was paid for; it is on its way to disk when this returns."""
        plain = orjson.dumps(response_to_dict(response), option=orjson.OPT_NON_STR_KEYS)
        if self._mask is not None:
            plain = self._mask(plain)
        line = b'{"k":"%s","r":%s}\n' % (_key(spec, canonical).hex().encode(), plain)
        with self._lock:
            # What this process has been answered it does not replay to itself.
            if self._file is not None:
                os.write(self._file, line)

    def close(self) -> None:
        """Close the file; what a thread of DSPy's is still answered then is not kept."""
        with self._lock:
            file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _load(self, file: int) -> None:
        content = b""
        while chunk := os.read(file, 1 << 20):
            content += chunk
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            # The next line would be glued to the torn one.
            os.ftruncate(file, whole)
        for line in content[:whole].splitlines():
            entry = _entry(line)
            if entry is not None:
                self._kept.setdefault(entry[0], []).append(entry[1])


def _key(spec: LMSpec, canonical: bytes) -> bytes:
    # Not the credential: whoever resumes may have a new one.
    return sha256(f"{spec.name}\0{spec.base_url or ''}\0".encode() + canonical).digest()


def _entry(line: bytes) -> tuple[bytes, bytes] | None:
    """A line's key and response; None for a line that is damaged."""
    try:
        entry: Any = orjson.loads(line)
        response = orjson.dumps(entry["r"])
        response_from_dict(entry["r"])
        return bytes.fromhex(entry["k"]), response
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
