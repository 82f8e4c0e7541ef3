"""The metadata in a schema of PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, exc, text
from sqlalchemy.schema import CreateSchema

from envol.errors import StorageError
from envol.storage.place import Database
from envol.storage.postgres import away, connect, driver, explanation, server
from envol.storage.postgres_pen import lock_key
from envol.storage.waiting import OPENING

Result = TypeVar("Result")


def is_made(database: Database, opening: float = OPENING) -> bool:
    """Whether anything of the project was ever made there.

    Raises:
        StorageError: the database cannot be asked.
    """
    metadata = PostgresMetadata(database, opening)
    found = text("SELECT 1 FROM pg_namespace WHERE nspname IN (:metadata, :lake)")
    names = {"metadata": database.schema, "lake": database.lake_schema}

    def look() -> bool:
        with metadata.opened(write=False) as connection:
            return connection.execute(found, names).first() is not None

    try:
        return metadata.awaited(look)
    except exc.DBAPIError as error:
        raise metadata.explained(error, "read") or error from error
    finally:
        metadata.engine.dispose()


class PostgresMetadata:
    """What `Metadata` needs of PostgreSQL.

    Args:
        database: where, and the project it is for.
        opening: seconds to wait for a server that nothing was heard of yet.
    """

    def __init__(self, database: Database, opening: float = OPENING) -> None:
        driver()
        self._database = database
        self._server = server(database, opening)
        self.name = f"the metadata in {database}"
        self.engine: Engine = create_engine(
            "postgresql+psycopg://", creator=lambda: connect(database), max_overflow=-1
        )

    def awaited(self, work: Callable[[], Result]) -> Result:
        """Do the work, and again from its start while the server is away."""
        return self._server.awaited(work)

    def opened(self, write: bool) -> Connection:
        """A connection in a transaction: one that writes is the only one, one that reads sees one state."""
        connection = self.engine.connect()
        try:
            if write:
                # The lock comes first, and what is read below it must be as of after it was got.
                connection = connection.execution_options(isolation_level="READ COMMITTED")
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key(self._database.schema)}
                )
            else:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
                connection.execute(text("SELECT 1"))  # does the connection still live?
        except BaseException:
            connection.close()
            raise
        return connection

    def make_schema(self, connection: Connection) -> None:
        """Make the project's schema; one that was made for it needs no right to make schemas."""
        found = text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
        if connection.execute(found, {"name": self._database.schema}).scalar() is None:
            connection.execute(CreateSchema(self._database.schema))

    def size(self) -> int:
        """Bytes of the schema's tables with their indexes."""
        tables = text(
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :name AND c.relkind = 'r'"
        )
        with self.opened(write=False) as connection:
            return int(connection.execute(tables, {"name": self._database.schema}).scalar_one())

    def shrink(self, rewrite: bool) -> int:
        """Nothing: the server's autovacuum frees the space for new rows."""
        return 0

    def explained(self, error: exc.DBAPIError, verb: str) -> StorageError | None:
        """A fault of the server, the connection or rights; None for wrong SQL."""
        reason = away(error)
        if reason is not None:
            return self._server.unreachable(reason)
        problem, remedy = explanation(error, self._database)
        return StorageError(f"{self.name} cannot be {verb}: {problem}", remedy=remedy) if problem else None
