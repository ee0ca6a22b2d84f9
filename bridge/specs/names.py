"""Names that fields may have, and the reason for each one that they may not.

The tables hold what was seen to break when a DSPy 3.4 signature with that name was built, called
through each adapter, bootstrapped, evaluated, saved and loaded. A name that only reads like a
DSPy or pydantic attribute and works (``schema``, ``json``, ``model_name``) is not in them.
"""

from __future__ import annotations

import keyword
import unicodedata
from typing import Final, Literal, NamedTuple

from bridge.specs.types.spellings import clipped

__all__ = [
    "MAX_NAME_LENGTH",
    "MODULE_RESERVED",
    "RESERVED",
    "Reserved",
    "Side",
    "name_fault",
    "object_name_fault",
    "reserved_for",
]

Side = Literal["inputs", "outputs"]

MAX_NAME_LENGTH: Final = 64
"""Characters: a name heads a section of every prompt, and OpenAI's schemas stop at 64."""


class Reserved(NamedTuple):
    """Why a name is refused, and on which side; None means on both."""

    reason: str
    side: Side | None = None


_CLASS: Final = "dspy.Signature keeps an attribute of its own under this name"
_PYDANTIC: Final = "pydantic, which DSPy builds signatures with, uses this name itself"
_CALL: Final = "dspy.Predict takes this call argument for itself, so the input would not arrive"
_METHOD: Final = "a prediction has a method of this name, so prediction.{0} would not be the output"
_MODELS: Final = (
    "model_computed_fields model_config model_construct model_copy model_extra model_fields"
    " model_fields_set model_json_schema model_parametrized_name model_post_init model_rebuild"
)
_METHODS: Final = (
    "copy from_completions get get_lm_usage inputs items keys labels set_lm_usage toDict values"
    " with_inputs without"
)

RESERVED: Final[dict[str, Reserved]] = {
    **{
        name: Reserved(_CLASS)
        for name in ("signature", "fields", "instructions", "input_fields", "output_fields")
    },
    **{name: Reserved(_PYDANTIC) for name in _MODELS.split()},
    **{name: Reserved(_METHOD.format(name), "outputs") for name in _METHODS.split()},
    **{name: Reserved(_CALL, "inputs") for name in ("demos", "config", "lm", "new_signature")},
    "_trace": Reserved(_CALL),
    "prediction": Reserved(
        'dspy.Predict takes a {"type": "content"} map under this name for an LM option', "inputs"
    ),
    "instance": Reserved("DSPy's call wrapper has an argument of this name", "inputs"),
    "self": Reserved("Python's methods have an argument of this name"),
    "base": Reserved("dspy.Example takes this name for a record to copy, not for a field"),
    "augmented": Reserved("DSPy marks bootstrapped demonstrations with this name"),
    "completions": Reserved("DSPy keeps a prediction's other completions under this name"),
}
"""Names that no module's signature may have. Prefixes are in ``RESERVED_PREFIXES``."""

RESERVED_PREFIXES: Final[dict[str, str]] = {
    "_": "a leading underscore marks what is not a field",
    "dspy_": "DSPy hides fields that start with dspy_ from examples and predictions",
    "model_dump": _PYDANTIC,
    "model_validate": _PYDANTIC,
}

_LOOP: Final = "the module writes its own {0} into the prompt under this name"
_THINKING: Final = Reserved("the module adds the output reasoning itself", "inputs")
_REACT: Final[dict[str, Reserved]] = {
    "trajectory": Reserved(_LOOP.format("trajectory")),
    "max_iters": Reserved("the module takes this call argument for itself", "inputs"),
    "reasoning": _THINKING,
}
_ATTEMPT: Final = Reserved("the module writes the chains it compares under this name")

