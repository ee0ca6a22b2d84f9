"""What of an `optimize` is kept on disk so that it can be repeated: all of it but keys.

A key is worth more than the run that used it. A part of a request that came with one is kept
without it, and is asked for again when the run is resumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocol.errors import InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PROGRAM", "keepable", "kept_lm", "repeated"]

PROGRAM = ("program", "program_id", "module_id")
"""The arguments of which one names what learns."""

WITHHELD = "withheld"
GIVE_AGAIN = "held the key of an LM, which is not kept: give it again to resume"


LM = "lm"
"""The envelope's LM stands among the arguments; no argument has that name."""


def keepable(request: Mapping[str, Any], lm: dict[str, Any] | str | None = None) -> dict[str, Any]:
    """What is kept of an `optimize`: no keys of LMs, but which part had one.

    Args:
        request: its arguments.
        lm: the LM of its envelope, with its key.
    """
    kept = dict(request)
    withheld = []
    if lm is not None:
        kept[LM] = _without_keys(lm)
        if kept[LM] != lm:
            withheld.append(LM)
    if isinstance(kept.get("program"), dict):
        program = dict(kept["program"])
        modules = program.get("modules")
        if isinstance(modules, list):
            program["modules"] = [_module_without_key(module) for module in modules]
            if program["modules"] != modules:
                withheld.append("program")
        kept["program"] = program
    if kept.get("config"):
        config = _without_keys(kept["config"])
        if config != kept["config"]:
            withheld.append("config")
        kept["config"] = config
    return {**kept, WITHHELD: withheld}


def repeated(kept: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A kept request with what is given anew in its place.

    Raises:
        InvalidArgs: a part that came with a key is not given anew.
    """
    request = {key: value for key, value in kept.items() if key not in {WITHHELD, LM}}
    if any(given.get(name) is not None for name in PROGRAM):
        for name in PROGRAM:
            request.pop(name, None)
    request.update(given)
    missing = [
        name
        for name in kept.get(WITHHELD, ())
        if name != LM
        and all(given.get(key) is None for key in (PROGRAM if name == "program" else (name,)))
    ]
    if missing:
        raise InvalidArgs.of([{"path": name, "message": GIVE_AGAIN} for name in missing])
    return request


def kept_lm(kept: Mapping[str, Any]) -> dict[str, Any] | str | None:
    """The LM of a kept request's envelope; None when it had none.

    Raises:
        InvalidArgs: it came with a key.
    """
    if LM in kept.get(WITHHELD, ()):
        raise InvalidArgs.at(LM, GIVE_AGAIN)
    lm: dict[str, Any] | str | None = kept.get(LM)
    return lm


def _module_without_key(module: Any) -> Any:
    if not isinstance(module, dict) or not isinstance(module.get("lm"), dict):
        return module
    return {**module, "lm": _without_keys(module["lm"])}


def _without_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_keys(item)
            for name, item in value.items()
            if name != "api_key" or item is None
        }
    return value
