"""DSPy's adapters, which write the unchanging part of a prompt once instead of every time.

The system message follows from the signature alone and is a third of what formatting costs.
Prompts are the same to the byte; a test compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import dspy
from dspy.adapters.chat_adapter import field_header_pattern

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ADAPTERS", "ChatAdapter", "JSONAdapter", "TwoStepAdapter", "XMLAdapter"]


class _Remembered:
    """Remembers system messages by signature, and forgets them with it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._remembered: WeakKeyDictionary[Any, tuple[str | None, str]] = WeakKeyDictionary()

    def format_system_message(self, signature: Any) -> str:
        """The system message; asked anew when the signature's instructions were changed."""
        known = self._remembered.get(signature)
        if known is not None and known[0] == signature.__doc__:
            return known[1]
        text: str = super().format_system_message(signature)  # type: ignore[misc]
        self._remembered[signature] = (signature.__doc__, text)
        return text


class ChatAdapter(_Remembered, dspy.ChatAdapter):  # type: ignore[misc]
    """`dspy.ChatAdapter`, with a short way for inputs and outputs that are all text.

    DSPy builds a pydantic type adapter for every value that it writes; text needs none.
    """

    def format_user_message_content(
        self,
        signature: Any,
        inputs: dict[str, Any],
        prefix: str = "",
        suffix: str = "",
        main_request: bool = False,
    ) -> str:
        """The user's message: each input under its header, then what to answer with."""
        if not all(type(value) is str for value in inputs.values()):
            text: str = super().format_user_message_content(
                signature, inputs, prefix, suffix, main_request
            )
            return text
        parts = [prefix]
        parts += [f"[[ ## {k} ## ]]\n{inputs[k]}" for k in signature.input_fields if k in inputs]
        if main_request:
            required = self.user_message_output_requirements(signature)
            if required is not None:
                parts.append(required)
        parts.append(suffix)
        return "\n\n".join(parts).strip()

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        """The outputs that `completion` has; what DSPy raises where it lacks one.

        Only a whole reply whose outputs are all text is read here: DSPy asks the signature for
        its fields at every step, which copies them.
        """
        outputs = signature.output_fields
        if all(field.annotation is str for field in outputs.values()):
            said = _sections(completion)
            if outputs.keys() <= said.keys():
                return {name: said[name] for name in outputs}
        parsed: dict[str, Any] = super().parse(signature, completion)
        return parsed


def _sections(completion: str) -> dict[str, str]:
    """The text under each header; of two with one name the first counts."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in completion.splitlines():
        header = field_header_pattern.match(line.strip()) if "[[ ##" in line else None
        if header is None:
            lines.append(line)
            continue
        rest = line[header.end() :].strip()
        lines = [rest] if rest else []
        found.setdefault(header[1], lines)
    return {name: "\n".join(text).strip() for name, text in found.items()}


class JSONAdapter(_Remembered, dspy.JSONAdapter):  # type: ignore[misc]
    """`dspy.JSONAdapter`."""


class XMLAdapter(_Remembered, dspy.XMLAdapter):  # type: ignore[misc]
    """`dspy.XMLAdapter`."""


class TwoStepAdapter(dspy.TwoStepAdapter):  # type: ignore[misc]
    """`dspy.TwoStepAdapter` that `dspy.Refine` can use.

    Refine subclasses the class of the adapter in force and makes one without arguments, which
    only adds a hint and hands on to the adapter itself.
    """

    def __init__(self, extraction_model: Any = None) -> None:
        if extraction_model is not None:
            super().__init__(extraction_model)


ADAPTERS: dict[str, Callable[[], Any]] = {
    "chat": ChatAdapter,
    "json": JSONAdapter,
    "xml": XMLAdapter,
}
"""The adapters without arguments, by the names that `configure` takes."""
