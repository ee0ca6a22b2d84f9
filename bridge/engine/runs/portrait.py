"""A program as source text, for optimizers that show the LM the code of what they optimize.

DSPy asks `inspect` for the source of the program's class, which here is the same class for every
program. So each gets a class of its own whose source, as `inspect` finds it, says what is in it.
The text is only ever read.
"""

from __future__ import annotations

import keyword
import linecache
import re
from hashlib import sha256
from pprint import pformat
from typing import TYPE_CHECKING, Any

from bridge.registry import ProgramRunnable

if TYPE_CHECKING:
    from bridge.engine.runs.student import Student
    from bridge.registry import Runnable

__all__ = ["portray", "source_of"]


def portray(kind: type[Student], runnable: Runnable) -> type[Student]:
    """A subclass of `kind` whose source is the program's."""
    name, source = _class_name(runnable), source_of(runnable)
    place = f"<program {sha256(source.encode()).hexdigest()[:12]}>"
    linecache.cache[place] = (len(source), None, source.splitlines(keepends=True), place)

    def forward(self: Student, **inputs: Any) -> Any:
        return kind.forward(self, **inputs)

    # This is where `inspect` looks for the file of a class that is in no module.
    forward.__code__ = forward.__code__.replace(co_filename=place)
    forward.__qualname__ = f"{name}.forward"
    own = {
        "forward": forward,
        "__module__": place,
        "__qualname__": name,
        "__firstlineno__": 1,
        "__doc__": kind.__doc__,
    }
    return type(name, (kind,), own)


def source_of(runnable: Runnable) -> str:
    """The program as a Python class that holds its modules and its way as data."""
    lines = [f"class {_class_name(runnable)}(dspy.Module):"]
    if isinstance(runnable, ProgramRunnable):
        wiring = runnable.wiring
        by_data = wiring.steps is not None or wiring.source is not None
        how = "its steps or source say" if by_data else "the application decides"
        lines += [f'    """Calls its modules as {how}."""', ""]
        modules = {name: _module(part) for name, part in runnable.parts.items()}
        lines += _assigned("modules", modules)
        if wiring.source is not None:
            lines += ["", "    # forward:", *_indented(wiring.source.text)]
        elif wiring.steps is not None:
            lines += _assigned("steps", wiring.steps.to_wire())
    else:
        lines += ['    """One module."""', ""]
        lines += _assigned("modules", {str(runnable.spec.id): _module(runnable)})
    return "\n".join(lines) + "\n"


def _indented(text: str) -> list[str]:
    return [f"    {line}".rstrip() for line in text.splitlines()]


def _assigned(name: str, value: Any) -> list[str]:
    text = f"{name} = {pformat(value, width=92, sort_dicts=False)}"
    return [f"    {line}" for line in text.splitlines()]


def _module(runnable: Runnable) -> dict[str, Any]:
    """A module's kind and fields; a program within the program with what is in it."""
    shape = runnable.shape
    fields = f"{', '.join(shape.inputs)} -> {', '.join(shape.outputs) or '…'}"
    if isinstance(runnable, ProgramRunnable):
        inner = {name: _module(part) for name, part in runnable.parts.items()}
        return {"program": fields, "modules": inner}
    spec = runnable.spec
    told: dict[str, Any] = {spec.type: fields}
    if spec.signature.instructions:
        told["instructions"] = spec.signature.instructions
    return told


def _class_name(runnable: Runnable) -> str:
    words = re.findall(r"[A-Za-z0-9]+", str(runnable.spec.id))
    name = "".join(word[:1].upper() + word[1:] for word in words)
    usable = name.isidentifier() and not keyword.iskeyword(name)
    return name if usable else "Program"
