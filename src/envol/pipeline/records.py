"""What was made, by which run: rows of the metadata database, read as arrays and written one at a time."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, case, delete, func, insert, select, update

from envol.pipeline.source_control import Revision
from envol.project.fingerprint import Definition
from envol.storage import Metadata, tables

Array = npt.NDArray[np.void]
RECORDED = np.dtype(
    [
        ("start", np.int64),
        ("definition", np.int64),
        ("inputs", np.int64),
        ("version", np.int64),
    ]
)
"""What planning needs of a materialization; `definition` is the one it counts as made with."""

_made = tables.materialization.c
_definition = tables.definition.c


class Made(NamedTuple):
    """One materialization: what it was made from, and what came of it."""

    rows: int
    quarantined: int
    definition: int
    inputs: int
    version: int
    snapshot: int | None


class Totals(NamedTuple):
    """What is made of a node, in numbers."""

    windows: int = 0
    rows: int = 0
    quarantined: int = 0
    quarantined_windows: int = 0


@dataclass(frozen=True)
class TaskRecord:
    """How one task of a run went."""

    node: str
    start: int
    end: int
    state: str
    attempts: int
    started_at: float
    seconds: float
    rows: int | None
    error: str | None
    log: str


class Records:
    """Materializations, definitions, runs and tasks of one project.

    Args:
        fence: raises, inside the transaction that is about to write, when this process no longer may.
    """

    def __init__(self, metadata: Metadata, fence: Callable[[Connection], None] = lambda _: None) -> None:
        self._metadata = metadata
        self._fence = fence

    def made(self, nodes: Iterable[str]) -> dict[str, Array]:
        """The materializations of each node as an array of RECORDED, oldest window first (or cutoff)."""
        columns = (
            _made.window_start,
            func.coalesce(_made.accepted, _made.definition),
            _made.inputs,
            _made.version,
        )

        def work(connection: Connection) -> dict[str, Array]:
            found = {}
            for node in nodes:
                query = select(*columns).where(_made.node == node).order_by(_made.window_start)
                # The driver's own rows: SQLAlchemy's take twice the time, and a million may come.
                found[node] = np.fromiter(connection.execute(query).cursor, RECORDED)  # type: ignore[call-overload]
            return found

        return self._metadata.read(work)

    def made_at(self, node: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """When the windows of a node were made: their starts, oldest first, and the instants."""
        query = select(_made.window_start, _made.made_at).where(_made.node == node)
        rows = self._metadata.read(
            lambda connection: connection.execute(query.order_by(_made.window_start)).all()
        )
        starts, instants = (np.array([row[place] for row in rows]) for place in (0, 1))
        return starts.astype(np.int64), instants.astype(np.float64)

    def totals(self) -> dict[str, Totals]:
        """By node how much is made."""
        query = select(
            _made.node,
            func.count(),
            func.sum(_made.rows),
            func.sum(_made.quarantined),
            func.count(func.nullif(_made.quarantined, 0)),
        ).group_by(_made.node)
        return self._metadata.read(
            lambda connection: {
                node: Totals(*(int(number) for number in numbers))
                for node, *numbers in connection.execute(query)
            }
        )

    def sums(self, node: str, first: int, last: int) -> tuple[int, int, int | None]:
        """(windows, rows, newest snapshot) of what is made of a node from `first` on, before `last`."""
        query = select(func.count(), func.coalesce(func.sum(_made.rows), 0), func.max(_made.snapshot)).where(
            _made.node == node, _made.window_start >= first, _made.window_start < last
        )
        windows, rows, snapshot = self._metadata.read(lambda connection: connection.execute(query).one())
        return int(windows), int(rows), snapshot

    def usual_seconds(self) -> dict[str, float]:
        """By node how long its tasks took on average."""
        task = tables.task.c
        query = (
            select(task.node, func.avg(task.seconds))
            .where(task.state == "done", task.seconds.is_not(None))
            .group_by(task.node)
        )
        return self._metadata.read(
            lambda connection: {node: float(seconds) for node, seconds in connection.execute(query)}
        )

    def definitions(self) -> dict[str, dict[int, Definition]]:
        """All definitions that were ever used, by node and id."""
        query = select(
            _definition.node,
            _definition.id,
            _definition.code,
            _definition.parameters,
            _definition.contract,
        )
        found: dict[str, dict[int, Definition]] = {}
        for node, identity, *hashes in self._metadata.read(
            lambda connection: connection.execute(query).all()
        ):
            found.setdefault(node, {})[identity] = Definition(*hashes)
        return found

    def define(
        self,
        defined: Mapping[str, Definition],
        reads: Mapping[str, Mapping[str, str]],
        revision: Revision,
        now: datetime,
    ) -> dict[str, int]:
        """The ids of definitions by node; those not known yet are recorded."""

        def work(connection: Connection) -> dict[str, int]:
            return {
                node: self._define(connection, node, one, json.dumps(reads.get(node, {})), revision, now)
                for node, one in defined.items()
            }

        return self._metadata.write(work)

    def _define(
        self,
        connection: Connection,
        node: str,
        defined: Definition,
        reads: str,
        revision: Revision,
        now: datetime,
    ) -> int:
        hashes = {"code": defined.code, "parameters": defined.parameters, "contract": defined.contract}
        conditions = [_definition.node == node, *(_definition[name] == one for name, one in hashes.items())]
        known = connection.execute(select(_definition.id).where(*conditions)).scalar()
        if known is not None:
            return int(known)
        row = {"node": node, **hashes, "reads": reads, "first_used_at": now.timestamp()}
        row |= {"git_commit": revision.commit, "git_dirty": revision.dirty}
        done = connection.execute(insert(tables.definition).values(row))
        key = done.inserted_primary_key
        assert key is not None
        return int(key[0])

    def promoted_cutoffs(self) -> dict[str, int]:
        """By model the earliest cutoff among the versions that were ever champion or accepted."""
        version, event = tables.model_version.c, tables.alias_event.c
        query = (
            select(version.model, func.min(version.cutoff))
            .join(
                tables.alias_event,
                (event.model == version.model)
                & (event.version == version.version)
                & event.alias.in_(tables.PREDICTING),
            )
            .group_by(version.model)
        )
        return self._metadata.read(
            lambda connection: {model: cutoff for model, cutoff in connection.execute(query)}
        )

    def start_run(
        self, kind: str, planned: int, revision: Revision, now: datetime, *, backfill: str | None = None
    ) -> str:
        """Record a run that begins; those still marked as running have crashed. Returns its id."""
        run = now.strftime("%Y%m%dT%H%M%S") + "-" + secrets.token_hex(3)
        row = {"id": run, "kind": kind, "started_at": now.timestamp(), "state": "running", "planned": planned}
        row |= {"host": socket.gethostname(), "pid": os.getpid(), "backfill": backfill}
        row |= {"git_commit": revision.commit, "git_dirty": revision.dirty}
        runs = tables.run.c
        ended = case((runs.started_at > now.timestamp(), runs.started_at), else_=now.timestamp())

        def work(connection: Connection) -> None:
            self._fence(connection)
            connection.execute(
                update(tables.run).where(runs.state == "running").values(state="crashed", ended_at=ended)
            )
            connection.execute(delete(tables.run).where(runs.id == run))
            number = (connection.execute(select(func.max(runs.number))).scalar() or 0) + 1
            connection.execute(insert(tables.run).values(row | {"number": number}))

        self._metadata.write(work)
        return run

    def end_run(self, run: str, state: str, counts: Mapping[str, int], now: datetime) -> None:
        """Record how a run ended: "done", "failed" or "cancelled"."""

        def work(connection: Connection) -> None:
            self._fence(connection)
            connection.execute(
                update(tables.run)
                .where(tables.run.c.id == run)
                .values(state=state, ended_at=now.timestamp(), **counts)
            )

        self._metadata.write(work)

    def end_task(
        self,
        run: str,
        task: TaskRecord,
        now: datetime,
        made: Made | None = None,
        *,
        backfill: str | None = None,
    ) -> None:
        """Record a task, and in the same transaction the materialization that it made, if it did."""
        key = {"node": task.node, "window_start": task.start}

        def work(connection: Connection) -> None:
            self._fence(connection)
            if made is not None:
                table = tables.materialization
                connection.execute(
                    delete(table).where(_made.node == task.node, _made.window_start == task.start)
                )
                connection.execute(
                    insert(table).values(
                        **key, **made._asdict(), window_end=task.end, run=run, made_at=now.timestamp()
                    )
                )
            if backfill is not None:
                window = tables.backfill_window.c
                connection.execute(
                    update(tables.backfill_window)
                    .where(
                        window.backfill == backfill,
                        window.node == task.node,
                        window.window_start == task.start,
                    )
                    .values(state="failed" if task.state == "failed" else "done")
                )
            _insert_task(connection, run, task)

        self._metadata.write(work)


def _insert_task(connection: Connection, run: str, task: TaskRecord) -> None:
    table = tables.task
    key = {"run": run, "node": task.node, "window_start": task.start, "window_end": task.end}
    connection.execute(delete(table).where(*(table.c[name] == value for name, value in key.items())))
    connection.execute(
        insert(table).values(
            **key,
            state=task.state,
            attempts=task.attempts,
            started_at=task.started_at,
            seconds=task.seconds,
            rows=task.rows,
            error=task.error,
            log=task.log,
        )
    )
