"""The metadata in a SQLite file, in WAL mode."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from envol.errors import StorageError
from envol.storage.disk import is_full
from envol.storage.sqlite import use_wal

BUSY_SECONDS = 60.0
INCREMENTAL = 2
PAGES_A_STEP = 1_000
"""So many pages (4 MB) are freed in one transaction, which takes some 40 ms."""
_WRITE = "envol_write"
Result = TypeVar("Result")


class SqliteMetadata:
    """What `Metadata` needs of a SQLite file.

    Args:
        path: the file, whose folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._file, self._folder = path, path.parent
        self.name = f"the metadata database {path}"
        # No upper bound: a thread that needs a connection gets one instead of waiting for the others' work.
        self.engine: Engine = create_engine(
            URL.create("sqlite", database=str(path)),
            connect_args={"timeout": BUSY_SECONDS},
            max_overflow=-1,
        )
        event.listen(self.engine, "connect", _prepare)
        event.listen(self.engine, "begin", _begin)

    def awaited(self, work: Callable[[], Result]) -> Result:
        """The work's result: a file is never away."""
        return work()

    def opened(self, write: bool) -> Connection:
        """A connection in a transaction; one that writes has the write lock from its start."""
        connection = self.engine.connect()
        try:
            connection = connection.execution_options(**{_WRITE: write})
            connection.begin()
        except BaseException:
            connection.close()
            raise
        return connection

    def make_schema(self, connection: Connection) -> None:
        """Nothing: a file has one schema."""

    def size(self) -> int:
        """Bytes of the file and of its write-ahead log."""
        files = (self._file.with_name(f"{self._file.name}{ending}") for ending in ("", "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def shrink(self, rewrite: bool) -> int:
        """Free the unused pages, some at a time, or write the file anew; returns the bytes."""
        before = self.size()
        pooled = self.engine.raw_connection()
        try:
            connection = pooled.driver_connection
            assert isinstance(connection, sqlite3.Connection)
            if _number(connection, "auto_vacuum") == INCREMENTAL:
                while _number(connection, "freelist_count"):
                    # As a script: a lone statement without a result is stepped once, and frees one page.
                    connection.executescript(f"PRAGMA incremental_vacuum({PAGES_A_STEP})")
            elif rewrite and 4 * _number(connection, "freelist_count") > _number(connection, "page_count"):
                connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            problem, remedy = _explanation(error.sqlite_errorname, self._folder)
            told = problem or str(error)
            raise StorageError(f"{self.name} cannot be written: {told}", remedy=remedy or None) from error
        finally:
            pooled.close()
        return max(before - self.size(), 0)

    def explained(self, error: exc.DBAPIError, verb: str) -> StorageError | None:
        """A fault of the disk or of locks; None for wrong SQL."""
        problem, remedy = _explanation(getattr(error.orig, "sqlite_errorname", ""), self._folder)
        return StorageError(f"{self.name} cannot be {verb}: {problem}", remedy=remedy) if problem else None


def _explanation(name: str, folder: Path) -> tuple[str, str]:
    """What a SQLite error name means and what to do; empty for errors that are a mistake in the code."""
    # Where SQLite cannot make its shared file, it says that the disk failed, and not that it is full.
    if name == "SQLITE_FULL" or (name.startswith("SQLITE_IOERR") and is_full(folder)):
        return "its disk is full", f"free space on the disk of {folder}"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "another process holds it", "find the process that keeps it open, or end it"
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return "it is damaged", "move the file away, and restore it from a backup"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return "the file may not be opened or written", f"check the permissions of {folder}"
    if name.startswith("SQLITE_IOERR"):
        return f"the disk failed ({name})", f"check the space and the disk of {folder}"
    return "", ""


def _prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # transactions begin where `_begin` says, not where sqlite3 guesses
    connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")  # of a new file; before anything is in it
    use_wal(connection, BUSY_SECONDS)
    connection.execute("PRAGMA synchronous = FULL")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get(_WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
