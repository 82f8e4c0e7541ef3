"""Syntax of functions and classes, without what makes no difference to what they do."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def syntax_of(thing: FunctionType | type[Any]) -> ast.Module | None:
    """The syntax without comments, layout, docstrings, and the decorators that make nodes.

    None for what has no source of its own: a lambda, or code that was typed at a prompt.
    """
    if thing.__name__ == "<lambda>":
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, SyntaxError, TypeError):
        return None
    namespace = getattr(thing, "__globals__", {})
    for definition in _definitions(tree):
        definition.decorator_list = [
            decorator for decorator in definition.decorator_list if not _makes_node(decorator, namespace)
        ]
    for node in ast.walk(tree):
        if isinstance(node, Definition):
            node.body = _without_docstring(node.body)
    return tree


def decorator_names(tree: ast.Module) -> set[str]:
    """Names in the decorators of what the tree defines, with their attributes."""
    decorators = [decorator for node in _definitions(tree) for decorator in node.decorator_list]
    return {name for decorator in decorators for name in names_in(decorator) | attributes_in(decorator)}


def names_in(tree: ast.AST) -> set[str]:
    """All names that the tree mentions."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def attributes_in(tree: ast.AST) -> set[str]:
    """All names that stand after a dot."""
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def imports_in(tree: ast.AST) -> Iterator[tuple[str, frozenset[str]]]:
    """Modules that are imported inside the tree, relative ones with their dots, and names taken from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            taken = frozenset(alias.name for alias in node.names)
            yield "." * node.level + (node.module or ""), taken
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, frozenset()


def looked_up(code: CodeType) -> set[str]:
    """Global names and attributes that the code looks up, also in the functions inside it."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*map(looked_up, inner))


def _definitions(tree: ast.Module) -> list[Definition]:
    return [node for node in tree.body if isinstance(node, Definition)]


def _makes_node(decorator: ast.expr, namespace: Mapping[str, Any]) -> bool:
    decorator = decorator.func if isinstance(decorator, ast.Call) else decorator
    path: list[str] = []
    while isinstance(decorator, ast.Attribute):
        path.insert(0, decorator.attr)
        decorator = decorator.value
    found = namespace.get(decorator.id) if isinstance(decorator, ast.Name) else None
    for name in path:
        found = getattr(found, name, None)
    return getattr(found, "__module__", None) == "envol.project.nodes"


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return body[1:] or [ast.Pass()]
    return body
