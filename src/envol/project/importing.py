"""Importing a project's modules as they are on disk now, and finding the nodes that they declare."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envol.errors import EnvolError, ProjectError
from envol.project.names import nearest

if TYPE_CHECKING:
    from envol.project.nodes import Node

_INSTALLED = {"site-packages", "dist-packages"}


@dataclass(frozen=True)
class _Folder:
    """A project's folder, and the first parts of the names that can be imported from it."""

    root: Path
    names: frozenset[str]

    def holds(self, module: Any) -> bool:
        """Whether the module was imported from the folder."""
        try:
            name, file = module.__name__, getattr(module, "__file__", None)
            places = [file] if file else list(getattr(module, "__path__", ()))
        except Exception:  # some modules load themselves when they are asked
            return False
        top = name.partition(".")[0]
        if top in ("__main__", "envol"):
            return False
        # Resolving the files of all modules takes as long as importing the project.
        return any(
            isinstance(place, str)
            and (top in self.names or place.startswith(str(self.root)))
            and is_project_file(place, self.root)
            for place in places
        )


_imported: dict[Path, _Folder] = {}


def declared_nodes(root: Path, modules: tuple[str, ...]) -> list[Node]:
    """The nodes of the project in the folder `root`, in the order of their declaration.

    Args:
        root: the project's folder, resolved.
        modules: names of the modules to import; without any, all modules of the folder itself but tests.

    Raises:
        ProjectError: a module is missing, or cannot be imported, with file and line.
    """
    folder = _Folder(root, frozenset(path.stem for path in root.iterdir()))
    with _importing_from(folder):
        for name in modules or _default_modules(root):
            _import(name, folder)
        loaded = {id(module): module for module in list(sys.modules.values()) if folder.holds(module)}
    return [node for module in loaded.values() for node in getattr(module, "__envol_nodes__", ())]


def is_project_file(file: str | Path, root: Path) -> bool:
    """Whether a file is part of the project in the folder `root`, not of a library installed in there."""
    path = Path(file)
    if not path.is_absolute():  # "<frozen importlib.util>": the interpreter's own, wherever one stands
        return False
    if root not in path.parents:
        path = Path(os.path.realpath(path))
    return root in path.parents and _INSTALLED.isdisjoint(path.relative_to(root).parts)


def _default_modules(root: Path) -> tuple[str, ...]:
    return tuple(
        name
        for name in (path.stem for path in sorted(root.glob("*.py")))
        if name not in ("conftest", "setup") and not name.startswith(("_", "test_")) and "." not in name
    )


def _import(name: str, folder: _Folder) -> None:
    try:
        module = importlib.import_module(name)
    except EnvolError as error:
        raise error from None
    except (Exception, SystemExit) as error:
        raise _import_error(name, error, folder.root) from error
    if not folder.holds(module):
        raise ProjectError(
            f"the module {name!r} is {getattr(module, '__file__', None) or 'part of Python'}, "
            f"not a module of {folder.root}",
            remedy="rename the project's module, or mend `modules` under [project] in envol.toml",
        )


def _import_error(name: str, error: BaseException, root: Path) -> ProjectError:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing and f"{name}.".startswith(f"{missing}."):
        return ProjectError(
            f"there is no module {name!r} in {root}",
            remedy=f"mend `modules` under [project] in envol.toml; {nearest(name, _default_modules(root))}",
        )
    if isinstance(error, SyntaxError) and error.filename and is_project_file(error.filename, root):
        return ProjectError(f"{error.filename}:{error.lineno}: {error.msg}", remedy="mend that line")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if os.path.isabs(frame.filename) and is_project_file(frame.filename, root)
    ]
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else name
    return ProjectError(
        f"importing {name} failed at {place}: {type(error).__name__}: {error}",
        remedy="install what it needs, or mend that line",
    )


@contextmanager
def _importing_from(folder: _Folder) -> Iterator[None]:
    """Import the project's modules as they are on disk now, and before others of the same name."""
    _forget_modules(folder)
    _imported[folder.root] = folder
    importlib.invalidate_caches()
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # bytecode is told apart by whole seconds: an edit could go unseen
    if str(folder.root) in sys.path:
        sys.path.remove(str(folder.root))
    sys.path.insert(0, str(folder.root))  # stays: functions may import more when they run
    try:
        yield
    finally:
        sys.dont_write_bytecode = written


def _forget_modules(folder: _Folder) -> None:
    """Forget what was imported from the folder, and what another project has under the same names."""
    for name, module in list(sys.modules.items()):
        if folder.holds(module) or (name.partition(".")[0] in folder.names and _is_of_a_project(module)):
            del sys.modules[name]


def _is_of_a_project(module: Any) -> bool:
    declares = "__envol_nodes__" in getattr(module, "__dict__", {})
    return declares or any(other.holds(module) for other in _imported.values())
