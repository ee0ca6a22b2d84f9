"""A page as a parser sees it: its elements with their attributes, texts and places."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

VOID = {"meta", "br"}

ACTIVE = {
    *("script", "iframe", "frame", "object", "embed", "applet", "link", "base", "form", "input"),
    *("button", "img", "image", "video", "audio", "source", "track", "use", "foreignobject"),
    *("animate", "set", "template", "portal", "noscript", "math"),
}
"""Elements that run, load or send something, or change how a parser reads on."""

ADDRESSES = {
    *("href", "src", "srcset", "action", "formaction", "data", "poster", "background", "ping"),
    *("cite", "longdesc", "manifest", "xlink:href", "xml:base", "srcdoc", "imagesrcset"),
}


@dataclass(eq=False)
class Element:
    tag: str
    attributes: dict[str, str | None]
    parent: Element | None
    children: list[Element | str] = field(default_factory=list)

    @property
    def classes(self) -> set[str]:
        return set((self.attributes.get("class") or "").split())

    @property
    def text(self) -> str:
        """What a person may read in it, with spaces in one form."""
        return " ".join("".join(self._pieces()).split())

    def _pieces(self) -> Iterator[str]:
        for child in self.children:
            if isinstance(child, str):
                yield child
            else:
                yield " "
                yield from child._pieces()
                yield " "

    def all(self, tag: str | None = None, kind: str | None = None) -> list[Element]:
        """Every element within, by tag or class, in order."""
        return [
            each
            for each in self._within()
            if (tag is None or each.tag == tag) and (kind is None or kind in each.classes)
        ]

    def _within(self) -> Iterator[Element]:
        waiting = [each for each in reversed(self.children) if isinstance(each, Element)]
        while waiting:
            element = waiting.pop()
            yield element
            waiting += [each for each in reversed(element.children) if isinstance(each, Element)]

    def one(self, tag: str | None = None, kind: str | None = None) -> Element:
        found = self.all(tag, kind)
        assert found, f"no {tag or 'element'} {kind or ''}"
        return found[0]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {}, None)
        self.here = self.root

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        element = Element(tag, dict(attrs), self.here)
        self.here.children.append(element)
        if tag not in VOID:
            self.here = element

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.here.tag, f"</{tag}> ends <{self.here.tag}>"
        assert self.here.parent is not None
        self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.children.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data!r}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data!r}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data!r}")


def outline(markup: str) -> Element:
    """The page's root; every element is ended where it should be."""
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    assert reader.here is reader.root, f"<{reader.here.tag}> is not ended"
    return reader.root


def assert_inert(markup: str) -> Element:
    """Nothing in the page runs, loads or leads out of it; its root."""
    root = outline(markup)
    for element in root.all():
        assert element.tag not in ACTIVE, element.tag
        assert element.tag != "style" or element.parent is root.one("head")
        for name, value in element.attributes.items():
            assert not name.startswith("on"), f"{element.tag} {name}"
            assert name != "style", f"{element.tag} {name}"
            assert name not in ADDRESSES or (value or "").startswith("#"), f"{name}={value!r}"
            if name == "http-equiv":
                assert value == "Content-Security-Policy"
    assert len(root.all("style")) == 1
    assert "url(" not in root.one("style").text
    assert "@import" not in root.one("style").text
    return root
