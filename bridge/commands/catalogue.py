"""The names that `hello` tells, as plain data: no pydantic, no DSPy, so that it answers at once.

A test holds each list against the registry it stands for.
"""

from __future__ import annotations

__all__ = ["ADAPTERS", "FAMILIES", "METRICS", "MODULES"]

FAMILIES: dict[str, tuple[str, ...]] = {
    "greeting": ("hello", "ping"),
    "configuring": ("configure",),
    "creating": ("create_module", "create_program"),
    "running": ("forward", "execute", "batch"),
    "generating": ("generate", "generate_batch", "count_tokens", "lm_chunk"),
    "keeping": ("get", "list", "delete", "export", "import"),
    "observing": ("history", "usage", "stats"),
    "optimizing": ("optimize", "evaluate", "run_list", "run_get", "run_stop", "put_dataset"),
    "steering": ("cancel", "shutdown"),
}
"""Command names by the file of this package that holds them."""

MODULES = (
    "predict",
    "chain_of_thought",
    "multi_chain_comparison",
    "best_of_n",
    "refine",
    "custom",
    "react",
    "react_v2",
    "program_of_thought",
    "code_act",
    "rlm",
    "retrieve",
)
METRICS = ("exact_match", "f1_score", "passage_match", "contains", "max_words")
ADAPTERS = ("chat", "json", "xml", "two_step")
