"""Runs and tasks as the metadata records them."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any

from envol.errors import NotFoundError

if TYPE_CHECKING:
    from sqlalchemy import Row

    from envol.storage import Store

HOUR = 3600
LAST = "last"


def last_runs(store: Store, limit: int) -> list[dict[str, Any]]:
    """The newest runs, the newest first, whatever the clock was when they began."""
    from sqlalchemy import select

    from envol.storage import tables

    order = (tables.run.c.number.desc(), tables.run.c.started_at.desc())
    query = select(tables.run).order_by(*order).limit(limit)
    with store.metadata.connect() as connection:
        return [_run(row) for row in connection.execute(query)]


def find_run(store: Store, named: str) -> dict[str, Any]:
    """One run by its id, the start of its id, or "last".

    Raises:
        NotFoundError: there is none, or several begin so.
    """
    from sqlalchemy import select

    from envol.storage import tables

    newest = last_runs(store, 1)
    if not newest:
        raise NotFoundError("nothing was run yet", remedy="start with: envol run")
    if named == LAST:
        return newest[0]
    query = select(tables.run).where(tables.run.c.id.startswith(named, autoescape=True)).limit(2)
    with store.metadata.connect() as connection:
        found = [_run(row) for row in connection.execute(query)]
    if not found:
        raise NotFoundError(
            f"there is no run {named!r}", remedy=f"the last one is {newest[0]['run']}; all: envol runs"
        )
    if len(found) > 1:
        raise NotFoundError(f"several runs begin with {named!r}", remedy="give more of the id")
    return found[0]


def tasks_of(store: Store, run: str, zone: tzinfo, *, logs: bool) -> list[dict[str, Any]]:
    """The tasks of a run that ended, in the order they began; with their logs if asked for."""
    from sqlalchemy import select

    from envol.storage import tables

    columns = [column for column in tables.task.c if logs or column.name != "log"]
    query = select(*columns).where(tables.task.c.run == run).order_by(tables.task.c.started_at)
    with store.metadata.connect() as connection:
        return [
            {
                "node": row["node"],
                "window": window_key(row["window_start"], row["window_end"], zone),
                "state": row["state"],
                "attempts": row["attempts"],
                "started_at": row["started_at"],
                "seconds": row["seconds"],
                "rows": row["rows"],
                "error": row["error"],
                **({"log": row["log"] or ""} if logs else {}),
            }
            for row in connection.execute(query).mappings()
        ]


def window_key(start: int, end: int, zone: tzinfo) -> str:
    """The key of a window, told from its length: a run may be older than the node's present period.

    A training has no length; it is called by the date of its cutoff.
    """
    from envol.project.windows import Period, Window

    first, last = (datetime.fromtimestamp(epoch, UTC).astimezone(zone) for epoch in (start, end))
    hours = (end - start) / HOUR
    if hours == 0:
        return first.strftime("%Y-%m-%d")
    period = (
        Period.HOUR
        if hours <= 1
        else Period.DAY
        if hours <= 25
        else Period.WEEK
        if hours <= 7 * 24 + 1
        else Period.MONTH
    )
    return Window(first, last, period).key


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's
    return True


def _run(row: Row[Any]) -> dict[str, Any]:
    gone = row.state == "running" and row.host == socket.gethostname() and not _is_alive(row.pid)
    return {
        "run": row.id,
        "state": "crashed" if gone else row.state,  # the next run records it as such
        "started_at": datetime.fromtimestamp(row.started_at, UTC),
        "ended_at": None if row.ended_at is None else datetime.fromtimestamp(row.ended_at, UTC),
        "seconds": None if row.ended_at is None else row.ended_at - row.started_at,
        "planned": row.planned,
        "done": row.done,
        "failed": row.failed,
        "skipped": row.skipped,
        "host": row.host,
        "pid": row.pid,
    }
