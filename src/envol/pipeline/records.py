"""What was made, by which run: rows of the metadata database, read whole and written one at a time."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import delete, func, insert, select, update

from envol.project.fingerprint import digest
from envol.storage import Metadata, tables


class Made(NamedTuple):
    """One materialization: what it was made from, and what came of it."""

    rows: int
    quarantined: int
    code: str
    parameters: str
    contract: str
    inputs: str
    version: str
    snapshot: int | None

    @property
    def fingerprint(self) -> str:
        """Hash of the definition and the inputs: equal means nothing to do."""
        return digest(self.code, self.parameters, self.contract, self.inputs)


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


_made = tables.materialization.c
_MADE_COLUMNS = (
    _made.rows,
    _made.quarantined,
    _made.code,
    _made.parameters,
    _made.contract,
    _made.inputs,
    _made.version,
    _made.snapshot,
)


class Records:
    """Materializations, runs and tasks of one project."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def made(self) -> dict[str, dict[int, Made]]:
        """All materializations: by node, then by start of the window (a model's: by cutoff)."""
        found: dict[str, dict[int, Made]] = {}
        with self._metadata.connect() as connection:
            for row in connection.execute(select(_made.node, _made.window_start, *_MADE_COLUMNS)):
                found.setdefault(row[0], {})[row[1]] = Made._make(row[2:])
        return found

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
        with self._metadata.connect() as connection:
            return {model: cutoff for model, cutoff in connection.execute(query)}

    def start_run(self, planned: int, now: datetime) -> str:
        """Record a run that begins; those still marked as running have crashed. Returns its id."""
        run = now.strftime("%Y%m%dT%H%M%S") + "-" + secrets.token_hex(3)
        with self._metadata.begin() as connection:
            connection.execute(
                update(tables.run)
                .where(tables.run.c.state == "running")
                .values(state="crashed", ended_at=now.timestamp())
            )
            connection.execute(
                insert(tables.run).values(
                    id=run,
                    started_at=now.timestamp(),
                    state="running",
                    planned=planned,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                )
            )
        return run

    def end_run(self, run: str, state: str, counts: Mapping[str, int], now: datetime) -> None:
        """Record how a run ended: "done", "failed" or "cancelled"."""
        with self._metadata.begin() as connection:
            connection.execute(
                update(tables.run)
                .where(tables.run.c.id == run)
                .values(state=state, ended_at=now.timestamp(), **counts)
            )

    def end_task(
        self, run: str, task: TaskRecord, made: Made | None = None, lineage: Mapping[str, Any] | None = None
    ) -> None:
        """Record a task, and in the same transaction the materialization that it made, if it did."""
        key = {"node": task.node, "window_start": task.start}
        with self._metadata.begin() as connection:
            if made is not None:
                table = tables.materialization
                connection.execute(
                    delete(table).where(_made.node == task.node, _made.window_start == task.start)
                )
                connection.execute(
                    insert(table).values(
                        **key,
                        **made._asdict(),
                        window_end=task.end,
                        fingerprint=made.fingerprint,
                        run=run,
                        made_at=time.time(),
                        lineage=json.dumps(lineage or {}),
                    )
                )
            connection.execute(
                insert(tables.task).values(
                    **key,
                    run=run,
                    window_end=task.end,
                    state=task.state,
                    attempts=task.attempts,
                    started_at=task.started_at,
                    seconds=task.seconds,
                    rows=task.rows,
                    error=task.error,
                    log=task.log,
                )
            )
