"""The metadata database: SQLAlchemy Core on SQLite in WAL mode, migrated when it is opened."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, inspect, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from envol.errors import StorageError
from envol.storage.disk import is_full
from envol.storage.sqlite import use_wal
from envol.storage.tables import REVISION

FILE_NAME = "metadata.sqlite"
BUSY_SECONDS = 60.0
MIGRATIONS = Path(__file__).parent / "migrations"
_WRITE = "envol_write"


class Metadata:
    """The database of runs, materializations, model versions and aliases (see `envol.storage.tables`).

    Threads may share it, and many processes may open it at once: the first brings the schema up to date
    inside one write transaction, the others wait for it.

    Args:
        url_or_path: a SQLite file, whose folder must exist, or a SQLAlchemy URL.

    Raises:
        StorageError: when it cannot be opened, or was written by a newer Envol.
    """

    def __init__(self, url_or_path: str | Path) -> None:
        self.url = _url(url_or_path)
        self._place = self.url.database or self.url.render_as_string()
        self._writer = threading.RLock()  # threads queue here, in turn, instead of polling SQLite's lock
        self._engine = _engine(self.url)
        try:
            self._migrate()
        except BaseException:
            self._engine.dispose()
            raise

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction that writes: committed at the end of the block, rolled back by an exception.

        On SQLite the write lock is taken at the start (BEGIN IMMEDIATE), so that what is read in the block
        is still true when it commits. It waits up to a minute for other writers.

        Raises:
            StorageError: when the disk is full, the file cannot be written, or another writer never ends.
        """
        with self._writer, self._explained("written"), self._engine.connect() as connection:
            connection = connection.execution_options(**{_WRITE: True})
            with connection.begin():
                yield connection

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection for reading one consistent state; anything written through it is rolled back.

        Raises:
            StorageError: when the file cannot be read.
        """
        with self._explained("read"), self._engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()

    def _migrate(self) -> None:
        with self.connect() as connection:
            current = _revision(connection)
        self._refuse_newer(current)
        if current == REVISION:
            return
        with self.begin() as connection:
            if _revision(connection) != REVISION:  # unless another process did it meanwhile
                _upgrade(connection)

    def _refuse_newer(self, current: str | None) -> None:
        if current is not None and current > REVISION:
            raise StorageError(
                f"the metadata database {self._place} was written by a newer Envol (schema {current},"
                f" this one knows up to {REVISION})",
                remedy="upgrade Envol to the version that wrote it",
            )

    @contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        """Turn the faults of disk and locks into StorageErrors; wrong SQL stays what it is."""
        try:
            yield
        except exc.DBAPIError as error:
            name = getattr(error.orig, "sqlite_errorname", "")
            folder = Path(self._place).parent
            problem, remedy = _explanation(name, folder)
            if not problem:
                raise
            raise StorageError(
                f"the metadata database {self._place} cannot be {verb}: {problem}", remedy=remedy
            ) from error


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


def _url(url_or_path: str | Path) -> URL:
    if isinstance(url_or_path, str) and "://" in url_or_path:
        return make_url(url_or_path)
    return URL.create("sqlite", database=str(url_or_path))


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url)
    # No upper bound: a thread that needs a connection gets one instead of waiting for the others' work.
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, max_overflow=-1)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # transactions begin where `_begin` says, not where sqlite3 guesses
    use_wal(connection, BUSY_SECONDS)
    connection.execute("PRAGMA synchronous = FULL")


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get(_WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
