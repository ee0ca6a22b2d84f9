"""The contract as one JSON document, made of the code that keeps it: ``dspy-bridge schema``.

Nothing is listed here that another file knows: messages come from `protocol.messages`, commands
and their arguments from the table, errors from their tree, module types, optimizers and type
spellings from `bridge.specs`. Only the events, and the defaults of DSPy's optimizers, have no table
of their own in the code; a test holds the defaults against DSPy.
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
from bridge.commands.table import COMMANDS
from bridge.settings import CONFIGURABLE, Limits
from bridge.specs.checking import nearest
from bridge.specs.lm_providers import PROVIDERS
from bridge.specs.lms import LMSpec
from bridge.specs.module_types import MODULE_TYPES
from bridge.specs.optimizers import ALIASES, ROWS, KeySpec, OptimizerRow
from bridge.specs.types.spellings import SPELLINGS
from protocol import HOST_CALL_TARGETS, VERSIONS, FromDaemon, FromHost
from protocol.errors import BridgeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from bridge.commands.command import Command

__all__ = ["command_schema", "document", "limits", "main"]

ENVELOPE: Mapping[str, type[BaseModel]] = {"budget": BudgetArgs, "lm": LMSpec, "trace": TraceArgs}
"""The models of those envelope keys that `protocol` only knows to be maps."""

EVENTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "ready": (
        "DSPy is imported; its id is null. After `hello` with version 2.",
        {
            "type": "object",
            "properties": {
                "seconds": {"type": "number", "description": "what the import took"},
                "rss": {"type": "integer", "description": "bytes of resident memory after it"},
            },
            "required": ["seconds", "rss"],
        },
    ),
    "progress": (
        "How an `optimize` or `evaluate` goes, up to `done`. Its id is null for a detached run.",
        {
            "type": "object",
            "properties": {
                "run_id": {"type": "string"},
                "phase": {"enum": ["baseline", "optimizing", "scoring", "done"]},
                "trial": {"type": "integer", "description": "candidates evaluated so far"},
                "trials": {"type": ["integer", "null"], "description": "of them in all, if known"},
                "score": {
                    "type": ["number", "null"],
                    "description": "of a trial that just ended; with `done`, of the run",
                },
                "best_score": {"type": ["number", "null"]},
                "lm_calls": {"type": "integer"},
                "tokens": {"type": "integer", "description": "in and out together"},
                "cost": {"type": ["number", "null"], "description": "US dollars, if known"},
                "elapsed_ms": {"type": "integer"},
                "status": {
                    "enum": ["completed", "stopped", "failed", "cancelled"],
                    "description": "with `done`",
                },
                "error": {
                    "type": ["object", "null"],
                    "description": "with the `done` of a run: what it failed with",
                },
            },
            "required": [
                "run_id",
                "phase",
                "trial",
                "trials",
                "score",
                "best_score",
                "lm_calls",
                "tokens",
                "cost",
                "elapsed_ms",
            ],
        },
    ),
    "chunk": (
        "The next piece of an output field, of a request with `stream`; `index` 0 begins it anew.",
        {
            "type": "object",
            "properties": {
                "field": {"type": "string", "description": "`text` of `generate`"},
                "text": {"type": "string"},
                "module_id": {"type": ["string", "null"], "description": "null for `generate`"},
                "predictor": {
                    "type": ["string", "null"],
                    "description": "its name within the module, as in `state`; null: DSPy's own",
                },
                "call": {"type": "integer", "description": "of the request's LM calls, from 1"},
                "index": {"type": "integer", "description": "of the field's pieces, from 0"},
            },
            "required": ["field", "text", "module_id", "predictor", "call", "index"],
        },
    ),
    "status": (
        "Where a request with `stream` is: a module or a tool begins or ends, an LM is asked.",
        {
            "type": "object",
            "properties": {
                "status": {
                    "enum": ["module_start", "module_end", "lm_start", "tool_start", "tool_end"]
                },
                "tool": {"type": "string", "description": "of `tool_start` and `tool_end`"},
                "module_id": {"type": ["string", "null"]},
                "predictor": {"type": ["string", "null"], "description": "of `lm_start`"},
                "call": {"type": "integer", "description": "of `lm_start`"},
                "model": {"type": "string", "description": "of `lm_start`"},
                "attempt": {
                    "type": "integer",
                    "description": "of `lm_start`: above 0 what came of this call before is void",
                },
            },
            "required": ["status", "module_id"],
        },
    ),
}
"""Event name to its meaning and the schema of its data; those that this version sends."""

CONFIG_DEFAULTS: Mapping[str, Any] = {
    "k": 16,
    "KNNFewShot.k": 4,
    "sample": True,
    "max_bootstrapped_demos": 4,
    "max_labeled_demos": 16,
    "MIPROv2.max_labeled_demos": 4,
    "max_rounds": 1,
    "num_candidate_programs": 16,
    "labeled_sample": True,
    "breadth": 10,
    "depth": 3,
    "COPRO.init_temperature": 1.4,
    "COPRO.track_stats": False,
    "auto": "light",
    "MIPROv2.init_temperature": 1.0,
    "MIPROv2.track_stats": True,
    "verbose": False,
    "minibatch": True,
    "minibatch_size": 35,
    "minibatch_full_eval_steps": 5,
    "program_aware_proposer": True,
    "data_aware_proposer": True,
    "view_data_batch_size": 10,
    "tip_aware_proposer": True,
    "fewshot_aware_proposer": True,
    "bsize": 32,
    "SIMBA.num_candidates": 6,
    "max_steps": 8,
    "SIMBA.max_demos": 4,
    "demo_input_field_maxlen": 100_000,
    "temperature_for_sampling": 0.2,
    "temperature_for_candidates": 0.2,
    "reflection_minibatch_size": 3,
    "candidate_selection_strategy": "pareto",
    "skip_perfect_score": True,
    "add_format_failure_as_feedback": False,
    "component_selector": "round_robin",
    "use_merge": True,
    "max_merge_invocations": 5,
    "failure_score": 0.0,
    "perfect_score": 1.0,
    "InferRules.num_candidates": 10,
    "num_rules": 10,
    "valset_ratio": 0.1,
    "shuffle_trainset_between_steps": True,
}
"""What an optimizer does without a config key: by ``Optimizer.key``, else by the key alone."""

CONFIG_NOTES: Mapping[str, str] = {
    "metric_threshold": "least score of a run that becomes a demonstration; any above 0",
    "teacher_settings": "`{lm}`: the LM whose runs are learned from; the run's LM",
    "KNNFewShot.max_bootstrapped_demos": "as many as `k`",
    "max_errors": "program runs that may fail; DSPy's 10",
    "num_threads": "at most `max_concurrency` of the request, and as many when left out",
    "stop_at_score": "a mean score that is enough",
    "restrict": "numbers of candidates, from -3 on; all",
    "BootstrapFewShotWithOptuna.max_demos": "takes the place of `max_bootstrapped_demos`",
    "prompt_model": "the run's LM",
    "task_model": "the run's LM",
    "reflection_lm": "the run's LM",
    "seed": "the request's",
    "MIPROv2.auto": "not beside `num_candidates` or `num_trials`",
    "MIPROv2.num_candidates": "10 when only `num_trials` is given",
    "num_trials": "from `num_candidates` when only that is given",
    "minibatch_size": "at most the examples that candidates are scored on",
    "bsize": "at most the trainset",
    "GEPA.auto": "one budget of `auto`, `max_full_evals`, `max_metric_calls`",
    "optimizers": "name to `{optimizer, config}`; `p`: BootstrapFewShotWithRandomSearch",
    "programs": "ids of programs or modules, two or more; each is asked",
    "Ensemble.size": "as many of them, drawn once by `seed`; all",
    "strategy": "names joined by ` -> `; all of them in order",
}
"""What stands beside a default, or in its place; keys as in `CONFIG_DEFAULTS`."""


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
        # The protocol has them; this version of the daemon makes none.
        "host_calls": [{"target": name, "sent": False} for name in HOST_CALL_TARGETS],
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
