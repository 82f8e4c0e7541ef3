"""Backfills on record: how far each is, which is next, and which are cancelled or tried again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection, RowMapping, func, select, update

from envol.errors import NotFoundError
from envol.project.names import nearest
from envol.storage import Metadata, tables

if TYPE_CHECKING:
    from envol.storage import Store

WAITING, RUNNING, DONE, FAILED, CANCELLED, GONE = (
    "waiting",
    "running",
    "done",
    "failed",
    "cancelled",
    "gone",
)
OPEN = (WAITING, RUNNING)
_backfill, _window = tables.backfill.c, tables.backfill_window.c


@dataclass(frozen=True)
class Backfill:
    """One backfill and how far it is; `windows` counts them by state."""

    id: str
    state: str
    created_at: datetime
    ended_at: datetime | None
    by: str
    start: datetime
    end: datetime
    nodes: tuple[str, ...]
    rerun: bool
    newest_first: bool
    windows: Mapping[str, int]

    @property
    def is_open(self) -> bool:
        """Whether it is carried on, or waits to be."""
        return self.state in OPEN

    @property
    def total(self) -> int:
        return sum(self.windows.values())

    @property
    def waiting(self) -> int:
        return self.windows.get(WAITING, 0)


def next_backfill(store: Store) -> str | None:
    """The oldest backfill that waits to be carried on."""
    query = select(_backfill.id).where(_backfill.state.in_(OPEN)).order_by(_backfill.created_at).limit(1)
    return store.metadata.read(lambda connection: connection.execute(query).scalar())


def backfills(metadata: Metadata) -> list[Backfill]:
    """All backfills on record, the newest first."""

    def work(connection: Connection) -> list[Backfill]:
        counts: dict[str, Counter[str]] = {}
        counted = select(_window.backfill, _window.state, func.count()).group_by(
            _window.backfill, _window.state
        )
        for identity, state, number in connection.execute(counted):
            counts.setdefault(identity, Counter())[state] = number
        rows = connection.execute(select(tables.backfill).order_by(_backfill.created_at.desc())).mappings()
        return [_described(row, counts.get(row["id"], {})) for row in rows]

    return metadata.read(work)


def find_backfill(metadata: Metadata, identity: str) -> Backfill:
    """The backfill with this id, or the start of it.

    Raises:
        NotFoundError: there is none, or more than one.
    """
    known = backfills(metadata)
    found = [one for one in known if one.id == identity] or [
        one for one in known if one.id.startswith(identity)
    ]
    if len(found) != 1:
        problem = "no backfill" if not found else f"{len(found)} backfills"
        raise NotFoundError(
            f"{problem} with the id {identity!r}", remedy=nearest(identity, [one.id for one in known])
        )
    return found[0]


def cancel_backfill(metadata: Metadata, identity: str, now: datetime, by: str) -> Backfill:
    """Leave the windows that still wait as they are; a run that makes some of them is cancelled."""
    found = find_backfill(metadata, identity)

    def work(connection: Connection) -> None:
        open_now = (_backfill.id == found.id, _backfill.state.in_(OPEN))
        connection.execute(
            update(tables.backfill).where(*open_now).values(state=CANCELLED, ended_at=now.timestamp())
        )
        run = tables.run.c
        connection.execute(
            update(tables.run).where(run.backfill == found.id, run.state == RUNNING).values(cancelled_by=by)
        )

    metadata.write(work)
    return find_backfill(metadata, found.id)


def retry_backfill(metadata: Metadata, identity: str) -> Backfill:
    """Have the windows that failed, and those left by a cancellation, wait again."""
    found = find_backfill(metadata, identity)

    def work(connection: Connection) -> None:
        connection.execute(
            update(tables.backfill_window)
            .where(_window.backfill == found.id, _window.state == FAILED)
            .values(state=WAITING)
        )
        waiting = select(func.count()).where(_window.backfill == found.id, _window.state == WAITING)
        if connection.execute(waiting).scalar():
            set_state(found.id, WAITING, None, connection, among=(DONE, FAILED, CANCELLED))

    metadata.write(work)
    return find_backfill(metadata, found.id)


def set_state(
    identity: str,
    state: str,
    ended_at: datetime | None,
    connection: Connection,
    among: Sequence[str] = OPEN,
) -> None:
    connection.execute(
        update(tables.backfill)
        .where(_backfill.id == identity, _backfill.state.in_(among))
        .values(state=state, ended_at=None if ended_at is None else ended_at.timestamp())
    )


def _described(row: RowMapping, windows: Mapping[str, int]) -> Backfill:
    def instant(seconds: float) -> datetime:
        return datetime.fromtimestamp(seconds, UTC)

    return Backfill(
        id=row["id"],
        state=row["state"],
        created_at=instant(row["created_at"]),
        ended_at=None if row["ended_at"] is None else instant(row["ended_at"]),
        by=row["by"],
        start=instant(row["first"]),
        end=instant(row["last"]),
        nodes=tuple(json.loads(row["nodes"])),
        rerun=row["rerun"],
        newest_first=row["newest_first"],
        windows=dict(windows),
    )
