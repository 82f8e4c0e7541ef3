"""The metadata database: SQLAlchemy Core on SQLite or PostgreSQL, migrated when it is opened."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection, exc, inspect, text

from envol.errors import StorageError
from envol.storage.place import Database
from envol.storage.tables import REVISION
from envol.storage.waiting import OPENING

if TYPE_CHECKING:
    from envol.storage.metadata_postgres import PostgresMetadata
    from envol.storage.metadata_sqlite import SqliteMetadata

FILE_NAME = "metadata.sqlite"
MIGRATIONS = Path(__file__).parent / "migrations"
Result = TypeVar("Result")


class Metadata:
    """The database of runs, materializations, model versions and aliases (see `envol.storage.tables`).

    Threads may share it, and many processes may open it at once: the first brings the schema up to date
    inside one write transaction, the others wait for it.

    Args:
        place: a SQLite file, whose folder must exist, or a database of PostgreSQL.
        opening: seconds to wait for a server that nothing was heard of yet.

    Raises:
        StorageError: when it cannot be opened, or was written by a newer Envol.
    """

    def __init__(self, place: str | Path | Database, *, opening: float = OPENING) -> None:
        self._writer = threading.RLock()  # threads queue here, in turn, instead of polling the lock
        self._backend = _backend(place, opening)
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction that writes: committed at the end of the block, rolled back by an exception.

        There is one at a time among all processes, so that what is read in the block is still true when it
        commits (BEGIN IMMEDIATE on SQLite, an advisory lock on PostgreSQL). It waits for other writers, on
        SQLite for up to a minute, and for a server that is away, but not in the middle of the block.

        Raises:
            StorageError: when the disk is full, it cannot be written, or another writer never ends.
            UnreachableError: when the server does not come back, or goes in the middle of the block.
        """
        with self._explained("written"), self._writer:
            connection = self._backend.awaited(lambda: self._backend.opened(write=True))
            with _committed(connection):
                yield connection

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection for reading one consistent state; anything written through it is rolled back.

        Raises:
            StorageError: when it cannot be read.
            UnreachableError: when the server does not come back, or goes in the middle of the block.
        """
        with self._explained("read"):
            with self._backend.awaited(lambda: self._backend.opened(write=False)) as connection:
                yield connection

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Do the work in a transaction as `begin` gives, and again from its start while the server is away.

        The work must lead to the same when it is done twice, since the answer to a commit may be lost, and
        must use nothing but the connection.

        Raises:
            StorageError: as `begin`.
            UnreachableError: when the server is away for more than five minutes.
        """

        def attempt() -> Result:
            with self._writer:
                connection = self._backend.opened(write=True)
                with _committed(connection):
                    return work(connection)

        with self._explained("written"):
            return self._backend.awaited(attempt)

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Do the work on one consistent state, and again from its start while the server is away.

        Raises:
            StorageError: as `connect`.
            UnreachableError: when the server is away for more than five minutes.
        """

        def attempt() -> Result:
            with self._backend.opened(write=False) as connection:
                return work(connection)

        with self._explained("read"):
            return self._backend.awaited(attempt)

    def size(self) -> int:
        """Bytes that it takes on disk."""
        with self._explained("read"):
            return self._backend.awaited(self._backend.size)

    def shrink(self, *, rewrite: bool = False) -> int:
        """Give the space of removed rows back to the disk; returns the bytes.

        On SQLite this goes in steps between which others may write; PostgreSQL uses the space again itself.

        Args:
            rewrite: write the file anew if it is one that cannot shrink in steps (made by an older Envol) and
                a quarter of it is free. No one else can write meanwhile.

        Raises:
            StorageError: as `begin`.
        """
        with self._explained("written"), self._writer:
            return self._backend.shrink(rewrite)

    def close(self) -> None:
        """Close its connections."""
        self._backend.engine.dispose()

    def _migrate(self) -> None:
        current = self.read(_revision)
        if current is not None and current > REVISION:
            raise StorageError(
                f"{self._backend.name} was written by a newer Envol (schema {current}, this one knows up to"
                f" {REVISION})",
                remedy="upgrade Envol to the version that wrote it",
            )
        if current != REVISION:
            self.write(self._upgrade)

    def _upgrade(self, connection: Connection) -> None:
        if _revision(connection) == REVISION:
            return  # another process did it meanwhile
        self._backend.make_schema(connection)
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    @contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        """Turn the faults of disk, locks and connections into StorageErrors; wrong SQL stays what it is."""
        try:
            yield
        except exc.DBAPIError as error:
            explained = self._backend.explained(error, verb)
            if explained is None:
                raise
            raise explained from error


def _backend(place: str | Path | Database, opening: float) -> SqliteMetadata | PostgresMetadata:
    if isinstance(place, Database):
        from envol.storage.metadata_postgres import PostgresMetadata

        return PostgresMetadata(place, opening)
    from envol.storage.metadata_sqlite import SqliteMetadata

    return SqliteMetadata(Path(place))


@contextmanager
def _committed(connection: Connection) -> Iterator[None]:
    """Commit at the end of the block, and roll back after an exception."""
    with connection:  # which rolls back what was not committed
        yield
        connection.commit()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
