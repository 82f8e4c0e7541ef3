"""Collecting what has served its time: all kinds of records, at once or once a day."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, insert, select

from envol.errors import BusyError, EnvolError
from envol.pipeline.lease import Lease, run_lease
from envol.pipeline.retention.files import leftovers, orphaned_packages
from envol.pipeline.retention.lake import old_quarantine, old_snapshots
from envol.pipeline.retention.limits import Limits
from envol.pipeline.retention.records import OldRecords
from envol.storage import tables

if TYPE_CHECKING:
    from envol.project import Project
    from envol.project.clock import Clock
    from envol.storage import Store

logger = logging.getLogger("envol.retention")

EVERY = timedelta(days=1)
WINDOWS_A_DAY = 200
"""So many windows leave quarantine when a run collects by itself: each is a commit of its own."""
LATER = "a run is active; later"
ALONE = {
    "quarantine": "rows in quarantine",
    "snapshots": "past states of the tables",
    "packages": "packages without a version",
}
"""What only the holder of the run's lease may remove."""
_control = tables.control.c
_NAME = "gc"


@dataclass(frozen=True)
class Collected:
    """What of one kind went, or would go.

    Attributes:
        kind: "logs", "failed_logs", "tasks", "runs", "snapshots", "quarantine", "backfills",
            "schema_changes", "packages", "leftovers" or "space".
        what: the same in words.
        count: how many of them.
        bytes: what they took, where that is known; for "space" what the records gave back to the disk.
        note: why they are left for later.
    """

    kind: str
    what: str
    count: int
    bytes: int | None = None
    note: str = ""


def collect(
    project: Project, store: Store, clock: Clock, *, dry_run: bool = False, most: int | None = None
) -> list[Collected]:
    """Remove what is older than `[retention]` of the project says; what is needed stays (see `OldRecords`).

    It may be ended at any moment, and be called beside a run: what only the run's lease allows is left for
    later then. Anything that a version of a model was trained on stays.

    Args:
        dry_run: only tell what would go.
        most: of each table so many windows leave quarantine at most.

    Raises:
        StorageError: the store cannot be read or written.
    """
    limits = Limits.of(project, clock.now())
    found = list(_records(store, limits, dry_run))
    folders, size = leftovers(store, dry_run=dry_run)
    found.append(Collected("leftovers", "folders that killed processes left", folders, size))
    with ExitStack() as held:
        lease, alone = run_lease(store.metadata), True
        if not dry_run:
            try:
                held.enter_context(lease.held())
            except BusyError:
                alone = False
        if alone:
            found += _tables(project, store, limits, None if dry_run else lease, most)
        else:
            found += [Collected(kind, what, 0, note=LATER) for kind, what in ALONE.items()]
        if not dry_run and any(one.count for one in found):
            freed = store.metadata.shrink(rewrite=alone)
            found.append(Collected("space", "given back to the disk", 0, freed))
    return found


def collect_daily(project: Project, store: Store, clock: Clock) -> list[Collected]:
    """The same once a day, from a project's second day on; faults are logged, and it is tried a day later."""
    if not _claim(store, clock):
        return []
    try:
        return collect(project, store, clock, most=WINDOWS_A_DAY)
    except EnvolError as error:
        logger.warning("old records could not be removed: %s", error)
        return []


def _claim(store: Store, clock: Clock) -> bool:
    """Whether this process is to collect now, on record for all others; never on a project's first day."""
    now = clock.now().timestamp()
    row = {"name": _NAME, "value": "", "at": now, "by": "envol"}

    def last(connection: Connection) -> float | None:
        return connection.execute(select(_control.at).where(_control.name == _NAME)).scalar()

    def work(connection: Connection) -> bool:
        before = last(connection)
        if not is_over(before):
            return False
        connection.execute(delete(tables.control).where(_control.name == _NAME))
        connection.execute(insert(tables.control).values(row))
        return before is not None

    def is_over(before: float | None) -> bool:
        return before is None or not 0 <= now - before < EVERY.total_seconds()  # the clock may be set back

    return is_over(store.metadata.read(last)) and store.metadata.write(work)


def _records(store: Store, limits: Limits, dry_run: bool) -> Iterator[Collected]:
    old = OldRecords(store.metadata, dry_run=dry_run)
    if limits.logs is not None:
        yield Collected("logs", "logs of tasks that did not fail", *old.logs(limits.logs, failed=False))
    if limits.failed_logs is not None:
        yield Collected("failed_logs", "logs of failed tasks", *old.logs(limits.failed_logs, failed=True))
    bounds = [limit for limit in (limits.tasks, limits.runs) if limit is not None]
    if bounds:
        yield Collected("tasks", "tasks", old.tasks(max(bounds)))
    if limits.runs is not None:
        yield Collected("runs", "runs", old.runs(limits.runs))
    if limits.backfills is not None:
        yield Collected("backfills", "windows of ended backfills", old.backfill_windows(limits.backfills))
        if limits.runs is not None:
            old.backfills(limits.runs)
    if limits.schema_changes is not None:
        yield Collected("schema_changes", "changes of columns", old.schema_changes(limits.schema_changes))


def _tables(
    project: Project, store: Store, limits: Limits, lease: Lease | None, most: int | None
) -> Iterator[Collected]:
    """What only the holder of the run's lease may do; without one it is only told."""
    if limits.quarantine is not None:
        rows = old_quarantine(store, project.calendar, limits.quarantine, lease, most)
        yield Collected("quarantine", ALONE["quarantine"], rows)
    if limits.snapshots is not None:
        count = old_snapshots(store, limits.snapshots, limits.now, dry_run=lease is None)
        yield Collected("snapshots", ALONE["snapshots"], count)
    count, size = orphaned_packages(store, dry_run=lease is None)
    yield Collected("packages", ALONE["packages"], count, size)
