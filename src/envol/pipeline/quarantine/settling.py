"""Making the stored rows of a window follow what was decided about them; nothing is extracted again."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from envol.errors import DataError
from envol.pipeline.plan import NodePlan, Plan
from envol.pipeline.quarantine.decisions import Decision, Decisions
from envol.project.fingerprint import digest
from envol.project.graph import QUARANTINE
from envol.project.nodes import Node, Predictions

if TYPE_CHECKING:
    import polars as pl

    from envol.pipeline.batches import Divided
    from envol.pipeline.lease import Lease
    from envol.pipeline.quarantine.applying import Applied, Rows, Step
    from envol.project import Project
    from envol.project.clock import Clock
    from envol.project.windows import Window
    from envol.registry import Package
    from envol.storage import Store


class Stored:
    """The windows of a project's tables as they are stored, to be changed by who holds the lease of the run.

    Args:
        plan: of all nodes, as of now.
    """

    def __init__(self, project: Project, store: Store, clock: Clock, plan: Plan, lease: Lease) -> None:
        self.plan = plan
        self._project, self._store, self._clock, self._lease = project, store, clock, lease
        self.decisions = Decisions(store.metadata, lease.check)

    def index_of(self, node: Node, start: int) -> int | None:
        """Place of the window among the node's slots; None when it is none of them."""
        keys = self.plan.nodes[node.name].slots.keys
        place = int(keys.searchsorted(start))
        return place if place < len(keys) and int(keys[place]) == start else None

    def is_current(self, node: Node, start: int) -> bool:
        """Whether what is stored of the window is what a run would leave alone."""
        index, planned = self.index_of(node, start), self.plan.nodes[node.name]
        return index is not None and _is_current(planned, index)

    def window(self, node: Node, start: int) -> Window:
        """The window that starts then."""
        index = self.index_of(node, start)
        if index is not None:
            return self.plan.schedule.window(node, index)
        return self._project.calendar.from_epoch(self._project.graph.period_of(node.name), start)

    def broken(self, node: Node, window: Window) -> pl.DataFrame:
        """The rows of the window that are in quarantine, with their ids."""
        from envol.pipeline.quarantine.applying import with_ids

        return with_ids(self._read(node.name + QUARANTINE, window), window.key)

    def good(self, node: Node, window: Window) -> pl.DataFrame:
        """The rows of the window that are in the table."""
        return self._read(node.name, window)

    def step(self, node: Node, window: Window) -> Step:
        """What edited rows of the window go through."""
        from envol.pipeline.quarantine.applying import ByContract, ByModel
        from envol.registry import Registry

        if not isinstance(node, Predictions):
            return ByContract(node.contract)
        registry, name = Registry(self._store, self._clock), node.model.name

        def load(version: int | None) -> Package:
            return registry.load(name, version or registry.champion_at_most(name, window.epoch) or 0)

        return ByModel(node.model, load)

    def apply(self, node: Node, window: Window, rows: Divided, batch: list[Decision]) -> Applied:
        """The stored rows after decisions of one moment; nothing is written."""
        from envol.pipeline.quarantine.applying import apply
        from envol.pipeline.quarantine.identity import row_id

        by_id = {row_id(window.key, one.row_hash): one for one in batch}
        return apply(rows, by_id, self.step(node, window))

    def commit(self, node: Node, window: Window, rows: Divided, message: str, *, only_broken: bool) -> None:
        """Write the rows of a window, both tables at once, and record what is in them now."""
        frames = {node.name + QUARANTINE: rows.broken} | ({} if only_broken else {node.name: rows.good})
        commit = self._store.lake.replace(
            frames,
            window,
            node=node.name,
            fingerprint=self._fingerprint(node, window),
            message=message,
            permit=self._lease.confirm,
        )
        made: dict[str, Any] = {"quarantined": rows.broken.height}
        if not only_broken:
            made |= _contents(rows.good) | {"snapshot": commit.snapshot}
        self.decisions.settle(node.name, window.epoch, made)

    def settle(self, node: Node, start: int) -> None:
        """Finish what a process was ended in, or what waited for the window to be made again."""
        from envol.pipeline.batches import Divided

        window = self.window(node, start)
        unsettled = [one for one in self.decisions.of(node.name, start) if not one.settled]
        before = rows = Divided(self.good(node, window), self.broken(node, window))
        for _, batch in groupby(unsettled, key=lambda one: one.at):
            rows = self.apply(node, window, rows, list(batch)).rows
        if rows.broken.height != before.broken.height:
            message = f"{node.name} {window.key}: what was decided about rows in quarantine"
            self.commit(node, window, rows, message, only_broken=False)
        else:
            made = _contents(rows.good) | {"quarantined": rows.broken.height}
            self.decisions.settle(node.name, start, made)

    def _read(self, table: str, window: Window) -> pl.DataFrame:
        return self._store.lake.read(table, window.start, window.end).drop("window_start")

    def _fingerprint(self, node: Node, window: Window) -> str:
        index, planned = self.index_of(node, window.epoch), self.plan.nodes[node.name]
        inputs = 0 if index is None else int(planned.recorded["inputs"][index])
        definition = planned.definition
        return digest(definition.code, definition.parameters, definition.contract, str(inputs))


def settle(project: Project, store: Store, clock: Clock, lease: Lease) -> None:
    """Let the tables follow all decisions that they do not follow yet, where a run would not make them again.

    Windows that are to be made again are left to that: it applies the decisions as well.
    """
    unsettled = Decisions(store.metadata).unsettled()
    if not unsettled:
        return
    from envol.pipeline.plan import make_plan

    stored = Stored(project, store, clock, make_plan(project, store, clock), lease)
    for name, start in sorted({(one.node, one.window_start) for one in unsettled}):
        node = project.graph.nodes.get(name)
        if node is None or not stored.is_current(node, start):
            continue
        try:
            stored.settle(node, start)
        except DataError:  # the rows do not fit any more; they stay where they are
            stored.decisions.settle(name, start, {})


def _is_current(planned: NodePlan, index: int) -> bool:
    return bool(planned.made[index]) and not planned.reason[index] and not planned.blocked[index]


def _contents(good: Rows) -> dict[str, Any]:
    from envol.pipeline.content import content_version

    return {"rows": good.height, "version": content_version(good)}
