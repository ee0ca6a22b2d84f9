"""DSPy's adapters, which write the unchanging part of a prompt once instead of every time.

The system message follows from the signature alone and is a third of what formatting costs.
Prompts are the same to the byte; a test compares them. Each adapter also says how its answers are
to be taken apart while they come, and what it has read in the end, for a request that is streamed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import dspy
from dspy.adapters.chat_adapter import field_header_pattern
from dspy.utils.exceptions import AdapterParseError

from bridge.engine.streaming.chat_text import ChatText
from bridge.engine.streaming.json_text import JsonText
from bridge.engine.streaming.listening import expect, reading, settle
from bridge.engine.streaming.xml_text import XmlText

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.engine.streaming.splitter import Splitter

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


class _Heard:
    """Lets who listens to the LM know what it says."""

    @staticmethod
    def splitter(signature: Any) -> Splitter:
        """What takes an answer with these output fields apart."""
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """One call of the LM, or two where the first answer cannot be read."""
        with reading():
            return super().__call__(*args, **kwargs)  # type: ignore[misc]

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """The same, awaited."""
        with reading():
            return await super().acall(*args, **kwargs)  # type: ignore[misc]

    def format(self, signature: Any, demos: Any, inputs: Any) -> Any:
        """The messages, after which an answer is due."""
        expect(partial(self.splitter, signature))
        return super().format(signature, demos, inputs)  # type: ignore[misc]

    def parse(self, signature: Any, completion: str) -> Any:
        """The output fields of an answer."""
        fields = super().parse(signature, completion)  # type: ignore[misc]
        settle(fields)
        return fields


class ChatAdapter(_Heard, _Remembered, dspy.ChatAdapter):  # type: ignore[misc]
    """`dspy.ChatAdapter`, with a short way for inputs and outputs that are all text.

    DSPy builds a pydantic type adapter for every value that it writes; text needs none.
    """

    @staticmethod
    def splitter(signature: Any) -> Splitter:
        """Sections under headers."""
        return ChatText(signature.output_fields)

    def _make_json_adapter_fallback(self) -> Any:
        return _with_json(self)

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
                fields = {name: said[name] for name in outputs}
                settle(fields)
                return fields
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


class JSONAdapter(_Heard, _Remembered, dspy.JSONAdapter):  # type: ignore[misc]
    """`dspy.JSONAdapter`."""

    @staticmethod
    def splitter(signature: Any) -> Splitter:
        """The values of an object."""
        return JsonText(signature.output_fields)


class XMLAdapter(_Heard, _Remembered, dspy.XMLAdapter):  # type: ignore[misc]
    """`dspy.XMLAdapter`."""

    @staticmethod
    def splitter(signature: Any) -> Splitter:
        """Elements; nested ones are told as they are written."""
        fields = signature.output_fields
        nested = [
            name
            for name, field in fields.items()
            if dspy.XMLAdapter._uses_nested_xml(field.annotation)  # noqa: SLF001 - as it reads
        ]
        return XmlText(fields, nested)

    def _make_json_adapter_fallback(self) -> Any:
        return _with_json(self)


def _with_json(adapter: Any) -> Any:
    """DSPy's second try at an answer that it could not read, heard like the first."""
    return JSONAdapter(
        use_native_function_calling=adapter.use_native_function_calling,
        parallel_tool_calls=adapter.parallel_tool_calls,
    )


class TwoStepAdapter(dspy.TwoStepAdapter):  # type: ignore[misc]
    """`dspy.TwoStepAdapter` that `dspy.Refine` can use, and whose second step can be heard.

    Refine subclasses the class of the adapter in force and makes one without arguments, which
    only adds a hint and hands on to the adapter itself. The first step's answer has no fields:
    nothing of it is streamed.
    """

    def __init__(self, extraction_model: Any = None) -> None:
        if extraction_model is not None:
            super().__init__(extraction_model)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """Both steps, on this thread: DSPy's own awaits would pass `parse` by."""
        return self(*args, **kwargs)

    def parse(self, signature: Any, completion: str) -> Any:
        """The output fields, as the extraction LM finds them in `completion`; as DSPy does it."""
        wanted = self._create_extractor_signature(signature)
        try:
            (fields,) = ChatAdapter()(self.extraction_model, {}, wanted, [], {"text": completion})
        except AdapterParseError as error:
            raise AdapterParseError(
                adapter_name="TwoStepAdapter",
                signature=signature,
                lm_response=completion,
                message=f"Failed to parse response from the original completion: {error}",
            ) from error
        return fields


ADAPTERS: dict[str, Callable[[], Any]] = {
    "chat": ChatAdapter,
    "json": JSONAdapter,
    "xml": XMLAdapter,
}
"""The adapters without arguments, by the names that `configure` takes."""
