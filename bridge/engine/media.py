"""What the wire carries of DSPy's own types: maps with known keys, and no way to a file or host.

DSPy's constructors take more than that (paths, arrays, bare strings, a download flag); nothing but
the forms here reaches them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FORMS", "Form", "read_media"]


@dataclass(frozen=True, slots=True)
class Form:
    """The map of one type. `text` is whether its text may stand alone."""

    required: tuple[str, ...]
    example: str
    optional: tuple[str, ...] = ()
    text: bool = False


FORMS: dict[str, Form] = {
    "image": Form(("url",), '{"url": "https://…" or "data:image/png;base64,…"}'),
    "audio": Form(("data", "audio_format"), '{"data": base64, "audio_format": "wav"}'),
    "file": Form(
        (),
        '{"file_data": "data:…;base64,…", "filename"?} or {"file_id"}',
        optional=("file_data", "file_id", "filename"),
    ),
    "history": Form(("messages",), '{"messages": [{field: value}]}'),
    "code": Form(("code",), 'text, or {"code": text}', text=True),
    "reasoning": Form(("content",), 'text, or {"content": text}', text=True),
}

_SCHEMES = ("https://", "http://", "gs://", "data:")

_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w.+=-]+)*;base64,")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")

AUDIO_FORMATS = ("wav", "mp3")
"""What DSPy's requests carry."""


def read_media(name: str, value: Any) -> Any:
    """`value` if it is a form of the type `name`; raises ValueError that says what would be."""
    form = FORMS[name]
    if form.text and isinstance(value, str):
        return value
    known = {*form.required, *form.optional}
    if (
        not isinstance(value, dict)
        or not known.issuperset(value)
        or any(key not in value for key in form.required)
        or not value
    ):
        raise ValueError(f"{name} is {form.example}")
    given = {key: item for key, item in value.items() if item is not None}
    texts = known - {"messages"}
    if any(not isinstance(item, str) for key, item in given.items() if key in texts):
        raise ValueError(f"{name} is {form.example}")
    if name in _CHECKS:
        _CHECKS[name](given)
    return given


# What DSPy would find only while it writes the request, and not as the host's mistake. The value is
# left out of what is said: it may be a path or a secret of the host's.


def _check_image(given: dict[str, str]) -> None:
    url = given.get("url", "")
    if not url.startswith(_SCHEMES):
        raise ValueError(f"the url of an image starts with one of {', '.join(_SCHEMES)}")
    if url.startswith("data:") and not _is_data_url(url):
        raise ValueError("the url of an image is no data:…/…;base64,… with valid base64")


def _check_audio(given: dict[str, str]) -> None:
    if given.get("audio_format") not in AUDIO_FORMATS:
        raise ValueError(f"the audio_format is one of {', '.join(AUDIO_FORMATS)}")
    if not _is_base64(given.get("data", "")):
        raise ValueError("the data of audio is not valid base64")


def _check_file(given: dict[str, str]) -> None:
    if ("file_data" in given) == ("file_id" in given):
        raise ValueError(f"a file has one of file_data and file_id: {FORMS['file'].example}")
    if "file_data" in given and not _is_data_url(given["file_data"]):
        raise ValueError("the file_data of a file is no data:…/…;base64,… with valid base64")


_CHECKS: dict[str, Callable[[dict[str, str]], None]] = {
    "image": _check_image,
    "audio": _check_audio,
    "file": _check_file,
}


def _is_data_url(text: str) -> bool:
    head = _DATA_URL.match(text)
    return head is not None and _is_base64(text[head.end() :])


def _is_base64(text: str) -> bool:
    packed = "".join(text.split())
    return len(packed) % 4 == 0 and _BASE64.fullmatch(packed) is not None
