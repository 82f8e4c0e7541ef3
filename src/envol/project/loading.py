"""A project from its folder: configuration, the modules' nodes, their graph and parameters."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envol.errors import ConfigError, EnvolError, ProjectError
from envol.project.config import FILE, Config, read_config
from envol.project.windows import Calendar

if TYPE_CHECKING:
    from datetime import datetime

    from envol.project.fingerprint import Definition
    from envol.project.graph import Graph
    from envol.project.nodes import Node
    from envol.project.parameters import Parameters

_NOT_NODES = ("test_", "conftest", "setup", "_")


@dataclass(frozen=True)
class Project:
    """One project folder. What it declares is imported when first asked for."""

    root: Path
    config: Config

    @property
    def name(self) -> str:
        return self.config.project.name

    @property
    def store_path(self) -> Path:
        """Folder of the tables, the metadata, the artifacts and the prediction log."""
        return self.root / self.config.storage.path

    @cached_property
    def calendar(self) -> Calendar:
        return Calendar(self.config.project.timezone)

    @cached_property
    def start(self) -> datetime:
        """First instant of the project's data."""
        return self.calendar.instant(self.config.project.start)

    @cached_property
    def end(self) -> datetime | None:
        """The instant its data end; None while they go on."""
        end = self.config.project.end
        return None if end is None else self.calendar.instant(end)

    @cached_property
    def graph(self) -> Graph:
        """The nodes in the order of their data.

        Raises:
            ProjectError: the modules cannot be imported, or their declarations do not fit together.
        """
        from envol.project.graph import build_graph

        graph = build_graph(_declared(self.root, self.config.project.modules))
        if not graph.nodes:
            raise ProjectError(
                f"no module of {self.root} declares a node",
                remedy="decorate a function with @source, or name the modules under [project] in envol.toml",
            )
        return graph

    @cached_property
    def parameters(self) -> Mapping[str, Parameters]:
        """Parameters by node name."""
        from envol.project.parameters import resolve_parameters

        return resolve_parameters(self.graph.nodes.values(), self.config.parameters)

    @cached_property
    def definitions(self) -> Mapping[str, Definition]:
        """What each node is, as hashes, by node name."""
        from envol.project.fingerprint import define

        return {
            name: define(node, self.parameters[_subject(node)].values, self.root)
            for name, node in self.graph.nodes.items()
        }


def load_project(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Project:
    """The project in the folder `path`, or in the current folder or the nearest one above.

    Raises:
        ConfigError: there is no `envol.toml`, or it is wrong.
    """
    root = _find_root(Path.cwd() if path is None else Path(path), upwards=path is None)
    project = Project(root, read_config(root / FILE, environment))
    if project.end is not None and project.end <= project.start:
        raise ConfigError(
            f"{FILE}: end ({project.config.project.end}) is not after start ({project.config.project.start})",
            remedy="give the project at least one window",
        )
    return project


def _subject(node: Node) -> str:
    """Name of the node whose parameters count: predictions follow those of their model."""
    from envol.project.nodes import Predictions

    return node.model.name if isinstance(node, Predictions) else node.name


def _find_root(start: Path, *, upwards: bool) -> Path:
    start = start.resolve()
    if start.name == FILE:
        return start.parent
    for folder in (start, *start.parents) if upwards else (start,):
        if (folder / FILE).is_file():
            return folder
    return start


def _declared(root: Path, modules: tuple[str, ...]) -> list[Node]:
    names = modules or tuple(
        path.stem for path in sorted(root.glob("*.py")) if not path.stem.startswith(_NOT_NODES)
    )
    with _importing_from(root):
        for name in names:
            _import(name, root)
        loaded = [module for module in list(sys.modules.values()) if _belongs(module, root)]
    return [node for module in loaded for node in getattr(module, "__envol_nodes__", ())]


def _import(name: str, root: Path) -> None:
    try:
        importlib.import_module(name)
    except EnvolError as error:
        raise error from None
    except SyntaxError as error:
        raise ProjectError(f"{error.filename}:{error.lineno}: {error.msg}") from None
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise ProjectError(
                f"there is no module {name!r} in {root}",
                remedy="mend `modules` under [project] in envol.toml",
            ) from None
        frames = [f for f in traceback.extract_tb(error.__traceback__) if str(root) in f.filename]
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else name
        raise ProjectError(
            f"importing {name} failed at {place}: {type(error).__name__}: {error}",
            remedy="install what it needs, or mend that line",
        ) from error


@contextmanager
def _importing_from(root: Path) -> Iterator[None]:
    """Import the project's modules as they are on disk now, and before others of the same name."""
    for name, module in list(sys.modules.items()):
        if _belongs(module, root) or _shadows(name, module, root):
            del sys.modules[name]
    importlib.invalidate_caches()
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # bytecode is told apart by whole seconds: an edit could go unseen
    if str(root) in sys.path:
        sys.path.remove(str(root))
    sys.path.insert(0, str(root))  # stays: functions may import more when they run
    try:
        yield
    finally:
        sys.dont_write_bytecode = written


def _belongs(module: Any, root: Path) -> bool:
    file = getattr(module, "__file__", None)
    if not file or getattr(module, "__name__", "") == "__main__":
        return False
    path = Path(file)
    return root in path.parents and "site-packages" not in path.parts


def _shadows(name: str, module: Any, root: Path) -> bool:
    """Whether another project's module of that name was imported before."""
    declares = hasattr(module, "__envol_nodes__")
    return declares and ((root / f"{name}.py").exists() or (root / name / "__init__.py").exists())
