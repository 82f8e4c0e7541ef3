"""Accepting: windows that a change of code made stale are kept as they are, on record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import Connection, bindparam, insert, select, update

from envol.pipeline.lease import Lease, run_lease
from envol.pipeline.plan import CHANGED, Flags, NodePlan, Plan, Reason, code_of, make_plan
from envol.pipeline.planning import current_inputs
from envol.pipeline.records import Records
from envol.pipeline.source_control import revision_of
from envol.storage import tables

if TYPE_CHECKING:
    from envol.project import Project
    from envol.project.clock import Clock
    from envol.storage import Store

CHUNK = 10_000


@dataclass(frozen=True)
class Acceptance:
    """Windows of one node that were accepted: how many, and the range they lie in."""

    node: str
    windows: int
    start: datetime
    end: datetime


def accept(
    project: Project,
    store: Store,
    clock: Clock,
    *,
    by: str,
    reason: str,
    nodes: Iterable[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> list[Acceptance]:
    """Keep windows that are stale, as a definition or an input changed, as if they were made by what is now.

    Windows whose inputs are to be made again stay stale: accept or make the inputs first. What was accepted,
    by whom and why, is on record; with which code a window was made stays on record as well.

    Args:
        nodes: only windows of these nodes; of all when None.
        start, end: only windows inside [start, end).

    Raises:
        BusyError: a run is active on the project.
        UserError: a named node does not exist.
    """
    names = list(project.graph.nodes if nodes is None else nodes)
    project.graph.upstream(names)
    found: dict[str, list[tuple[int, int]]] = {}
    lease = run_lease(store.metadata)
    with lease.held():
        # What an input's change made stale is seen once the input itself is accepted.
        while True:
            plan = make_plan(project, store, clock)
            stale = {
                name: _stale(plan, plan.nodes[name], start, end)
                for name in project.graph.nodes
                if name in names
            }
            if not any(flags.any() for flags in stale.values()):
                break
            ids = _definition_ids(project, store, clock, stale)
            store.metadata.write(partial(_keep, lease, plan, stale, ids))
            for name, flags in stale.items():
                slots = plan.nodes[name].slots
                found.setdefault(name, []).extend(
                    zip(slots.starts[flags].tolist(), slots.ends[flags].tolist(), strict=True)
                )
        accepted = [_told(name, ranges, plan) for name, ranges in found.items() if ranges]
        ids = _definition_ids(project, store, clock, {one.node: np.ones(1, np.bool_) for one in accepted})
        store.metadata.write(partial(_record, accepted, ids, by, reason, clock.now()))
    return accepted


def _stale(plan: Plan, node: NodePlan, start: datetime | None, end: datetime | None) -> Flags:
    """The windows to accept: changed themselves, or by inputs that are up to date now."""
    stale = np.isin(node.reason, [code_of(reason) for reason in CHANGED])
    waits = np.zeros(len(node.slots), np.bool_)
    for name, first, last in plan.reads(node.node.name):
        planned = np.concatenate([[0], np.cumsum(plan.nodes[name].reason > 0)])
        waits |= planned[last] > planned[first]
    stale |= node.reason == code_of(Reason.INPUTS)
    stale &= ~waits
    if start is not None:
        stale &= node.slots.keys >= int(start.timestamp())
    if end is not None:
        stale &= node.slots.keys < int(end.timestamp())
    return stale


def _definition_ids(
    project: Project, store: Store, clock: Clock, stale: Mapping[str, Flags]
) -> dict[str, int]:
    nodes = [name for name, flags in stale.items() if flags.any()]
    return Records(store.metadata).define(
        {name: project.definitions[name] for name in nodes},
        {name: project.graph.reads(project.graph.nodes[name]) for name in nodes},
        revision_of(project.root),
        clock.now(),
    )


def _keep(
    lease: Lease, plan: Plan, stale: Mapping[str, Flags], ids: Mapping[str, int], connection: Connection
) -> None:
    lease.check(connection)
    made = tables.materialization.c
    keep = (
        update(tables.materialization)
        .where(made.node == bindparam("the_node"), made.window_start == bindparam("the_start"))
        .values(accepted=bindparam("the_definition"), inputs=bindparam("the_inputs"))
    )
    for name, flags in stale.items():
        node = plan.nodes[name]
        inputs = current_inputs(plan, node)[flags].tolist()
        rows = [
            {"the_node": name, "the_start": key, "the_definition": ids[name], "the_inputs": one}
            for key, one in zip(node.slots.keys[flags].tolist(), inputs, strict=True)
        ]
        for first in range(0, len(rows), CHUNK):
            connection.execute(keep, rows[first : first + CHUNK])


def _record(
    accepted: list[Acceptance],
    ids: Mapping[str, int],
    by: str,
    reason: str,
    now: datetime,
    connection: Connection,
) -> None:
    column = tables.acceptance.c
    for one in accepted:
        row = {"node": one.node, "definition": ids[one.node], "windows": one.windows, "by": by}
        row |= {"first": int(one.start.timestamp()), "last": int(one.end.timestamp())}
        row |= {"at": now.timestamp(), "reason": reason}
        known = select(column.id).where(*(column[name] == value for name, value in row.items()))
        if connection.execute(known).first() is None:  # an earlier try whose answer was lost
            connection.execute(insert(tables.acceptance).values(row))


def _told(name: str, ranges: list[tuple[int, int]], plan: Plan) -> Acceptance:
    starts, ends = zip(*ranges, strict=True)
    local = plan.schedule.local
    return Acceptance(name, len(set(starts)), local(min(starts)), local(max(ends)))
