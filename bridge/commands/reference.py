"""The README's tables, written from the document of `bridge.commands.schema`: one block a function.

`BLOCKS` has each function by the name in the README's markers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bridge.specs.lms import LMOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["BLOCKS", "type_text"]

Schema = dict[str, Any]

LONGEST_DEFAULT = 40
"""Characters of a default in a table; a longer one is not worth its column."""


def reference(document: Mapping[str, Any]) -> str:
    """Messages, commands, shapes, module types, optimizers, type spellings, errors, events."""
    parts = [
        "### Messages",
        _messages(document["protocol"]),
        "### Commands",
        _table(
            ("Command", "What it does"),
            ((f"[`{name}`](#{name})", row["summary"]) for name, row in _commands(document)),
        ),
        *(text for name, row in _commands(document) for text in _command(name, row)),
        "### Shapes",
        *_shapes(document),
        "### Module types",
        _module_types(document["module_types"]),
        "### Optimizers",
        *_optimizers(document["optimizers"]),
        "### Type spellings",
        _table(
            ("Type", "Words that mean it"),
            (
                (_code(row["type"]), ", ".join(f"`{word}`" for word in row["spellings"]))
                for row in document["types"]
            ),
        ),
        "### Errors",
        _table(
            ("Code", "Retriable", "Meaning"),
            (
                (f"`{row['code']}`", "yes" if row["retriable"] else "", _plain(row["meaning"]))
                for row in document["errors"]
            ),
        ),
        "### Events",
        _table(
            ("Event", "Meaning", "Data"),
            (
                (f"`{row['event']}`", row["meaning"], ", ".join(map(_ticks, _keys(row["data"]))))
                for row in document["events"]
            ),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def limits(document: Mapping[str, Any]) -> str:
    """The daemon's bounds."""
    rows = (
        (
            f"`{row['name']}`",
            f"{row['default']:,}",
            "yes" if row["configurable"] else "",
            row["reason"],
        )
        for row in document["limits"]
    )
    return _table(("Limit", "Default", "By `configure`", "What it bounds"), rows) + "\n"


def host_calls(document: Mapping[str, Any]) -> str:
    """What the host may be asked."""
    rows = (
        (row["named"], f"`{row['target']}`", _shape_of(row["args"]), row["answer"])
        for row in document["host_calls"]
    )
    return _table(("Where it is named", "`target`", "`args`", "The answer"), rows) + "\n"


def _shape_of(schema: Schema) -> str:
    """``{inputs, prediction, index?}``, or what the schema says of itself."""
    if "description" in schema:
        return str(schema["description"])
    needed = schema["required"]
    keys = (name if name in needed else f"{name}?" for name in _keys(schema))
    return f"`{{{', '.join(keys)}}}`"


BLOCKS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "reference": reference,
    "limits": limits,
    "host_calls": host_calls,
}
"""Block name to the function that writes it."""


def type_text(schema: Mapping[str, Any]) -> str:  # noqa: PLR0911 - one for each kind of schema
    """A JSON Schema in a few words: ``list of string``, ``integer 1..20``, ``LMSpec or string``."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        texts = [type_text(item) for item in schema["anyOf"] if item != {"type": "null"}]
        return " or ".join(dict.fromkeys(texts))
    if "enum" in schema:
        return ", ".join(_code(value) for value in schema["enum"])
    if "const" in schema:
        return _code(schema["const"])
    match schema.get("type"):
        case "array":
            return f"list of {type_text(schema['items'])}" if schema.get("items") else "list"
        case "object":
            values = schema.get("additionalProperties")
            return f"map of {type_text(values)}" if isinstance(values, dict) and values else "map"
        case None:
            return "any"
        case kind:
            return f"{kind}{_range(schema)}"


def _range(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f" {least}..{most}"
    if least is not None:
        return f" ≥ {least}"
    above = schema.get("exclusiveMinimum")
    texts = ([] if above is None else [f"> {above}"]) + ([] if most is None else [f"≤ {most}"])
    return f" {', '.join(texts)}" if texts else ""


def _commands(document: Mapping[str, Any]) -> list[tuple[str, Schema]]:
    return list(document["commands"].items())


def _command(name: str, row: Schema) -> Iterable[str]:
    yield f"#### {name}"
    yield f"{row['summary']}" + (f"\n\n{row['result']}" if "result" in row else "")
    yield _properties(row["args"]) or _no_arguments(row["args"])


def _no_arguments(schema: Schema) -> str:
    return "Takes any arguments." if schema.get("additionalProperties") else "Takes no arguments."


def _properties(schema: Schema, leave_out: Iterable[str] = ()) -> str:
    """The table of an object's keys, or nothing when it has none."""
    required = schema.get("required", ())
    left_out = set(leave_out)
    rows = [
        (f"`{key}`", type_text(part), _default(key, part, required), _sentence(part))
        for key, part in schema.get("properties", {}).items()
        if key not in left_out
    ]
    return _table(("Key", "Type", "Default", ""), rows) if rows else ""


