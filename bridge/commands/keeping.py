"""`get`, `list`, `delete`, `export`, `import`: the registry as data. Datasets are not exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bridge.commands.command import Command, Invocation
from bridge.commands.creating import hide_keys
from bridge.registry import MOST_SPECS
from bridge.specs.checking import Args
from bridge.specs.modules import HostId, parse_module
from bridge.specs.programs import parse_program

if TYPE_CHECKING:
    from bridge.datasets import Dataset

__all__ = ["COMMANDS"]

Kind = Literal["module", "program", "dataset"]


class GetArgs(Args):
    """Arguments of `get`."""

    kind: Kind
    id: HostId


class ListArgs(Args):
    """Arguments of `list`."""

    kind: Annotated[Kind | None, Field(description="all kinds when left out")] = None


class DeleteArgs(Args):
    """Arguments of `delete`."""

    kind: Kind
    id: HostId


class ExportArgs(Args):
    """Arguments of `export`; everything when both are left out."""

    modules: list[HostId] | None = None
    programs: Annotated[list[HostId] | None, Field(description="with the modules they need")] = None


class ImportArgs(Args):
    """Arguments of `import`: what `export` gave."""

    modules: Annotated[list[Any], Field(default_factory=list, max_length=MOST_SPECS)]
    programs: Annotated[list[Any], Field(default_factory=list, max_length=MOST_SPECS)]


def get(args: GetArgs, invocation: Invocation) -> dict[str, Any]:
    """Give a spec back, learned state and version included; or a dataset with its examples."""
    registry = invocation.services.registry
    if args.kind == "dataset":
        found = registry.datasets.get(args.id)
        return {"kind": "dataset", **_row_of(found), "examples": list(found.rows)}
    spec = registry.module(args.id) if args.kind == "module" else registry.program(args.id)
    return {"kind": args.kind, "version": registry.version(spec), **spec.to_wire()}


def list_(args: ListArgs, invocation: Invocation) -> dict[str, Any]:
    """List modules, programs and datasets: id, version, and type, module names or count."""
    registry = invocation.services.registry
    result: dict[str, Any] = {}
    if args.kind in (None, "module"):
        result["modules"] = [
            {"id": spec.id, "type": spec.type, "version": spec.version}
            for spec in registry.modules()
        ]
    if args.kind in (None, "program"):
        result["programs"] = [
            {
                "id": spec.id,
                "modules": [ref.name for ref in spec.modules],
                "version": registry.version(spec),
            }
            for spec in registry.programs()
        ]
    if args.kind in (None, "dataset"):
        result["datasets"] = [_row_of(found) for found in registry.datasets.all()]
    return result


def delete(args: DeleteArgs, invocation: Invocation) -> dict[str, Any]:
    """Forget a spec or a dataset; requests in flight finish on it."""
    registry = invocation.services.registry
    if args.kind == "dataset":
        registry.datasets.delete(args.id)
    else:
        registry.delete(args.kind, args.id)
    return {"deleted": True, "kind": args.kind, "id": args.id}


def export(args: ExportArgs, invocation: Invocation) -> dict[str, Any]:
    """Give specs as data that `import` takes, in this process or a fresh one."""
    return invocation.services.registry.export(args.modules, args.programs)


def import_(args: ImportArgs, invocation: Invocation) -> dict[str, Any]:
    """Put exported specs in; all of them, or none when one is wrong; tell what they lack."""
    modules = [parse_module(item, f"modules[{i}]") for i, item in enumerate(args.modules)]
    programs = [parse_program(item, f"programs[{i}]") for i, item in enumerate(args.programs)]
    given = [module for program in programs for module in program.given]
    hide_keys([*modules, *given], invocation)
    missing = invocation.services.registry.restore(modules, programs)
    return {"modules": len(args.modules), "programs": len(args.programs), "missing": missing}


def _row_of(found: Dataset) -> dict[str, Any]:
    return {"id": found.id, "count": len(found.rows), "version": found.version}


COMMANDS = (
    Command("get", GetArgs, get),
    Command("list", ListArgs, list_),
    Command("delete", DeleteArgs, delete),
    Command("export", ExportArgs, export),
    Command("import", ImportArgs, import_),
)
