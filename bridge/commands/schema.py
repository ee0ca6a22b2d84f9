"""The contract as one JSON document, made of the code that keeps it: ``dspy-bridge schema``.

Nothing is listed here that another file knows: messages come from `protocol.messages`, commands
and their arguments from the table, errors from their tree, module types, optimizers and type
spellings from `bridge.specs`.
"""

from __future__ import annotations

import argparse
import inspect
import io
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import orjson
from pydantic import create_model

from bridge.commands.desk import BudgetArgs, TraceArgs
from bridge.commands.optimizer_defaults import CONFIG_DEFAULTS, CONFIG_NOTES
from bridge.commands.table import COMMANDS
from bridge.commands.unasked import EVENTS, HOST_CALLS
from bridge.settings import CONFIGURABLE, Limits
from bridge.specs.checking import nearest
from bridge.specs.lm_providers import PROVIDERS
from bridge.specs.lms import LMSpec
from bridge.specs.module_types import MODULE_TYPES
from bridge.specs.optimizers import ALIASES, ROWS, KeySpec, OptimizerRow
from bridge.specs.types.spellings import SPELLINGS
from protocol import VERSIONS, FromDaemon, FromHost
from protocol.errors import BridgeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from bridge.commands.command import Command

__all__ = ["command_schema", "document", "limits", "main"]

ENVELOPE: Mapping[str, type[BaseModel]] = {"budget": BudgetArgs, "lm": LMSpec, "trace": TraceArgs}
"""The models of those envelope keys that `protocol` only knows to be maps."""


def document() -> dict[str, Any]:
    """The whole contract: messages, commands, errors, and the tables that their values are of."""
    return {
        "protocol": _protocol(),
        "commands": {name: command_schema(command) for name, command in COMMANDS.items()},
        "errors": _errors(),
        "module_types": _module_types(),
        "optimizers": {row.name: _optimizer(row) for row in ROWS.values()},
        "types": _types(),
        "lm_providers": {row.name: row.summary for row in PROVIDERS.values()},
        "limits": limits(),
        "events": [
            {"event": name, "meaning": meaning, "data": data}
            for name, (meaning, data) in EVENTS.items()
        ],
        "host_calls": [{"target": target, **row} for target, row in HOST_CALLS.items()],
    }


def command_schema(command: Command) -> dict[str, Any]:
    """``{summary, args, result?}``; `args` is a JSON Schema, `result` text where there is more."""
    said: dict[str, Any] = {
        "summary": command.summary,
        "args": command.args.model_json_schema(),
    }
    _, _, more = inspect.cleandoc(command.run.__doc__ or "").partition("\n")
    if more.strip():
        said["result"] = more.strip()
    return said


def limits() -> list[dict[str, Any]]:
    """``{name, default, configurable, reason}`` of every bound, in the order they are written."""
    reasons = _attribute_docstrings(Limits)
    return [
        {
            "name": name,
            "default": default,
            "configurable": name in CONFIGURABLE,
            "reason": reasons.get(name, ""),
        }
        for name, default in Limits()._asdict().items()
    ]


