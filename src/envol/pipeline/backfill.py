"""Backfills: windows of the past that somebody asked for, as rows in a table.

Whoever carries a backfill on takes the rows that still wait, so that neither a restart nor new code loses it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, delete, func, insert, select, update

from envol.pipeline.backfill_records import (
    CANCELLED,
    DONE,
    FAILED,
    GONE,
    RUNNING,
    WAITING,
    Backfill,
    cancel_backfill,
    find_backfill,
    set_state,
)
from envol.pipeline.plan import Plan, make_plan
from envol.pipeline.results import Observer, RunResult
from envol.pipeline.running import carry_out
from envol.pipeline.schedule import Epochs
from envol.storage import Metadata, tables

if TYPE_CHECKING:
    import threading

    from envol.project import Project
    from envol.project.clock import Clock
    from envol.storage import Store

CHUNK = 10_000
_backfill, _window = tables.backfill.c, tables.backfill_window.c


def request_backfill(
    project: Project,
    store: Store,
    clock: Clock,
    *,
    start: datetime,
    end: datetime,
    by: str,
    nodes: Iterable[str] | None = None,
    rerun: bool = False,
    newest_first: bool = False,
) -> Backfill | None:
    """Write down which windows inside [start, end) are to be made; None when none is.

    Args:
        by: who asks for it.
        nodes: only their windows, and what these are made from.
        rerun: their windows are to be made again although nothing changed.
        newest_first: begin with the newest windows.
    """
    plan = make_plan(project, store, clock, nodes=nodes, start=start, end=end, rerun=rerun)
    if not len(plan):
        return None
    now = clock.now()
    identity = now.strftime("%Y%m%dT%H%M%S") + "-" + secrets.token_hex(3)
    row = {
        "id": identity,
        "created_at": now.timestamp(),
        "by": by,
        "first": int(start.timestamp()),
        "last": int(end.timestamp()),
        "nodes": json.dumps(sorted(project.graph.nodes if nodes is None else set(nodes))),
        "rerun": rerun,
        "newest_first": newest_first,
        "state": WAITING,
    }

    def work(connection: Connection) -> None:
        connection.execute(delete(tables.backfill_window).where(_window.backfill == identity))
        connection.execute(delete(tables.backfill).where(_backfill.id == identity))
        connection.execute(insert(tables.backfill).values(row))
        for rows in _chunks(identity, plan):
            connection.execute(insert(tables.backfill_window), rows)

    store.metadata.write(work)
    return find_backfill(store.metadata, identity)


def carry_on(
    project: Project,
    store: Store,
    clock: Clock,
    identity: str,
    *,
    workers: int | None = None,
    observer: Observer | None = None,
    stop: threading.Event | None = None,
    isolate_all: bool = False,
) -> RunResult:
    """Make the windows of a backfill that still wait.

    Stopped or killed, it leaves the rest waiting. Windows that are up to date by now count as done.

    Raises:
        As `run`; NotFoundError when there is no such backfill.
    """
    asked = find_backfill(store.metadata, identity)

    def plan() -> Plan:
        waiting = _waiting(store.metadata, identity)
        made = make_plan(project, store, clock, windows=waiting, rerun=asked.rerun)
        store.metadata.write(partial(_settle_unplanned, identity, waiting, made))
        return made

    store.metadata.write(partial(set_state, identity, RUNNING, None))
    result = carry_out(
        project,
        store,
        clock,
        plan,
        kind="backfill",
        backfill=identity,
        newest_first=asked.newest_first,
        workers=workers,
        observer=observer,
        stop=stop,
        isolate_all=isolate_all,
    )
    if result.cancelled_by is not None:
        cancel_backfill(store.metadata, identity, clock.now(), result.cancelled_by)
    store.metadata.write(partial(_end, identity, result.state == CANCELLED, clock.now()))
    return result


def _chunks(identity: str, plan: Plan) -> Iterator[list[dict[str, Any]]]:
    for name, node in plan.nodes.items():
        keys = node.slots.keys[node.planned].tolist()
        for first in range(0, len(keys), CHUNK):
            yield [
                {"backfill": identity, "node": name, "window_start": key, "state": WAITING}
                for key in keys[first : first + CHUNK]
            ]


def _waiting(metadata: Metadata, identity: str) -> dict[str, Epochs]:
    """By node the starts of the windows that wait."""
    query = select(_window.node, _window.window_start).where(
        _window.backfill == identity, _window.state == WAITING
    )
    found: dict[str, list[int]] = {}
    for node, start in metadata.read(lambda connection: connection.execute(query).all()):
        found.setdefault(node, []).append(start)
    return {node: np.array(starts, np.int64) for node, starts in found.items()}


def _settle_unplanned(
    identity: str, waiting: Mapping[str, Epochs], plan: Plan, connection: Connection
) -> None:
    """Windows that are up to date need nothing any more, and what the project no longer has is gone."""
    for name, starts in waiting.items():
        node = plan.nodes.get(name)
        keys = np.zeros(0, np.int64) if node is None else node.slots.keys
        _mark(connection, identity, name, starts[~np.isin(starts, keys)], GONE)
        if node is not None:
            current = keys[node.made & (node.reason == 0) & (node.blocked == 0)]
            _mark(connection, identity, name, starts[np.isin(starts, current)], DONE)


def _mark(connection: Connection, identity: str, node: str, starts: Epochs, state: str) -> None:
    for first in range(0, len(starts), 500):
        part: Sequence[int] = starts[first : first + 500].tolist()
        connection.execute(
            update(tables.backfill_window)
            .where(_window.backfill == identity, _window.node == node, _window.window_start.in_(part))
            .values(state=state)
        )


def _end(identity: str, stopped: bool, now: datetime, connection: Connection) -> None:
    """Record how the carrying on ended; what was skipped, as something that it reads failed, has failed."""
    if stopped:
        set_state(identity, WAITING, None, connection, among=(RUNNING,))
        return
    mine = _window.backfill == identity
    connection.execute(
        update(tables.backfill_window).where(mine, _window.state == WAITING).values(state=FAILED)
    )
    failed = connection.execute(select(func.count()).where(mine, _window.state == FAILED)).scalar()
    set_state(identity, FAILED if failed else DONE, now, connection, among=(RUNNING,))
