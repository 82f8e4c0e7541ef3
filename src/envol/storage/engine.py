"""DuckDB with the lake attached: the writers' lock, retries, and clear errors."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import duckdb

from envol.errors import EnvolError, NotFoundError, StorageError, UserError
from envol.storage.catalogs import BUSY_SECONDS, LAST_OPTION
from envol.storage.ground import TRANSIENT, Cursor, Ground

# DuckLake goes on in a transaction whose connection has dropped until it needs the catalog once more.
_BROKEN_OFF = "current transaction is aborted"

OPTIONS = {
    # Smaller than DuckDB's 122,880 rows: one window is read out of a merged file in less time.
    "parquet_row_group_size": "20480",
    # Rows deleted from a file are listed in a file of their own, written anew by each deletion: bound it.
    LAST_OPTION: "32MB",
}

Result = TypeVar("Result")


class Engine:
    """One DuckDB instance for the threads of a process, each call on a cursor of its own.

    Args:
        ground: where the lake is.
        read_only: attach for reading.
    """

    def __init__(self, ground: Ground, *, read_only: bool = False) -> None:
        self.ground = ground
        self.read_only = read_only
        self._opening = threading.Lock()
        self._database: Cursor | None = None
        self._turn = threading.Lock()

    def open(self) -> None:
        """Attach the lake, making it first unless it is opened for reading."""
        try:
            with self.explained("opened"):
                self.retried(self._instance)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the instance; the next call opens another."""
        with self._opening:
            database, self._database = self._database, None
        if database is not None:
            database.close()
        with self._turn:
            self.ground.catalog.pen.close()

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """A connection of one's own, outside any transaction."""
        cursor = self._instance().cursor()
        try:
            yield cursor
        except (duckdb.FatalException, duckdb.InternalException):
            self._database = None  # DuckDB refuses all work after such an error; the next call opens anew
            raise
        finally:
            with suppress(duckdb.Error):
                cursor.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lake's only pen, among threads and processes; others wait for their turn.

        SQLite has one writer at a time, and a DuckLake transaction that another one overtakes starts again:
        four threads committing side by side took three times as long as the same four taking turns. The
        lock ends with its process, however that ends.

        Raises:
            UserError: when the lake was opened for reading.
        """
        if self.read_only:
            raise UserError("the lake was opened for reading only", remedy="open it without `read_only`")
        with self._turn, self.ground.catalog.pen.held():
            yield

    def written(self, work: Callable[[], Result]) -> Result:
        """Do the work, with the pen held at its start, and again until it was held all the while.

        A connection that drops frees the pen: another process may then write at the same moment, which
        DuckLake does not notice where both add rows.
        """
        pen = self.ground.catalog.pen

        def attempt() -> Result:
            pen.take()
            return work()

        while True:
            result = self.retried(attempt)
            if pen.is_held():
                return result

    def retried(self, work: Callable[[], Result]) -> Result:
        """Do the work again when another program that takes no turn got ahead, or a server was away."""
        return self.ground.awaited(lambda: self._until_through(work))

    def _until_through(self, work: Callable[[], Result]) -> Result:
        deadline, pause = time.monotonic() + BUSY_SECONDS, 0.01
        while True:
            try:
                return work()
            except duckdb.Error as error:
                text = str(error).lower()
                if time.monotonic() > deadline or not any(word in text for word in (*TRANSIENT, _BROKEN_OFF)):
                    raise
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, 1.0)

    @contextmanager
    def explained(self, verb: str, *, node: str | None = None, window: str | None = None) -> Iterator[None]:
        """Turn what DuckDB and the disk raise into StorageErrors; Envol's own errors learn where they are."""
        try:
            yield
        except EnvolError as error:
            raise error.located(node=node, window=window) from error.__cause__
        except self.ground.catalog.faults as error:
            problem, remedy = self.ground.explanation(str(error))
            raise StorageError(
                f"the lake in {self.ground} cannot be {verb}: {problem}",
                node=node,
                window=window,
                remedy=remedy,
            ) from error

    def _instance(self) -> Cursor:
        database = self._database
        if database is not None:
            return database
        with self._opening:
            if self._database is None:
                exists = self.ground.catalog.exists()
                if self.read_only and not exists:
                    raise NotFoundError(f"there is no lake in {self.ground}", remedy="run the project first")
                database = self.ground.instance()
                # A window is small work: more threads for it cost more time than they save, and tasks
                # side by side want the cores (a commit took 43 ms of CPU on two threads, 26 ms on one).
                database.execute("SET GLOBAL threads = 1")
                if not exists:
                    self._create(database)
                self.retried(lambda: self.ground.attach(database, read_only=self.read_only))
                self._database = database
            return self._database

    def _create(self, database: Cursor) -> None:
        with self.writing():
            if self.ground.catalog.exists():
                return
            self.ground.files.claim()
            with self.ground.catalog.making() as source:
                self.ground.attach(database, source=source)
                for name, value in OPTIONS.items():
                    database.execute(f"CALL lake.set_option('{name}', '{value}')")
                database.execute("DETACH lake")


@contextmanager
def transaction(cursor: Cursor) -> Iterator[None]:
    """A transaction: committed at the end of the block, rolled back by an exception."""
    cursor.begin()
    try:
        yield
        cursor.commit()
    except BaseException:
        with suppress(duckdb.Error):  # a commit that failed has rolled back already
            cursor.rollback()
        raise
