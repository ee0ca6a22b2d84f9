"""What the wire carries of DSPy's own types: maps with known keys, and no way to a file or host.

DSPy's constructors take more than that (paths, arrays, bare strings, a download flag); nothing but
the forms here reaches them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    if name == "image" and not given.get("url", "").startswith(_SCHEMES):
        # The value itself is left out: it may be a path or a secret of the host's.
        raise ValueError(f"the url of an image starts with one of {', '.join(_SCHEMES)}")
    return given
