"""A project from its folder: configuration, the modules' nodes, their graph and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from envol.errors import ConfigError, ProjectError
from envol.project.config import FILE, Config, place_in, read_config
from envol.project.names import nearest
from envol.project.windows import Calendar

if TYPE_CHECKING:
    from datetime import datetime

    from envol.project.fingerprint import CodeHashes, Definition
    from envol.project.graph import Graph
    from envol.project.parameters import Parameters


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

    @property
    def graph(self) -> Graph:
        """The nodes in the order of their data.

        Raises:
            ProjectError: the modules cannot be imported, or their declarations do not fit together.
        """
        return self._loaded[0]

    @cached_property
    def parameters(self) -> Mapping[str, Parameters]:
        """Parameters by node name."""
        from envol.project.parameters import resolve_parameters

        return resolve_parameters(
            self.graph.nodes.values(), self.config.parameters, partial(place_in, self.root / FILE)
        )

    @cached_property
    def resources(self) -> Mapping[str, int]:
        """How many tasks may hold each resource at once.

        Raises:
            ConfigError: a node names a resource that [resources] does not.
        """
        known = self.config.resources
        for node in self.graph.nodes.values():
            for name in node.resources:
                if name not in known:
                    raise ConfigError(
                        f"{FILE} does not say how many tasks may hold the resource {name!r} at once",
                        node=node.name,
                        remedy=nearest(name, known) if known else f"add under [resources]: {name} = 1",
                    )
        return known

    @cached_property
    def definitions(self) -> Mapping[str, Definition]:
        """What each node is, as hashes, by node name."""
        from envol.project.fingerprint import define, parameters_of

        graph, hashes = self._loaded
        return {
            name: define(node, hashes[name], self.parameters[parameters_of(node)].values, self.root)
            for name, node in graph.nodes.items()
        }

    @cached_property
    def _loaded(self) -> tuple[Graph, Mapping[str, CodeHashes]]:
        """The graph, and the hashes of its code, taken before a file is edited or another project loaded."""
        from envol.project.fingerprint import hash_code
        from envol.project.graph import build_graph
        from envol.project.importing import declared_nodes

        graph = build_graph(declared_nodes(self.root, self.config.project.modules))
        if not graph.nodes:
            raise ProjectError(
                f"no module of {self.root} declares a node",
                remedy="decorate a function with @source, or name the modules under [project] in envol.toml",
            )
        return graph, hash_code(graph.nodes.values(), self.root)


def load_project(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Project:
    """The project in the folder `path`, or in the current folder or the nearest one above.

    Raises:
        ConfigError: there is no `envol.toml`, or it is wrong.
    """
    root = _find_root(Path.cwd() if path is None else Path(path), upwards=path is None)
    return Project(root, read_config(root / FILE, environment))


def _find_root(start: Path, *, upwards: bool) -> Path:
    start = start.resolve()
    if start.name == FILE:
        return start.parent
    for folder in (start, *start.parents) if upwards else (start,):
        if (folder / FILE).is_file():
            return folder
    return start