MODULE_RESERVED: Final[dict[str, dict[str, Reserved]]] = {
    "chain_of_thought": {"reasoning": _THINKING},
    "multi_chain_comparison": {
        "reasoning": _THINKING,
        "rationale": Reserved("the module adds the output rationale itself", "inputs"),
        # As many chains as any module may be configured with, and some.
        **{f"reasoning_attempt_{number}": _ATTEMPT for number in range(1, 65)},
    },
    "refine": {"hint_": Reserved(_LOOP.format("hint"))},
    "react": {
        **_REACT,
        **{
            name: Reserved(_LOOP.format("next step"), "inputs")
            for name in ("next_thought", "next_tool_name", "next_tool_args")
        },
    },
    "react_v2": {
        "history": Reserved(_LOOP.format("history")),
        "tools": Reserved(_LOOP.format("tools"), "inputs"),
        "max_iters": _REACT["max_iters"],
        "next_thought": Reserved(_LOOP.format("next step"), "inputs"),
        "tool_calls": Reserved(_LOOP.format("next step"), "inputs"),
        "termination_reason": Reserved("the module adds this output itself", "outputs"),
    },
    "program_of_thought": {
        "reasoning": _THINKING,
        "generated_code": Reserved(_LOOP.format("code"), "inputs"),
        "previous_code": Reserved(_LOOP.format("code"), "inputs"),
        "error": Reserved(_LOOP.format("code's error"), "inputs"),
        "final_generated_code": Reserved(_LOOP.format("code")),
        "code_output": Reserved(_LOOP.format("code's output")),
    },
    "code_act": {
        **_REACT,
        "generated_code": Reserved(_LOOP.format("code"), "inputs"),
        "finished": Reserved(_LOOP.format("end"), "inputs"),
    },
    "rlm": {
        "trajectory": Reserved("the module adds this output itself", "outputs"),
        "final_reasoning": Reserved("the module adds this output itself", "outputs"),
        "variables_info": Reserved(_LOOP.format("variables"), "outputs"),
        "repl_history": Reserved(_LOOP.format("history"), "outputs"),
        "interpreter_factory": Reserved("the module takes this call argument for itself", "inputs"),
        **{
            name: Reserved("a function of the module's interpreter has this name", "inputs")
            for name in ("llm_query", "llm_query_batched", "SUBMIT", "print", "dspy")
        },
    },
}
"""Names that one module type adds to its signature or keeps for itself.

``reasoning`` as an *output* of a module that reasons is allowed: DSPy keeps the host's field and
adds none. ``best_of_n`` and ``refine`` reserve what the module within them reserves, too.
"""


def reserved_for(module_type: str, side: Side | None = None) -> dict[str, str]:
    """The names that a module type reserves beyond ``RESERVED``, each with its reason.

    Args:
        module_type: as the host names it; a type that reserves nothing gives {}.
        side: only what is refused as an input, or as an output; both together by default.
    """
    return {
        name: row.reason
        for name, row in MODULE_RESERVED.get(module_type, {}).items()
        if side is None or row.side in {None, side}
    }


def name_fault(name: str, side: Side) -> str | None:
    """Why a signature's field may not have this name; None if it may."""
    if (fault := _shape_fault(name)) is not None:
        return fault
    if keyword.iskeyword(name):
        return f"{name!r} is a Python keyword"
    row = RESERVED.get(name)
    if row is not None and row.side in {None, side}:
        return f"{name!r} is reserved: {row.reason}"
    return _prefix_fault(name)


def object_name_fault(name: str) -> str | None:
    """Why a field of an object may not have this name: fewer reasons, as it is only a map key."""
    if (fault := _shape_fault(name)) is not None:
        return fault
    if name in _MODELS.split():
        return f"{name!r} is reserved: {_PYDANTIC}"
    return _prefix_fault(name)


def _shape_fault(name: str) -> str | None:
    if not name:
        return "a field needs a name"
    if len(name) > MAX_NAME_LENGTH:
        return f"{clipped(name)} is longer than {MAX_NAME_LENGTH} characters"
    if not name.isidentifier() or unicodedata.normalize("NFKC", name) != name:
        return f"{clipped(name)} is not a name: use letters, digits and _, as in {_cured(name)!r}"
    return None


def _prefix_fault(name: str) -> str | None:
    for prefix, reason in RESERVED_PREFIXES.items():
        if name.startswith(prefix):
            return f"{name!r} is reserved: {reason}"
    return None


def _cured(name: str) -> str:
    kept = "".join(char if char.isascii() and char.isalnum() else "_" for char in name).strip("_")
    return kept if kept.isidentifier() else "question"
