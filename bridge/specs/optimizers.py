"""The optimizers by name: one row says what each takes, needs and gives.

Law: plain data, imported before pydantic and DSPy are, because `hello` lists the rows. Names, kinds
and defaults of keys are DSPy's own; where a key goes (constructor or `compile`) the row knows.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from bridge.specs.optimizer_rows import ALIASES, ROWS, KeySpec, OptimizerRow
from protocol.errors import InvalidArgs, MissingExtra, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "ALIASES",
    "ROWS",
    "KeySpec",
    "OptimizerRow",
    "check_available",
    "find_row",
    "listing",
    "missing",
    "split_config",
]

OBJECTS: dict[str, str] = {
    "metric": "is an argument of `optimize`, not of its config",
    "trainset": "is an argument of `optimize`, not of its config",
    "valset": "is an argument of `optimize`, not of its config",
    "teacher": "a teacher program cannot travel; `teacher_settings` may name its LM",
    "student": "is the program of the request",
    "eval_kwargs": "the bridge evaluates by itself; `max_concurrency` is an argument of `optimize`",
    "vectorizer": "is the bridge's own",
    "reduce_fn": "code cannot travel",
    "instruction_proposer": "code cannot travel",
    "code_proposer": "code cannot travel",
    "gepa_kwargs": "code cannot travel",
    "log_dir": "the bridge keeps runs by itself",
    "adapter": "is chosen with `configure`",
}
"""What DSPy's optimizers take and a config cannot hold, and why."""


def find_row(name: str, path: str = "optimizer") -> OptimizerRow:
    """The row of an optimizer, by DSPy's name or one of `ALIASES`.

    Raises:
        InvalidArgs: with the nearest name.
    """
    found = ROWS.get(name)
    if found is None and name in ALIASES:
        found = ROWS[ALIASES[name][0]]
    if found is None:
        close = _nearest(name, [*ROWS, *ALIASES])
        hint = f"did you mean {close!r}?" if close else f"known: {', '.join(ROWS)}"
        more = {"nearest": close} if close else {}
        raise InvalidArgs.at(path, f"no optimizer {name[:80]!r}; {hint}", **more)
    return found


def missing(row: OptimizerRow) -> list[str]:
    """The packages that the row needs and that are not installed. Imports none of them."""
    return [package for package in row.needs if find_spec(package) is None]


def check_available(row: OptimizerRow) -> None:
    """Raise Unsupported for a row that cannot run here, MissingExtra for one that lacks a package.

    Before the first LM call: DSPy itself finds out only after it has spent some.
    """
    if row.unavailable:
        raise Unsupported(f"{row.name} cannot run here: {row.unavailable}", optimizer=row.name)
    lacking = missing(row)
    if lacking:
        raise MissingExtra(
            f"{row.name} needs {' and '.join(lacking)}, which this Python does not have",
            package=lacking[0],
            packages=lacking,
            install=row.install,
        )


def listing() -> list[dict[str, Any]]:
    """``[{name, summary, available, missing, install, reason?}]``, as `hello` tells it."""
    rows = []
    for row in ROWS.values():
        lacking = missing(row)
        told: dict[str, Any] = {
            "name": row.name,
            "summary": row.summary,
            "available": not lacking and not row.unavailable,
            "missing": lacking,
            "install": row.install if lacking else None,
        }
        rows.append({**told, "reason": row.unavailable} if row.unavailable else told)
    return rows


def split_config(
    row: OptimizerRow, config: Mapping[str, Any] | None, path: str = "config"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of `config` goes to the constructor and what to `compile`; nulls say nothing.

    LM references come out parsed: an `LMSpec`, or the name of a configured LM.

    Raises:
        InvalidArgs: every unknown key with the nearest right one, every ill-typed value.
        Unsupported: from the optimizers that BetterTogether is given.
    """
    known = {**row.compile, **row.constructor}
    faults: list[dict[str, Any]] = []
    constructor: dict[str, Any] = {}
    compiled: dict[str, Any] = {}
    for key, value in (config or {}).items():
        if value is None:
            continue
        where = f"{path}.{key}"
        if key not in known:
            faults.append(_unknown(row, key, where, known))
            continue
        try:
            read = known[key].read(value, where)
        except InvalidArgs as error:
            faults += error.details["faults"]
            continue
        (constructor if key in row.constructor else compiled)[key] = read
    if faults:
        raise InvalidArgs.of(faults)
    if "optimizers" in constructor:
        constructor["optimizers"] = {
            name: _nested(entry, f"{path}.optimizers.{name}")
            for name, entry in constructor["optimizers"].items()
        }
    return constructor, compiled


def _nested(entry: Any, path: str) -> tuple[OptimizerRow, dict[str, Any], dict[str, Any]]:
    """One of the optimizers that BetterTogether runs: ``{optimizer, config?}`` or its name."""
    if isinstance(entry, str):
        entry = {"optimizer": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("optimizer"), str):
        raise InvalidArgs.at(path, "is the name of an optimizer, or {optimizer, config}")
    for key in entry.keys() - {"optimizer", "config"}:
        raise InvalidArgs.at(f"{path}.{key}", "unknown key; known: config, optimizer")
    row = find_row(entry["optimizer"], f"{path}.optimizer")
    if not row.composable:
        raise InvalidArgs.at(f"{path}.optimizer", f"{row.name} cannot be a step of another one")
    config = entry.get("config") or {}
    if not isinstance(config, dict):
        raise InvalidArgs.at(f"{path}.config", "must be a map")
    return (row, *split_config(row, config, f"{path}.config"))


def _unknown(
    row: OptimizerRow, key: str, where: str, known: Mapping[str, KeySpec]
) -> dict[str, Any]:
    if key in OBJECTS:
        return {"path": where, "message": f"cannot be given here: {OBJECTS[key]}"}
    close = _nearest(key, known)
    hint = f"did you mean {close!r}?" if close else f"{row.name} takes {', '.join(sorted(known))}"
    fault = {"path": where, "message": f"unknown key; {hint}"}
    return {**fault, "nearest": close} if close else fault


def _nearest(word: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches  # noqa: PLC0415 - `hello` has no use for it

    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return close[0] if close else None
