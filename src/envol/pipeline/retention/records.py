"""Rows of the metadata database that have served their time, removed a thousand at a time.

Each removal is a transaction of its own, so that a run that goes on waits for none of them for long, and one
that is interrupted goes on where it stopped.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    bindparam,
    delete,
    func,
    select,
    tuple_,
    update,
)

from envol.storage import Metadata, tables

BATCH = 1_000
RUNS_AT_ONCE = 100
KEPT_CHANGES = 2
"""So many equal changes of a column are kept, as a column is told to come and go no more often."""
ENDED = ("done", "failed", "cancelled")
_run, _task, _window = tables.run.c, tables.task.c, tables.backfill_window.c
_backfill, _change = tables.backfill.c, tables.schema_change.c


class OldRecords:
    """What may be removed from the metadata.

    The tasks of a node in its last run stay, and those in its last failed run with their logs; so do these
    runs, those that model versions came of, and the newest.

    Args:
        dry_run: count, and remove nothing.
    """

    def __init__(self, metadata: Metadata, *, dry_run: bool) -> None:
        self._metadata, self._dry_run = metadata, dry_run

    def logs(self, before: float, *, failed: bool) -> tuple[int, int]:
        """Empty the logs of tasks of runs that began before; returns how many, and their bytes."""
        conditions = [_task.log != "", _task.state == "failed" if failed else _task.state != "failed"]
        conditions += [self._unprotected()] * failed
        length = func.coalesce(func.sum(func.length(_task.log)), 0)
        count = size = 0
        for runs in self._runs(before, conditions):
            here = [_task.run.in_(runs), *conditions]
            logs, characters = self._metadata.read(partial(_one, select(func.count(), length).where(*here)))
            count, size = count + logs, size + characters
            if not self._dry_run:
                self._in_batches(tables.task, here, {"log": ""})
        return count, size

    def tasks(self, before: float) -> int:
        """Remove the tasks of runs that began before."""
        unprotected = self._unprotected()
        parts = self._runs(before, [unprotected])
        return sum(self._remove(tables.task, [_task.run.in_(runs), unprotected]) for runs in parts)

    def runs(self, before: float) -> int:
        """Remove runs that began before; their tasks must have gone, as `tasks` lets them."""
        version = tables.model_version.c
        newest = select(func.max(_run.id)).scalar_subquery()
        conditions = [
            _run.started_at < before,
            _run.state != "running",
            _run.id != newest,
            _run.id.not_in(select(version.run)),
            _run.id.not_in({run for _, run in self._protected()}),
        ]
        return self._remove(tables.run, conditions)

    def backfill_windows(self, before: float) -> int:
        """Remove the windows of backfills that ended before."""
        ended = select(_backfill.id).where(_backfill.state.in_(ENDED), _backfill.ended_at < before)
        return self._remove(tables.backfill_window, [_window.backfill.in_(ended)])

    def backfills(self, before: float) -> int:
        """Remove backfills that ended before and have no windows left."""
        left = select(_window.backfill).where(_window.backfill == _backfill.id).exists()
        conditions = [_backfill.state.in_(ENDED), _backfill.ended_at < before, ~left]
        return self._remove(tables.backfill, conditions)

    def schema_changes(self, before: float) -> int:
        """Remove changes of columns told before, but for those that say what the columns are now."""
        query = select(tables.schema_change)
        rows = self._metadata.read(lambda connection: [*connection.execute(query).mappings()])
        needed = _needed_changes(rows)
        old = [row["id"] for row in rows if row["at"] < before and row["id"] not in needed]
        parts = (old[first : first + BATCH] for first in range(0, len(old), BATCH))
        return sum(self._remove(tables.schema_change, [_change.id.in_(part)]) for part in parts)

    def _runs(self, before: float, conditions: Sequence[ColumnElement[bool]]) -> Iterator[list[str]]:
        """Ids of the runs that began before, have ended and have such tasks; some at a time."""
        tasks = select(_task.run).where(_task.run == _run.id, *conditions).exists()
        query = select(_run.id).where(_run.started_at < before, _run.state != "running", tasks)
        ids = self._metadata.read(lambda connection: list(connection.execute(query).scalars()))
        for first in range(0, len(ids), RUNS_AT_ONCE):
            yield ids[first : first + RUNS_AT_ONCE]

    def _unprotected(self) -> ColumnElement[bool]:
        """Whether a task is of neither the last nor the last failed run of its node."""
        return tuple_(_task.node, _task.run).not_in(self._protected())

    def _protected(self) -> list[tuple[str, str]]:
        """(node, run) of the last run and the last failed run of each node; ids of runs tell their order."""
        last = select(_task.node, func.max(_task.run)).group_by(_task.node)
        last_failed = last.where(_task.state == "failed")

        def work(connection: Connection) -> list[tuple[str, str]]:
            return [
                (node, run) for query in (last, last_failed) for node, run in connection.execute(query).all()
            ]

        return self._metadata.read(work)

    def _remove(self, table: Table, conditions: Sequence[ColumnElement[bool]]) -> int:
        if self._dry_run:
            query = select(func.count()).select_from(table).where(*conditions)
            return int(self._metadata.read(lambda connection: connection.execute(query).scalar_one()))
        return self._in_batches(table, conditions, None)

    def _in_batches(
        self, table: Table, conditions: Sequence[ColumnElement[bool]], values: Mapping[str, Any] | None
    ) -> int:
        """Change rows, or remove them where there are no values to set; returns how many."""
        keys = list(table.primary_key)
        chosen = select(*keys).where(*conditions).limit(BATCH)
        here = [key == bindparam(f"key_{key.name}") for key in keys]
        change = delete(table).where(*here) if values is None else update(table).where(*here).values(values)

        def work(connection: Connection) -> int:
            rows = [
                {f"key_{name}": value for name, value in row.items()}
                for row in connection.execute(chosen).mappings()
            ]
            if rows:
                connection.execute(change, rows)
            return len(rows)

        total = done = self._metadata.write(work)
        while done == BATCH:
            done = self._metadata.write(work)
            total += done
        return total


def _one(query: Select[Any], connection: Connection) -> tuple[int, int]:
    row = connection.execute(query).one()
    return int(row[0]), int(row[1])


def _needed_changes(rows: Iterable[Mapping[str, Any]]) -> set[int]:
    """The newest changes of each column, by the order of the windows, and the newest that were the same."""
    by_column: dict[tuple[str, str, bool], list[tuple[int, int, Any]]] = defaultdict(list)
    for row in rows:
        for column, pair in json.loads(row["columns"]).items():
            key = row["node"], column, row["refused"]
            by_column[key].append((row["window_start"], row["id"], tuple(pair)))
    needed = set()
    for changes in by_column.values():
        same: Counter[Any] = Counter()
        for place, (_, identity, pair) in enumerate(sorted(changes, reverse=True)):
            same[pair] += 1
            if place == 0 or same[pair] <= KEPT_CHANGES:
                needed.add(identity)
    return needed