def _default(key: str, part: Mapping[str, Any], required: Iterable[str]) -> str:
    if key in required:
        return "required"
    default = part.get("default")
    text = "" if default is None or default in ([], {}, "") else _code(default)
    return text if len(text) <= LONGEST_DEFAULT else ""


def _sentence(part: Mapping[str, Any]) -> str:
    return " ".join(str(part.get("description", "")).split())


def _messages(protocol: Mapping[str, Any]) -> str:
    rows = []
    for side, sender in (("from_host", "host"), ("from_daemon", "daemon")):
        for name, schema in protocol[side].items():
            required = schema.get("required", ())
            keys = ", ".join(
                f"`{key}`" if key in required else f"`{key}`?" for key in schema["properties"]
            )
            rows.append((name, sender, keys, _plain(_sentence(schema))))
    table = _table(("Message", "Sent by", "Keys", ""), rows)
    return f"{table}\n\nThe keys of a request:\n\n" + _properties(protocol["from_host"]["Request"])


def _shapes(document: Mapping[str, Any]) -> Iterable[str]:
    """Every shape that a command's or a message's keys point to, once, by name."""
    found: dict[str, Schema] = {}
    for schema in (
        *document["protocol"]["from_host"].values(),
        *(row["args"] for _, row in _commands(document)),
    ):
        found.update(schema.get("$defs", {}))
    for name in sorted(found):
        yield f"#### {name}"
        yield _plain(_sentence(found[name]).partition(" ``{")[0])
        yield _properties(found[name])


def _module_types(types: Mapping[str, Any]) -> str:
    shared = LMOptions.model_json_schema()["properties"]
    rows = []
    missing = []
    configs: dict[str, list[str]] = {}
    for name, row in types.items():
        if "not_in_this_version" in row:
            missing.append(f"`{name}` ({row['not_in_this_version']})")
            continue
        keys = row["config"].get("properties", {})
        common = shared if shared.keys() <= keys.keys() else {}
        own = [key for key in keys if key not in common]
        listed = ", ".join([*map(_ticks, own), *(["the generation options"] if common else [])])
        rows.append((f"`{name}`", row["summary"], "yes" if row["needs_signature"] else "", listed))
        if own:
            about = _plain(_sentence(row["config"]))
            text = f"{about}\n\n{_properties(row['config'], common)}"
            configs.setdefault(text, []).append(name)
    table = _table(("Type", "What it is", "Signature", "Config"), rows)
    lines = [
        table,
        f"The generation options: {', '.join(map(_ticks, shared))}.",
        f"Not in this version: {', '.join(missing)}.",
        *(f"#### Config of {', '.join(names)}\n\n{text}" for text, names in configs.items()),
    ]
    return "\n\n".join(lines)


METRIC_WORDS = {"none": "", "score": "yes", "feedback": "yes, with feedback"}


def _optimizers(rows: Mapping[str, Any]) -> Iterable[str]:
    there = {name: row for name, row in rows.items() if "config" in row}
    yield _table(
        ("Optimizer", "What it learns", "Other names", "Metric", "Examples", "Packages"),
        (
            (
                f"`{name}`",
                row["summary"],
                ", ".join(map(_ticks, row["other_names"])),
                METRIC_WORDS[row["metric"]],
                f"≥ {row['minimum']}",
                ", ".join(map(_ticks, row["needs"])),
            )
            for name, row in there.items()
        ),
    )
    missing = (
        f"`{name}` ({row['not_in_this_version']})"
        for name, row in rows.items()
        if "not_in_this_version" in row
    )
    yield f"Not in this version: {', '.join(missing)}."
    model = there["BootstrapFewShot"]["config"]["properties"]
    for name, row in there.items():
        yield f"#### Config of {name}"
        yield from _config(row["config"], {} if name == "BootstrapFewShot" else model)


def _config(schema: Schema, model: Mapping[str, Any]) -> Iterable[str]:
    """The keys of an optimizer; those that are as in `model` by name only."""
    same = [key for key, part in schema["properties"].items() if model.get(key) == part]
    if same:
        yield f"As in BootstrapFewShot: {', '.join(map(_ticks, same))}."
    yield _properties(schema, same)


def _keys(schema: Schema) -> list[str]:
    return list(schema.get("properties", {}))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _ticks(text: str) -> str:
    return f"`{text}`"


def _code(value: Any) -> str:
    return _ticks(value if isinstance(value, str) else json.dumps(value))


def _plain(text: str) -> str:
    """A docstring's double backticks as Markdown's single ones."""
    return text.replace("``", "`")
