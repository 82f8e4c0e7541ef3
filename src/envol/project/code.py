"""What code consists of: a function, a class or a value of a project, with all of the project that it names.

Functions and classes count by their syntax (see `syntax`): a renamed local variable is a change, a comment
is none. Values count by content when they are made of numbers, texts, dates, paths, containers, Polars and
numpy data, and instances of the project's classes; of others only the type counts, as libraries do not.
Names computed while a function runs (`getattr(module, text)`) are not followed.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path, PurePath
from re import Pattern
from types import BuiltinFunctionType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any
from uuid import UUID

from envol.project.importing import is_project_file
from envol.project.syntax import attributes_in, decorator_names, imports_in, looked_up, names_in, syntax_of

_PLAIN = bool | int | float | complex | str | bytes | None | date | time | timedelta | tzinfo | Decimal | UUID


def code_parts(thing: Any, root: Path) -> list[str]:
    """What `thing` of the project in the folder `root` consists of: the same in every process."""
    return list(_Reading(root.resolve()).parts(thing))


class _Reading:
    """One reading: what was read once is only named when it comes again, as in a recursion."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._read: dict[int, Any] = {}
        self._reading: set[int] = set()

    def parts(self, thing: Any, attributes: Iterable[str] = ()) -> Iterator[str]:
        """The parts of a thing; of a module only what the `attributes` name, if they name any of it."""
        if id(thing) in self._reading:
            yield "itself"
            return
        self._reading.add(id(thing))
        try:
            yield from self._parts(thing, attributes)
        finally:
            self._reading.discard(id(thing))

    def _parts(self, thing: Any, attributes: Iterable[str]) -> Iterator[str]:
        if isinstance(thing, Enum):
            yield thing.name
            yield from self._definition(type(thing))
        elif isinstance(thing, _PLAIN):
            yield f"{type(thing).__qualname__} {thing!r}"
        elif isinstance(thing, PurePath):  # from the project's folder, which may be moved
            yield f"path {thing.relative_to(self._root) if self._root in thing.parents else thing}"
        elif isinstance(thing, BuiltinFunctionType):
            yield thing.__qualname__
        elif isinstance(thing, Pattern):
            yield f"pattern {thing.flags} {thing.pattern!r}"
        elif isinstance(thing, FunctionType | type):
            yield from self._definition(thing)
        elif isinstance(thing, ModuleType):
            yield from self._module(thing, set(attributes))
        elif isinstance(thing, MethodType):
            yield from self._all([thing.__self__, thing.__func__])
        elif isinstance(thing, partial):
            yield from self._all([thing.func, thing.args, thing.keywords])
        elif isinstance(wrapped := inspect.getattr_static(thing, "__wrapped__", None), FunctionType):
            yield from self._definition(wrapped)  # of functools.cache and the like
        elif isinstance(thing, dict | MappingProxyType):
            yield f"{type(thing).__qualname__} of {len(thing)}"
            yield from self._all(part for item in thing.items() for part in item)
        elif isinstance(thing, list | tuple):
            yield f"{type(thing).__qualname__} of {len(thing)}"
            yield from self._all(thing)
        elif isinstance(thing, set | frozenset):
            yield f"set of {len(thing)}"
            yield from sorted("\0".join(self.parts(item)) for item in thing)
        else:
            yield from self._instance(thing)

    def _all(self, things: Iterable[Any]) -> Iterator[str]:
        for thing in things:
            yield from self.parts(thing)

    def _instance(self, thing: Any) -> Iterator[str]:
        kind = type(thing)
        library = kind.__module__.partition(".")[0]
        if library == "polars":
            yield _polars_content(thing)
        elif library == "numpy" and hasattr(thing, "dtype"):
            yield f"{thing.dtype} {thing.shape}"
            yield from self.parts(thing.tolist() if thing.dtype.hasobject else thing.tobytes())
        else:
            yield from self._definition(kind)
            if library == "dataframely" or self._owns(kind):
                yield from self.parts(_state(thing))

    def _module(self, module: ModuleType, attributes: set[str]) -> Iterator[str]:
        if not self._owns(module):
            yield f"module {module.__name__}"
            return
        content = {name: value for name, value in vars(module).items() if not name.startswith("__")}
        yield from self._named(attributes & set(content) or set(content), content, attributes)

    def _definition(self, thing: FunctionType | type[Any]) -> Iterator[str]:
        thing = inspect.unwrap(thing) if isinstance(thing, FunctionType) else thing
        yield thing.__qualname__
        if id(thing) in self._read or not self._owns(thing):
            return
        self._read[id(thing)] = thing
        tree = syntax_of(thing)
        if tree is not None:
            yield ast.unparse(tree)
        if isinstance(thing, FunctionType):
            yield from self._function(thing, tree)
        else:
            yield from self._class(thing, tree)

    def _function(self, function: FunctionType, tree: ast.Module | None) -> Iterator[str]:
        code = function.__code__
        names = attributes = looked_up(code)
        if tree is None:
            yield from self._code(code)
        else:
            # The code knows globals from locals, the syntax knows names from attributes.
            names = (names & names_in(tree)) | decorator_names(tree)
            attributes = attributes | decorator_names(tree)
        yield from self.parts(function.__defaults__)
        yield from self.parts(function.__kwdefaults__)
        cells = zip(code.co_freevars, function.__closure__ or (), strict=False)
        closure = {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}
        yield from self._named(set(closure), closure, attributes)
        yield from self._named(names, function.__globals__, attributes)
        yield from self._imported(tree, function.__globals__, attributes)

    def _code(self, code: CodeType) -> Iterator[str]:
        yield repr((code.co_code, code.co_names, code.co_varnames))
        for constant in code.co_consts:
            yield from self._code(constant) if isinstance(constant, CodeType) else self.parts(constant)

    def _class(self, kind: type[Any], tree: ast.Module | None) -> Iterator[str]:
        yield from self._all(kind.__bases__)
        if tree is None:
            yield from self.parts({name: vars(kind)[name] for name in vars(kind) if not name.startswith("_")})
            return
        namespace = vars(inspect.getmodule(kind) or kind)
        attributes = attributes_in(tree)
        yield from self._named(names_in(tree), namespace, attributes)
        yield from self._imported(tree, namespace, attributes)

    def _named(
        self, names: set[str], namespace: Mapping[str, Any], attributes: Iterable[str]
    ) -> Iterator[str]:
        for name in sorted(names):
            if name in namespace:
                yield f"{name}:"
                yield from self.parts(namespace[name], attributes)

    def _imported(
        self, tree: ast.Module | None, namespace: Mapping[str, Any], attributes: set[str]
    ) -> Iterator[str]:
        """What the project's own modules give that are imported inside a function."""
        for name, taken in imports_in(tree) if tree else ():
            module = self._project_module(name, namespace.get("__package__"))
            if module is not None:
                for submodule in sorted(taken - set(vars(module))):
                    self._project_module(f"{module.__name__}.{submodule}", None)
                yield f"{name}:"
                yield from self.parts(module, attributes | taken)

    def _project_module(self, name: str, package: str | None) -> ModuleType | None:
        try:
            name = importlib.util.resolve_name(name, package)
            spec = importlib.util.find_spec(name.partition(".")[0])
            places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
            if any(place and is_project_file(place, self._root) for place in places):
                return importlib.import_module(name)
        except Exception:  # the function that imports it fails when it runs, and says why
            return None
        return None

    def _owns(self, thing: FunctionType | type[Any] | ModuleType) -> bool:
        """Whether a function, class or module is part of the project."""
        try:
            return is_project_file(inspect.getfile(thing), self._root)
        except (TypeError, OSError):  # built in, or a folder of modules
            return any(is_project_file(place, self._root) for place in getattr(thing, "__path__", ()))


def _state(thing: Any) -> dict[str, Any]:
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    held = {name: getattr(thing, name) for name in slots if hasattr(thing, name)}
    return {**held, **getattr(thing, "__dict__", {})}


def _polars_content(thing: Any) -> str:
    import polars as pl

    if isinstance(thing, pl.Series):
        thing = thing.to_frame()
    if isinstance(thing, pl.DataFrame):
        return f"{thing.schema} {thing.write_ipc(None).getvalue().hex()}"
    return thing.meta.serialize().hex() if isinstance(thing, pl.Expr) else f"{type(thing).__name__} {thing}"


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False
