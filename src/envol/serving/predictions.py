"""The prediction log: every online prediction, durable before the client gets its answer.

One thread writes. It commits whatever has been queued since its last commit as one transaction (group
commit), so a thousand waiting requests cost one flush of the disk, and a lonely one waits for no other.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from envol.errors import StorageError
from envol.storage import use_wal

if TYPE_CHECKING:
    import polars as pl

logger = logging.getLogger("envol.serving")

FILE_NAME = "predictions.sqlite"
_BUSY_SECONDS = 30.0
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS prediction (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    at INTEGER NOT NULL,
    model TEXT NOT NULL,
    version INTEGER NOT NULL,
    input TEXT NOT NULL,
    output TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS prediction_model_at ON prediction (model, at);
"""
_INSERT = "INSERT INTO prediction (id, at, model, version, input, output) VALUES (?, ?, ?, ?, ?, ?)"


class Prediction(NamedTuple):
    """One row that was predicted: `at` in microseconds since 1970 UTC, `input` and `output` as JSON."""

    id: str
    at: int
    model: str
    version: int
    input: str
    output: str


class PredictionLog:
    """The log in one SQLite file (WAL, flushed at every commit), safe for threads and processes.

    Args:
        path: the file; it is created by the first write, and its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._condition = threading.Condition()
        self._queue: list[tuple[Sequence[Prediction], Future[None]]] = []
        self._thread: threading.Thread | None = None
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        self._failure: StorageError | None = None

    @classmethod
    def in_store(cls, store_path: Path) -> PredictionLog:
        """The log of the store at `store_path`."""
        return cls(Path(store_path) / FILE_NAME)

    @property
    def failure(self) -> StorageError | None:
        """Why the last commit failed; None when it succeeded."""
        return self._failure

    def append(self, predictions: Sequence[Prediction]) -> Future[None]:
        """Queue predictions; the future is done once they are on disk, all of them or none.

        The future raises StorageError when the disk is full or the file cannot be written. An empty
        sequence writes a mark of its own, which tells whether the log can be written at all.
        """
        future: Future[None] = Future()
        with self._condition:
            if self._closed:
                raise StorageError("the prediction log is closed", remedy="ask again in a moment")
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="prediction-log", daemon=True)
                self._thread.start()
            self._queue.append((predictions, future))
            self._condition.notify()
        return future

    def close(self) -> None:
        """Write what is queued, then stop. Later calls of `append` raise StorageError."""
        with self._condition:
            self._closed = True
            self._condition.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def read(
        self,
        model: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
        *,
        after: int | None = None,
        newest: bool = False,
    ) -> pl.DataFrame:
        """Predictions in the order of their commits: sequence, id, at (UTC), model, version, input, output.

        Args:
            model: only this model's.
            since: only those made at this instant or later (aware).
            limit: at most so many, the oldest of them unless `newest`.
            after: only those with a greater `sequence`; reading on from the last one misses none.
            newest: with `limit`, keep the last ones instead of the first.
        """
        import polars as pl

        conditions, values = [], list[str | int]()
        if model is not None:
            conditions.append("model = ?")
            values.append(model)
        if since is not None:
            conditions.append("at >= ?")
            values.append(microseconds(since))
        if after is not None:
            conditions.append("sequence > ?")
            values.append(after)
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        query = f"SELECT sequence, id, at, model, version, input, output FROM prediction {where} "
        query += f"ORDER BY sequence {'DESC' if newest else 'ASC'} LIMIT ?"
        values.append(-1 if limit is None else limit)
        rows = self._select(query, values)
        schema = {"sequence": pl.Int64, "id": pl.String, "at": pl.Int64, "model": pl.String}
        schema |= {"version": pl.Int64, "input": pl.String, "output": pl.String}
        frame = pl.DataFrame(rows[::-1] if newest else rows, schema=schema, orient="row")
        return frame.with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))

    def find(self, identity: str) -> Prediction | None:
        """The prediction of an id; None when there is none."""
        query = "SELECT id, at, model, version, input, output FROM prediction WHERE id = ?"
        rows = self._select(query, [identity])
        return Prediction(*rows[0]) if rows else None  # type: ignore[arg-type]

    def _select(self, query: str, values: list[str | int]) -> list[tuple[object, ...]]:
        if not self.path.exists():
            return []
        with self._explained("read"):
            uri = f"{self.path.resolve().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as connection:
                return connection.execute(query, values).fetchall()

    def _write(self) -> None:
        while True:
            with self._condition:
                while not self._queue and not self._closed:
                    self._condition.wait()
                batch, self._queue = self._queue, []
            if not batch:
                break
            # A request whose client has gone may have cancelled its future; it is not written then.
            self._settle([entry for entry in batch if entry[1].set_running_or_notify_cancel()])
        self._disconnect()

    def _settle(self, batch: list[tuple[Sequence[Prediction], Future[None]]]) -> None:
        try:
            with self._explained("written"):
                self._commit([prediction for predictions, _ in batch for prediction in predictions])
        except Exception as error:  # whatever it is, the requests that wait must hear of it
            self._disconnect()
            if self._failure is None:
                logger.error("%s", error)
            failure = error if isinstance(error, StorageError) else StorageError(str(error))
            self._failure = failure
            for _, future in batch:
                future.set_exception(failure)
        else:
            self._failure = None
            for _, future in batch:
                future.set_result(None)

    def _commit(self, predictions: list[Prediction]) -> None:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.execute("BEGIN IMMEDIATE")
        if predictions:
            self._connection.executemany(_INSERT, predictions)
        else:
            self._connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        self._connection.execute("COMMIT")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            use_wal(connection, _BUSY_SECONDS)
            connection.execute("PRAGMA synchronous = FULL")
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found > _SCHEMA_VERSION:
                raise StorageError(
                    f"the prediction log {self.path} was written by a newer Envol (schema {found})",
                    remedy="upgrade Envol to the version that wrote it",
                )
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        """Close the connection, which rolls back what it had begun; the next commit opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                logger.warning("closing the prediction log %s: %s", self.path, error)

    @contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        """Turn SQLite's errors into StorageErrors that say what to do."""
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if name == "SQLITE_FULL":
                problem, remedy = "its disk is full", f"free space on the disk of {self.path.parent}"
            elif name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                problem, remedy = "another process holds it", "find the process that keeps it open"
            elif name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
                problem, remedy = "it is damaged", "move the file away, and restore it from a backup"
            else:
                problem = f"{error} ({name})" if name else str(error)
                remedy = f"check the space and the permissions of {self.path.parent}"
            raise StorageError(
                f"the prediction log {self.path} cannot be {verb}: {problem}", remedy=remedy
            ) from error


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970 UTC of an aware datetime."""
    if instant.tzinfo is None:
        raise ValueError("an instant needs a time zone")
    whole = int(instant.replace(microsecond=0).timestamp())
    return whole * 1_000_000 + instant.microsecond
