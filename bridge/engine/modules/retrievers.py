"""`retrieve` modules: passages for a query, from an index of ours or from the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dspy

from bridge.retrieval import PassageIndex
from bridge.scope import current_scope
from protocol.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.specs.modules import ModuleSpec

__all__ = ["retriever"]


def retriever(spec: ModuleSpec) -> dspy.Module:
    """The module of a `retrieve` spec."""
    config: Any = spec.config
    if config.host is not None:
        return Retriever(_ask(config.host), config.k)
    index = PassageIndex(config.passages)
    return Retriever(lambda query, k: [found.text for found in index.search(query, k)], config.k)


class Retriever(dspy.Module):  # type: ignore[misc]
    """The k best passages for a query. No LM is asked."""

    def __init__(self, search: Callable[[str, int], list[str]], k: int) -> None:
        super().__init__()
        self._search, self._k = search, k

    def forward(self, query: str, config: Mapping[str, Any] | None = None) -> Any:  # noqa: ARG002
        """``passages``: texts, the best first."""
        return dspy.Prediction(passages=self._search(query, self._k))

    def __deepcopy__(self, memo: dict[int, Any]) -> Retriever:
        return self


def _ask(name: str) -> Callable[[str, int], list[str]]:
    def search(query: str, k: int) -> list[str]:
        found = current_scope.get().ask_host("retrieve", name, {"query": query, "k": k})
        if not isinstance(found, list):
            raise HostError(
                f"retrieve {name!r} answered {type(found).__name__} where a list of passages is "
                "wanted: strings, or maps with a 'text'"
            )
        return [_text(item, f"retrieve {name!r}", place) for place, item in enumerate(found[:k])]

    return search


def _text(item: Any, what: str, place: int) -> str:
    text = item.get("text") if isinstance(item, dict) else item
    if not isinstance(text, str):
        raise HostError(f"{what} answered no text at [{place}]: a string or a map with a 'text'")
    return text
