"""HTML as values: what is not `Html` is text, and is escaped where it is put in.

Only `el`, `join`, `document` and `inline_css` make `Html`, and tag and attribute names are
identifiers of this package's source, so nothing that came from a run can become markup.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Html", "clean", "document", "el", "inline_css", "join"]

VOID = frozenset({"meta", "br"})
"""Elements without an end tag."""

FORBIDDEN = (*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF)
"""What HTML does not take as characters: controls, NUL among them, and lone surrogates."""

OVERRIDES = (0x202D, 0x202E)
"""These make text read as something else than it says; text of any script does without them."""

UNSHOWABLE = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*FORBIDDEN, *OVERRIDES)
    if chr(code) not in "\t\n"
}


@dataclass(frozen=True, slots=True)
class Html:
    """Markup that is safe to put in as it is."""

    markup: str


def clean(text: str) -> str:
    """The text with newlines as line feeds, and a replacement for what must not be shown."""
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(UNSHOWABLE)


def el(tag: str, /, *children: Html | str | None, **attributes: str | float | bool | None) -> Html:
    """An element.

    Args:
        tag: its name.
        children: `Html` as it is, text escaped, None left out.
        attributes: `class_` is `class`, `aria_label` is `aria-label`; True is an attribute without
            a value, None and False are none.
    """
    said = "".join(_attribute(key, value) for key, value in attributes.items())
    if tag in VOID:
        return Html(f"<{tag}{said}>")
    return Html(f"<{tag}{said}>{join(children).markup}</{tag}>")


def join(parts: Iterable[Html | str | None], between: str = "") -> Html:
    """Parts one after the other, with text in between."""
    told = [
        part.markup if isinstance(part, Html) else escape(clean(part))
        for part in parts
        if part is not None
    ]
    return Html(escape(between).join(told))


def document(*children: Html, lang: str) -> str:
    """A whole document."""
    return f"<!doctype html>\n{el('html', *children, lang=lang).markup}\n"


def inline_css(css: str) -> Html:
    """A style element; `css` is this package's own."""
    if "<" in css:
        raise ValueError("a style sheet that could end its own element")
    return Html(f"<style>{css}</style>")


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(clean(str(value)))}"'
