"""What a node is, as short hashes: equal hashes mean that making it again would change nothing.

Code is hashed as its syntax tree without comments, layout, docstrings and decorators, together with the
functions, classes and constants of the project that it names. Libraries do not count.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from envol.project.nodes import Node, Outcomes, Predictions

# Settings that say how a task is carried out, not what comes of it.
_CARRYING_OUT = {"retries", "backoff", "timeout", "doc", "promote"}
# What is hashed in its own right.
_HASHED_APART = {"name", "function", "module", "arguments", "contract", "model"}


@dataclass(frozen=True)
class Definition:
    """Hashes of a node's code, its parameters and settings, and its contract."""

    code: str
    parameters: str
    contract: str


def define(node: Node, parameters: Mapping[str, Any], root: Path) -> Definition:
    """The definition of a node of the project in the folder `root`."""
    if isinstance(node, Outcomes):  # a join of two tables: no code of the project takes part
        return Definition(code="", parameters=digest(repr(node.model.key)), contract="")
    if isinstance(node, Predictions):  # made anew when the model is another one
        node = node.model
    settings = {
        field.name: getattr(node, field.name)
        for field in fields(node)
        if field.name not in _CARRYING_OUT | _HASHED_APART
    }
    return Definition(
        code=_code_of(node.function, root),
        parameters=digest(json.dumps([settings, dict(parameters)], sort_keys=True, default=str)),
        contract=_code_of(node.contract, root) if node.contract is not None else "",
    )


def digest(*parts: str | bytes) -> str:
    """A hash of 16 hex digits (64 bits of BLAKE2b) over the parts in order."""
    hasher = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "big"))
        hasher.update(data)
    return hasher.hexdigest()


def _code_of(thing: Callable[..., Any] | type[Any], root: Path) -> str:
    parts: list[str] = []
    _collect(thing, root.resolve(), parts, set())
    return digest(*parts)


def _collect(thing: Any, root: Path, parts: list[str], seen: set[int]) -> None:
    """Add what `thing` and all it names in the project consist of."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, ModuleType):
        parts.append(_tree(ast.parse(inspect.getsource(thing))))
        return
    thing = inspect.unwrap(thing) if callable(thing) else thing
    if isinstance(thing, FunctionType):
        parts.append(_source_of(thing))
        parts.append(repr(thing.__defaults__))
        closure = inspect.getclosurevars(thing)
        named: dict[str, Any] = {**closure.globals, **closure.nonlocals}
        for name in _names(thing.__code__):
            if name in thing.__globals__:
                named[name] = thing.__globals__[name]
    elif isinstance(thing, type):
        parts.append(_source_of(thing))
        for base in thing.__bases__:
            if _in_project(base, root):
                _collect(base, root, parts, seen)
        named = {
            f"{thing.__name__}.{name}": member
            for name, member in vars(thing).items()
            if isinstance(member, FunctionType)
        }
        namespace = vars(inspect.getmodule(thing) or thing)
        for node in ast.walk(ast.parse(_dedented(thing))):
            if isinstance(node, ast.Name) and node.id in namespace and node.id != thing.__name__:
                named[node.id] = namespace[node.id]
    else:
        parts.append(repr(thing))
        return
    for name, value in sorted(named.items()):
        if _in_project(value, root):
            parts.append(name)
            _collect(value, root, parts, seen)
        elif _is_constant(value):
            parts.append(f"{name}={value!r}")


def _names(code: CodeType) -> Iterator[str]:
    """Names that the code looks up, also inside the functions and comprehensions in it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _in_project(thing: Any, root: Path) -> bool:
    if not isinstance(thing, ModuleType | FunctionType | type):
        thing = inspect.unwrap(thing) if hasattr(thing, "__wrapped__") else None
    if thing is None:
        return False
    try:
        file = Path(inspect.getfile(thing)).resolve()
    except (TypeError, OSError):
        return False
    return root in file.parents and "site-packages" not in file.parts


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple | list | frozenset | set):
        return all(map(_is_constant, value))
    if isinstance(value, dict):
        return all(_is_constant(key) and _is_constant(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float | complex | str | bytes | Path)


def _source_of(thing: FunctionType | type[Any]) -> str:
    try:
        return _tree(ast.parse(_dedented(thing)))
    except (OSError, SyntaxError, TypeError):
        # A lambda inside an expression, or code typed at a prompt, has no source of its own.
        code = getattr(thing, "__code__", None)
        return repr((code.co_code, code.co_names, code.co_varnames)) if code else repr(thing)


def _dedented(thing: Any) -> str:
    return textwrap.dedent(inspect.getsource(thing))


def _tree(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.decorator_list = [] if node in tree.body else node.decorator_list
            node.body = _without_docstring(node.body)
    return ast.dump(tree)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return body[1:] or [ast.Pass()]
    return body
