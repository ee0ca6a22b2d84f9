"""The laws of the tree, kept by reading it: who imports whom, and what nobody does."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path for package in ("protocol", "bridge") for path in (ROOT / package).rglob("*.py")
)

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"protocol", "bridge", "bridge.priority", "bridge.turnstile", "bridge.strand"}),
    frozenset(
        {"bridge.specs", "bridge.judges", "bridge.metrics", "bridge.retrieval", "bridge.scorers"}
    ),
    frozenset({"bridge.embedded"}),
    frozenset(
        {
            "bridge.hostlink",
            "bridge.scope",
            "bridge.stream",
            "bridge.secrets",
            "bridge.settings",
            "bridge.log",
        }
    ),
    frozenset({"bridge.datasets", "bridge.ensembles", "bridge.ledger", "bridge.registry"}),
    frozenset({"bridge.client"}),
    frozenset({"bridge.engine", "bridge.sandbox", "bridge.runs"}),
    frozenset({"bridge.commands"}),
    frozenset({"bridge.serving"}),
    frozenset({"bridge.demo", "bridge.report"}),
    frozenset({"bridge.__main__"}),
)
"""From the bottom up: a part imports its own layer's and those below. `bridge` is the package's
own file, which holds the version."""

HOST_SIDE = frozenset({"bridge.client", "bridge.demo", "bridge.report"})
"""The host's side of the wire: it knows of the daemon what any host knows."""

MOST_LINES = 450


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = frozenset(map(module_name, SOURCES))


def part_of(module: str) -> str:
    """The row of `LAYERS` that a module belongs to."""
    names = module.split(".")
    return names[0] if names[0] != "bridge" else ".".join(names[:2])


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, wherever the import stands."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                # `from bridge import x` means the module bridge.x, if there is one.
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def calls_of(path: Path) -> Iterator[str]:
    """The dotted names of what a file calls."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def ours(path: Path) -> Iterator[str]:
    """The modules of this project that a file imports."""
    return (name for name in imports_of(path) if name.split(".")[0] in {"bridge", "protocol"})


def test_imports_point_one_way() -> None:
    rank = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    assert {part_of(module_name(path)) for path in SOURCES} <= set(rank), "give each part a layer"
    offences = [
        f"{named(path)} imports {module}"
        for path in SOURCES
        for module in ours(path)
        if rank[part_of(module)] > rank[part_of(module_name(path))]
    ]
    assert offences == []


def test_only_the_engine_imports_dspy() -> None:
    offences = [
        f"{named(path)} imports {module}"
        for path in SOURCES
        if part_of(module_name(path)) != "bridge.engine"
        for module in imports_of(path)
        if module.split(".")[0] in {"dspy", "litellm", "gepa"}
    ]
    assert offences == []


def test_the_protocol_imports_the_standard_library_and_its_codecs_only() -> None:
    # It does no I/O, starts no thread and has no clock.
    allowed = {"protocol", "orjson", "msgpack", *sys.stdlib_module_names}
    allowed -= {"asyncio", "io", "os", "select", "socket", "subprocess", "threading", "time"}
    offences = [
        f"{named(path)} imports {module}"
        for path in SOURCES
        if part_of(module_name(path)) == "protocol"
        for module in imports_of(path)
        if module.split(".")[0] not in allowed
    ]
    assert offences == []


def test_the_specs_are_pure_data() -> None:
    allowed = {"bridge.specs", "protocol"}
    allowed |= {"bridge.judges", "bridge.metrics", "bridge.retrieval", "bridge.scorers"}
    offences = [
        f"{named(path)} imports {module}"
        for path in SOURCES
        if part_of(module_name(path)) == "bridge.specs"
        for module in ours(path)
        if part_of(module) not in allowed
    ]
    assert offences == []


def test_the_host_side_knows_the_protocol_and_nothing_else_of_the_daemon() -> None:
    offences = [
        f"{named(path)} imports {module}"
        for path in SOURCES
        if part_of(module_name(path)) in HOST_SIDE
        for module in ours(path)
        if part_of(module) not in HOST_SIDE | {"protocol"}
    ]
    assert offences == []


def callers(forbidden: set[str]) -> list[str]:
    """Who calls one of these, as ``file: name``."""
    return [
        f"{named(path)}: {name}" for path in SOURCES for name in calls_of(path) if name in forbidden
    ]


def test_nobody_runs_given_source_or_imports_by_name() -> None:
    assert callers({"exec", "eval", "compile", "builtins.exec", "builtins.eval"}) == []
    assert callers({"__import__", "import_module", "importlib.import_module"}) == []
    assert callers({"runpy.run_path", "runpy.run_module"}) == []


def test_nobody_pickles() -> None:
    picklers = {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
    offences = [
        f"{named(path)} imports {module}"
        for path in SOURCES
        for module in imports_of(path)
        if module.split(".")[0] in picklers
    ]
    assert offences == []


def test_only_one_file_of_the_daemon_moves_descriptors() -> None:
    movers = {caller.partition(":")[0] for caller in callers({"os.dup2", "os.dup", "dup2"})}
    # `dspy-bridge schema` is no daemon: it ends when the reader of its output has gone.
    assert movers - {"bridge/commands/schema.py"} == {"bridge/serving/descriptors.py"}


def test_nobody_configures_dspy_for_everyone() -> None:
    assert callers({"dspy.configure", "dspy.settings.configure"}) == []


def test_files_are_short() -> None:
    lines = {named(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: count for name, count in lines.items() if count >= MOST_LINES} == {}


def test_every_file_says_what_it_is() -> None:
    assert [named(path) for path in SOURCES if not ast.get_docstring(tree_of(path))] == []


def test_files_are_named_after_what_they_are() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "core"}
    offences = [
        named(path) for path in SOURCES if vague & set(path.relative_to(ROOT).with_suffix("").parts)
    ]
    assert offences == []


def test_what_a_file_offers_is_there() -> None:
    for path in SOURCES:
        offered, defined = offered_and_defined(tree_of(path))
        assert set(offered) <= defined, named(path)
        assert len(offered) == len(set(offered)), named(path)


def offered_and_defined(tree: ast.Module) -> tuple[list[str], set[str]]:
    """The names of a file's `__all__`, and those that it defines or imports."""
    offered: list[str] = []
    defined: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            if "__all__" in names and node.value is not None:
                offered = ast.literal_eval(node.value)
            defined |= names
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            defined.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            defined |= {alias.asname or alias.name for alias in node.names}
    return offered, defined
