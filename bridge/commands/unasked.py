"""What the daemon says without being asked: its events, and its calls to the host.

Law: what stands here is what is sent; the daemon's tests hold every event and every call that they
meet against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EVENTS", "HOST_CALLS"]

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
    "log": (
        "A line of the daemon's log; its id is null. Whatever else the line says are further keys.",
        {
            "type": "object",
            "properties": {
                "level": {"enum": ["debug", "info", "warning", "error"]},
                "event": {"type": "string", "description": "what happened, in one word"},
            },
            "required": ["level", "event"],
        },
    ),
}
"""Event name to its meaning and the schema of its data."""

_MAP: dict[str, Any] = {"type": "object"}


def _args(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


HOST_CALLS: Mapping[str, dict[str, Any]] = {
    "tool": {
        "named": 'a module\'s `tools`: `[{"name", "description", "parameters": JSON Schema}]` '
        "(`react`, `react_v2`, `rlm`), or a program's",
        "args": {"type": "object", "description": "the tool's own arguments"},
        "answer": "any value; the LM sees it, and an error as words",
    },
    "metric": {
        "named": 'a metric `{"host": name}`, with a `threshold` if you like',
        "args": _args(
            {
                "example": _MAP,
                "prediction": _MAP,
                "trace": {"type": ["array", "null"]},
                "program_id": {"type": ["string", "null"]},
            },
            index={"type": "integer"},
            module={"type": "string"},
        ),
        "answer": "a number, a boolean, or `{score, feedback?}`",
    },
    "reward": {
        "named": 'a reward `{"host": name}` (`best_of_n`, `refine`)',
        "args": _args({"inputs": _MAP, "prediction": _MAP}),
        "answer": "a number; higher is better",
    },
    "retrieve": {
        "named": 'a `retrieve` module\'s config `{"host": name, "k"}`',
        "args": _args({"query": {"type": "string"}, "k": {"type": "integer"}}),
        "answer": "a list of texts, or of maps with a `text`",
    },
    "lm": {
        "named": 'an LM `{"provider": "host", "model": name}`',
        "args": _args(
            {
                "messages": {"type": "array", "items": _MAP},
                "config": _MAP,
                "tools": {"type": "array", "items": _MAP},
                "stream": {"type": "boolean"},
            }
        ),
        "answer": "text, or `{text?, tool_calls?, usage?, finish_reason?}`",
    },
    "forward": {
        "named": 'a program with `"forward": "host"`; `name` is the program\'s id',
        "args": _args({"program_id": {"type": ["string", "integer"]}, "inputs": _MAP}),
        "answer": "the output fields by name",
    },
}
"""Target to where a spec names the host's function, the schema of `args`, and what to answer."""
