"""Committing windows: those that wait for the pen at the same moment go into one transaction.

A DuckLake commit costs about 15 ms whatever is in it, and SQLite has one writer at a time. Whoever gets the
pen therefore commits for all that wait (group commit). A window stays whole, in one transaction.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

import duckdb
import polars as pl

from envol.errors import EnvolError
from envol.project.windows import Window
from envol.storage import catalog, maintenance
from envol.storage.engine import Engine, transaction
from envol.storage.ground import Cursor
from envol.storage.known import Known
from envol.storage.records import Commit
from envol.storage.replacing import Incoming, IncomingSpool, replace_rows
from envol.storage.spool import Spool

LARGEST_GROUP = 16
_TOLD = 3


@dataclass(frozen=True, eq=False)
class Request:
    """A window that is to be replaced in some tables, and the snapshot it will be in."""

    tables: list[Incoming | IncomingSpool]
    window: Window
    node: str
    fingerprint: str
    message: str
    permit: Callable[[], None]
    snapshot: Future[int] = field(default_factory=Future)

    @classmethod
    def of(
        cls,
        frames: Mapping[str, pl.DataFrame | Spool],
        window: Window,
        node: str,
        fingerprint: str,
        message: str,
        permit: Callable[[], None],
    ) -> Request:
        tables = [
            IncomingSpool(table, frame) if isinstance(frame, Spool) else Incoming(table, frame)
            for table, frame in frames.items()
        ]
        return cls(tables, window, node, fingerprint, message or f"{node} {window.key}", permit)

    def info(self) -> dict[str, str]:
        """What the snapshot keeps beside its message."""
        return {
            "node": self.node,
            "window": self.window.key,
            "start": self.window.start.isoformat(),
            "end": self.window.end.isoformat(),
            "fingerprint": self.fingerprint,
        }


class Committer:
    """Commits the requests of a process's threads.

    Args:
        merge_every: windows between two merges of small files.
    """

    def __init__(self, engine: Engine, merge_every: int) -> None:
        self._engine = engine
        self._merge_every = merge_every
        self._known = Known()
        self._waiting: list[Request] = []
        self._lock = threading.Lock()
        self._unmerged = 0
        self._merge_due = False

    def commit(self, request: Request) -> Commit:
        """Commit the request, with those that wait as well; returns once it is on disk.

        Raises:
            DataError: when a dtype has changed or cannot be kept; nothing of the request is written then.
            duckdb.Error, OSError: when the files cannot be written; nothing of the request is written then.
        """
        with self._lock:
            self._waiting.append(request)
        with self._engine.writing():
            if not request.snapshot.done():
                self._commit_group(self._take(request))
                self._merge_when_due()
        snapshot = request.snapshot.result()
        whole = [table for table in request.tables if isinstance(table, Incoming)]
        return Commit(snapshot, {table.name: table.as_read(request.window) for table in whole})

    def _take(self, request: Request) -> list[Request]:
        with self._lock:
            group = [request, *(other for other in self._waiting if other is not request)][:LARGEST_GROUP]
            self._waiting = [other for other in self._waiting if other not in group]
        return group

    def _commit_group(self, group: list[Request]) -> None:
        if len(group) > 1:
            # Where one cannot be committed, or two change the same table's columns, each goes by itself.
            with suppress(EnvolError, duckdb.Error, OSError):
                self._commit_together(group)
                return
        for request in group:
            try:
                self._commit_together([request])
            except BaseException as error:
                request.snapshot.set_exception(error)

    def _commit_together(self, group: list[Request]) -> None:
        snapshot = self._engine.written(lambda: self._transaction(group))
        for request in group:
            request.snapshot.set_result(snapshot)
        self._unmerged += len(group)
        self._merge_due = self._unmerged >= self._merge_every or snapshot % self._merge_every == 0

    def _merge_when_due(self) -> None:
        if self._merge_due:
            self._merge_due, self._unmerged = False, 0
            self._engine.retried(lambda: maintenance.merge_small_files(self._engine))

    def _transaction(self, group: list[Request]) -> int:
        for permit in {request.permit for request in group}:
            permit()
        try:
            with self._engine.cursor() as cursor:
                with transaction(cursor):
                    self._known.refresh(cursor)
                    for request in group:
                        for table in request.tables:
                            replace_rows(cursor, table, request.window, self._known)
                    _describe(cursor, group)
                snapshot = catalog.last_commit(cursor)
        except BaseException:
            self._known.forget()
            raise
        self._known.committed(snapshot)
        return snapshot


def _describe(cursor: Cursor, group: list[Request]) -> None:
    if len(group) == 1:
        message, info = group[0].message, json.dumps(group[0].info())
    else:
        told = "; ".join(request.message for request in group[:_TOLD])
        message = f"{len(group)} windows: {told}{'; ...' if len(group) > _TOLD else ''}"
        info = json.dumps({"windows": [request.info() for request in group]})
    cursor.execute("CALL lake.set_commit_message('envol', ?, extra_info => ?)", [message, info])
