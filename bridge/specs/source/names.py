"""Which names source binds and which it finds: what nobody binds before it is read is an input.

The walk follows the order in which statements stand, as a reader does. Functions are looked into
when everything at the top is known, because they run later.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING

from bridge.specs.source.language import ALWAYS_THERE, LACKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["Names", "names_of"]

TYPO = 0.8
"""A name this much like one that was met before is taken for a typo, not for an input."""

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(slots=True)
class Names:
    """What a walk over source found.

    Attributes:
        read: names that nobody binds before, each with the node that reads it first, in order.
        called: those of `read` that are called somewhere.
        lacking: built-in names that the sandbox has not.
        typos: names of `read`, each with the one that it was probably meant to be.
        bound: names bound at the top.
        values: what each name at the top was given; None for a loop's, an import's and the like.
    """

    read: dict[str, ast.Name] = field(default_factory=dict)
    called: dict[str, ast.Name] = field(default_factory=dict)
    lacking: dict[str, ast.Name] = field(default_factory=dict)
    typos: dict[str, str] = field(default_factory=dict)
    bound: set[str] = field(default_factory=set)
    values: dict[str, list[ast.expr | None]] = field(default_factory=dict)


def names_of(tree: ast.Module, given: Collection[str] = ()) -> Names:
    """The names of source; `given` are bound before it begins."""
    walk = _Walk(set(given))
    for node in tree.body:
        walk.visit(node)
    while walk.later:
        function, outer = walk.later.pop(0)
        _function(walk, function, outer)
    return walk.names


class _Walk(ast.NodeVisitor):
    """One scope: the top, or a function's body over what is around it."""

    def __init__(self, bound: set[str], *, top: _Walk | None = None) -> None:
        self.top = top or self
        self.inner: set[str] = bound
        if top is None:
            self.names = Names()
            self.names.bound = bound
            self.later: list[tuple[Function, frozenset[str]]] = []

    # Reading

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.read(node)
        else:
            self.bind(node.id, None)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and not self.knows(node.func.id):
            self.top.names.called.setdefault(node.func.id, node.func)
        self.generic_visit(node)

    def read(self, node: ast.Name) -> None:
        if self.knows(node.id):
            return
        names = self.top.names
        if node.id in LACKING:
            names.lacking.setdefault(node.id, node)
        elif node.id not in names.read:
            close = _meant(node.id, {*self.inner, *names.read})
            if close is not None:
                names.typos[node.id] = close
            names.read[node.id] = node

    def knows(self, name: str) -> bool:
        return name in self.inner or name in self.top.names.bound or name in ALWAYS_THERE

    # Binding

    def bind(self, name: str, value: ast.expr | None) -> None:
        self.inner.add(name)
        if self is self.top:
            self.names.values.setdefault(name, []).append(value)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.target(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
            self.target(node.target, node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.read(ast.copy_location(ast.Name(node.target.id, ast.Load()), node.target))
        self.visit(node.value)
        self.target(node.target, None)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self.target(node.target, node.value)

    def target(self, node: ast.expr, value: ast.expr | None) -> None:
        if isinstance(node, ast.Name):
            self.bind(node.id, value)
        else:
            self.visit(node)

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self.target(node.target, None)
        for child in [*node.body, *node.orelse]:
            self.visit(child)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            self.bind(alias.asname or alias.name.partition(".")[0], None)

    visit_ImportFrom = visit_Import  # noqa: N815

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name is not None:
            self.bind(node.name, None)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.name is not None:
            self.bind(node.name, None)
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name is not None:
            self.bind(node.name, None)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest is not None:
            self.bind(node.rest, None)
        self.generic_visit(node)

    # Scopes within

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for part in [
            *node.decorator_list,
            *node.args.defaults,
            *filter(None, node.args.kw_defaults),
        ]:
            self.visit(part)
        self.bind(node.name, None)
        self.top.later.append((node, frozenset(self.inner)))

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for part in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
            self.visit(part)
        self.top.later.append((node, frozenset(self.inner)))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in [*node.bases, *node.decorator_list]:
            self.visit(part)
        inside = _Walk(set(self.inner), top=self.top)
        for child in node.body:
            inside.visit(child)
        self.bind(node.name, None)

    def comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> None:
        inside = _Walk(set(self.inner), top=self.top)
        for each in node.generators:
            inside.visit(each.iter)
            inside.target(each.target, None)
            for condition in each.ifs:
                inside.visit(condition)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        for part in parts:
            inside.visit(part)

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = comprehension  # noqa: N815


def _meant(name: str, known: Collection[str]) -> str | None:
    """The known name that this one is a misspelling of; a plural is none."""
    likely = get_close_matches(name, known, n=1, cutoff=TYPO)
    return next((each for each in likely if each.rstrip("s") != name.rstrip("s")), None)


def _function(walk: _Walk, node: Function, outer: frozenset[str]) -> None:
    arguments = node.args
    named: Iterable[ast.arg | None] = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    inner = {each.arg for each in named if each is not None} | outer
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    inside = _Walk(inner | _bound_within(body), top=walk)
    for child in body:
        inside.visit(child)


def _bound_within(body: list[ast.stmt] | list[ast.expr]) -> set[str]:
    """What a function binds anywhere in it: all of that is its own."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            continue
        elif isinstance(node, ast.Lambda):
            continue
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {a.asname or a.name.partition(".")[0] for a in node.names}
        waiting += ast.iter_child_nodes(node)
    return found
