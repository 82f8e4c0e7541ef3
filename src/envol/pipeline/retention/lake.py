"""What the lake may forget: past states of the tables, and rows that are long in quarantine."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, select, update

from envol.pipeline.lineage.history import recorded_window
from envol.project.graph import QUARANTINE
from envol.project.windows import HOUR_SECONDS, Calendar
from envol.storage import tables

if TYPE_CHECKING:
    from envol.pipeline.lease import Lease
    from envol.storage import Store

_made, _decision, _task = tables.materialization.c, tables.quarantine_decision.c, tables.task.c


def trained_on(store: Store) -> set[int]:
    """The snapshots that the versions of models were trained on."""
    query = select(tables.model_version.c.lineage)
    found = store.metadata.read(lambda connection: list(connection.execute(query).scalars()))
    return {read.get("snapshot") for told in found for read in json.loads(told).values()} - {None}


def old_snapshots(store: Store, before: float, now: datetime, *, dry_run: bool) -> int:
    """Forget snapshots from before, but for those that models were trained on and the newest."""
    keep = trained_on(store)
    if dry_run:
        known = dict(store.lake.snapshots().select("id", "at").iter_rows())
        newest = max(known, default=0)
        limit = datetime.fromtimestamp(before, UTC)
        return sum(at < limit and one not in keep and one != newest for one, at in known.items())
    age = now - datetime.fromtimestamp(before, UTC)
    return store.lake.expire(max(age, timedelta(0)), now, keep=keep)


def old_quarantine(
    store: Store, calendar: Calendar, before: float, lease: Lease | None, most: int | None
) -> int:
    """Remove rows that have been in quarantine since before; what was decided about them stays on record.

    Rows of a window that was never made stay while it is tried. Rows that a decision waits for stay.

    Args:
        lease: what entitles to change tables; None counts, and removes nothing.
        most: so many windows at a time; all when None.
    """
    rows = 0
    for name in (info.name for info in store.lake.tables() if info.name.endswith(QUARANTINE)):
        node = name.removesuffix(QUARANTINE)
        held = _held(store, name)
        old = [start for start in held if start in _old(store, node, list(held), before)]
        for start in old[:most]:
            rows += held[start]
            if lease is not None:
                _empty(store, calendar, node, start, lease)
    return rows


def _held(store: Store, table: str) -> dict[int, int]:
    """By start of a window how many rows of it are in a table."""
    frame = store.lake.scan(table).group_by("window_start").len().collect().sort("window_start")
    return {int(start.timestamp()): rows for start, rows in frame.iter_rows()}


def _old(store: Store, node: str, starts: list[int], before: float) -> set[int]:
    def work(connection: Connection) -> set[int]:
        made = connection.execute(
            select(_made.window_start, _made.made_at).where(_made.node == node, _made.made_at.is_not(None))
        )
        since = {start: at for start, at in made}
        tried = connection.execute(
            select(_task.window_start, func.max(_task.started_at))
            .where(_task.node == node, _task.started_at >= before)
            .group_by(_task.window_start)
        )
        lately = {start for start, _ in tried}
        waiting = select(_decision.window_start).where(_decision.node == node, ~_decision.settled)
        kept = lately | set(connection.execute(waiting).scalars())
        return {start for start in starts if since.get(start, start) < before and start not in kept}

    return store.metadata.read(work)


def _empty(store: Store, calendar: Calendar, node: str, start: int, lease: Lease) -> None:
    """Remove the rows of a window from quarantine."""
    table = node + QUARANTINE
    query = select(_made.window_end).where(_made.node == node, _made.window_start == start)
    end = store.metadata.read(lambda connection: connection.execute(query).scalar())
    window = recorded_window(calendar, start, end or start + HOUR_SECONDS)

    def work(connection: Connection) -> None:
        lease.check(connection)
        here = (_made.node == node, _made.window_start == start)
        connection.execute(update(tables.materialization).where(*here).values(quarantined=0))

    # First, so that one who is ended in between finds the rows the next time.
    store.metadata.write(work)
    none = store.lake.read(table, window.start, window.end).drop("window_start").clear()
    message = f"{table} {window.key}: retention"
    store.lake.replace(
        {table: none}, window, node=table, fingerprint="", message=message, permit=lease.confirm
    )
