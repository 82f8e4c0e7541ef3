"""What a plan is asked about: some nodes, a range of time, or single windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from envol.pipeline.plan import Flags
    from envol.pipeline.schedule import Epochs, Slots
    from envol.project import Project


@dataclass(frozen=True, eq=False)
class Selection:
    """The named nodes' windows that are meant, whether to make them again; `wanted` adds what these read."""

    named: frozenset[str]
    wanted: frozenset[str]
    start: int | None
    end: int | None
    windows: Mapping[str, Epochs] | None
    rerun: bool

    @classmethod
    def of(
        cls,
        project: Project,
        *,
        nodes: Iterable[str] | None,
        start: datetime | None,
        end: datetime | None,
        windows: Mapping[str, Epochs] | None,
        rerun: bool,
    ) -> Selection:
        """The selection among a project's nodes.

        Raises:
            ProjectError: a named node does not exist.
        """
        if nodes is None:
            nodes = [name for name in project.graph.nodes if windows is None or name in windows]
        named = frozenset(nodes)
        return cls(
            named,
            frozenset(project.graph.upstream(named)),
            None if start is None else int(start.timestamp()),
            None if end is None else int(end.timestamp()),
            windows,
            rerun,
        )

    @property
    def partial(self) -> bool:
        """Whether some windows of the named nodes are left out."""
        return self.start is not None or self.end is not None or self.windows is not None

    def chosen(self, name: str, slots: Slots) -> Flags:
        """Which slots of a node are meant themselves."""
        if name not in self.named:
            return np.zeros(len(slots), np.bool_)
        chosen = np.ones(len(slots), np.bool_)
        if self.start is not None:
            chosen &= slots.keys >= self.start
        if self.end is not None:
            chosen &= slots.keys < self.end
        if self.windows is not None:
            chosen &= np.isin(slots.keys, self.windows.get(name, np.zeros(0, np.int64)))
        return chosen
