"""How the embedded LM takes part in an agent's loop: which tool next, with which arguments.

Law of this file: it reads the list of tools in the objective, calls the one whose description bears
most on the question, and finishes once the trajectory holds an observation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from bridge.embedded.text import NUMBER, stems

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.embedded.prompt import Prompt, PromptField

__all__ = ["tool_step"]

_FINISH: Final = "finish"
_TOOL = re.compile(
    r"^\(\d+\) (\w+)(?:, whose description is <desc>(.*?)</desc>)?\.? It takes arguments (.*)$",
    re.MULTILINE | re.DOTALL,
)
_TOOL_START = re.compile(r"^(?=\(\d+\) \w)", re.MULTILINE)
_ARGUMENT = re.compile(r"'(\w+)': \{([^{}]*)")


def tool_step(prompt: Prompt, field: PromptField, question: str) -> Any:
    """The tool's name or its arguments when `field` asks for one of them, else None."""
    if field.name not in {"next_tool_name", "next_tool_args"} or "trajectory" not in (
        f.name for f in prompt.input_fields
    ):
        return None
    tools = _tools(prompt.objective)
    done = "observation_" in prompt.inputs.get("trajectory", "")
    wanted = stems(question)
    others = [name for name in tools if name != _FINISH]
    chosen = _FINISH
    if others and not done:
        chosen = max(others, key=lambda n: len(stems(f"{n} {tools[n][0]}") & wanted))
    if field.name == "next_tool_name":
        return chosen if chosen in field.schema.get("enum", ()) else None
    arguments = tools[chosen][1] if chosen in tools else {}
    return {name: _argument(kind, question) for name, kind in arguments.items()}


def _tools(objective: str) -> dict[str, tuple[str, Mapping[str, str]]]:
    found: dict[str, tuple[str, Mapping[str, str]]] = {}
    for block in _TOOL_START.split(objective):
        if match := _TOOL.match(block):
            arguments = dict(_ARGUMENT.findall(match.group(3)))
            found[match.group(1)] = (match.group(2) or "", arguments)
    return found


def _argument(kind: str, question: str) -> Any:
    if "'integer'" in kind or "'number'" in kind:
        number = NUMBER.search(question)
        value = float(number.group().replace(",", "")) if number else 0.0
        return int(value) if "'integer'" in kind else value
    if "'boolean'" in kind:
        return True
    return [] if "'array'" in kind else question