def main(argv: Sequence[str]) -> int:
    """Print the document, one command of it, or the README's reference; the exit status."""
    parser = argparse.ArgumentParser(
        prog="dspy-bridge schema",
        description="The JSON Schema of every message, command and error, as one document.",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--command", metavar="NAME", help="print this command's part only")
    shown.add_argument(
        "--markdown",
        nargs="?",
        const="reference",
        metavar="BLOCK",
        help="print a generated block of the README: reference (when left out) or limits",
    )
    options = parser.parse_args(argv)
    if options.command is not None and options.command not in COMMANDS:
        close = nearest(options.command, COMMANDS)
        hint = f"did you mean {close!r}?" if close else f"known: {', '.join(COMMANDS)}"
        parser.error(f"no command {options.command!r}; {hint}")
    if options.markdown is not None:
        from bridge.commands.reference import BLOCKS  # noqa: PLC0415 - most calls want JSON

        if options.markdown not in BLOCKS:
            parser.error(f"no block {options.markdown!r}; known: {', '.join(BLOCKS)}")
        return _print(BLOCKS[options.markdown](document()))
    if options.command is not None:
        return _print(_json(command_schema(COMMANDS[options.command])))
    return _print(_json(document()))


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n"


def _print(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`head`) has had enough; Python's own flush at exit must not complain.
        sys.stdout = io.StringIO()
    return 0


def _protocol() -> dict[str, Any]:
    return {
        "versions": list(VERSIONS),
        "from_host": {kind.__name__: _message(kind) for kind in get_args(FromHost)},
        "from_daemon": {kind.__name__: _message(kind) for kind in get_args(FromDaemon)},
    }


def _message(kind: Any) -> dict[str, Any]:
    """The schema of one envelope message, its maps spelt out where a command's side knows them."""
    fields: dict[str, Any] = {
        name: (hint, kind._field_defaults.get(name, ...))
        for name, hint in get_type_hints(kind).items()
    }
    envelope: type[BaseModel] = create_model(kind.__name__, __doc__=kind.__doc__, **fields)
    schema = envelope.model_json_schema()
    for key, model in ENVELOPE.items():
        if key in schema["properties"]:
            part = model.model_json_schema()
            schema.setdefault("$defs", {}).update(part.pop("$defs", {}))
            schema["$defs"][model.__name__] = part
            _replace_map(schema["properties"][key], {"$ref": f"#/$defs/{model.__name__}"})
    if kind in get_args(FromHost):
        schema["additionalProperties"] = False
        # A request without `args` has none.
        schema["required"] = [name for name in schema["required"] if name != "args"]
    return schema


def _replace_map(schema: dict[str, Any], ref: dict[str, Any]) -> None:
    choices = schema["anyOf"]
    schema["anyOf"] = [ref if item.get("type") == "object" else item for item in choices]


def _errors() -> list[dict[str, Any]]:
    return [
        {
            "code": kind.code,
            "retriable": kind.retriable,
            "meaning": " ".join(inspect.cleandoc(kind.__doc__ or "").split()),
        }
        for kind in BridgeError.__subclasses__()
    ]


def _module_types() -> dict[str, Any]:
    return {
        row.name: {
            "summary": row.summary,
            "needs_signature": row.needs_signature,
            "config": row.config.model_json_schema(),
        }
        for row in MODULE_TYPES.values()
    }


def _optimizer(row: OptimizerRow) -> dict[str, Any]:
    """``{summary, other_names, metric, needs, valset, minimum, config}``, or why it cannot run."""
    if row.unavailable:
        return {"summary": row.summary, "not_in_this_version": row.unavailable}
    keys = {**row.constructor, **row.compile}
    config: dict[str, Any] = {
        "type": "object",
        "properties": {name: _config_key(row.name, name, key) for name, key in keys.items()},
        "additionalProperties": False,
    }
    if any(key.kind in {"lm", "settings"} for key in keys.values()):
        config["$defs"] = {"LMSpec": LMSpec.model_json_schema()}
    return {
        "summary": row.summary,
        "other_names": [name for name, (meant, _) in ALIASES.items() if meant == row.name],
        "metric": row.metric,
        "needs": list(row.needs),
        "valset": row.valset,
        "minimum": row.minimum,
        "config": config,
    }


def _config_key(optimizer: str, name: str, key: KeySpec) -> dict[str, Any]:
    schema = _config_value(key)
    places = (f"{optimizer}.{name}", name)
    for word, table in (("default", CONFIG_DEFAULTS), ("description", CONFIG_NOTES)):
        found = next((place for place in places if place in table), None)
        if found is not None:
            schema[word] = table[found]
    return schema


def _config_value(key: KeySpec) -> dict[str, Any]:
    lm = {"anyOf": [{"$ref": "#/$defs/LMSpec"}, {"type": "string"}]}
    match key.kind:
        case "lm":
            return lm
        case "settings":
            return {"type": "object", "properties": {"lm": lm}, "additionalProperties": False}
        case "ids" | "integers":
            item = {"type": "integer"}
            items = item if key.kind == "integers" else {"anyOf": [{"type": "string"}, item]}
            most = {} if key.maximum is None else {"maxItems": key.maximum}
            return {"type": "array", "items": items, "minItems": key.minimum, **most}
        case "optimizers":
            entry = {"anyOf": [{"type": "string"}, {"type": "object"}]}
            return {"type": "object", "additionalProperties": entry, "minProperties": 1}
        case "string" if key.choices:
            return {"enum": list(key.choices)}
    bounds = {"minimum": key.minimum, "maximum": key.maximum}
    return {"type": key.kind, **{name: at for name, at in bounds.items() if at is not None}}


def _types() -> list[dict[str, Any]]:
    """``{type, spellings}``: each type's canonical form and the single words that mean it."""
    found: dict[str, dict[str, Any]] = {}
    for word, meaning in SPELLINGS.items():
        wire = meaning.to_wire()
        row = found.setdefault(str(wire), {"type": wire, "spellings": []})
        row["spellings"].append(word)
    return list(found.values())


def _attribute_docstrings(kind: type) -> dict[str, str]:
    """The string under each attribute of a class, from its source."""
    import ast  # noqa: PLC0415 - for this one command

    tree = ast.parse(inspect.getsource(kind))
    body = [part for node in tree.body if isinstance(node, ast.ClassDef) for part in node.body]
    texts: dict[str, str] = {}
    for before, after in pairwise(body):
        match before, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                texts[name] = " ".join(text.split())
    return texts
