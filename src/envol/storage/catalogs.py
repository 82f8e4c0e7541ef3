"""Where the lake's catalog is: a SQLite file, or a schema of PostgreSQL."""

from __future__ import annotations

import fcntl
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import duckdb

from envol.storage.place import Database
from envol.storage.waiting import Server

CATALOG = "lake.sqlite"
BUSY_SECONDS = 60.0
LAST_OPTION = "target_file_size"
"""The option of the lake that is set last when it is made."""
_LOCK = "lake.lock"
_FORBIDDEN = ("readonly database", "unable to open database")
# A commit that failed because the connection dropped tells only that it could not be taken back.
_BROKEN = re.compile(r'query "(rollback|begin.*|commit)": *$', re.IGNORECASE | re.MULTILINE)
Result = TypeVar("Result")


class FilePen:
    """A lock among the processes of this machine, which ends with its process, however that ends."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it during the block, after those that hold it now."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def take(self) -> None:
        """Nothing: it cannot be lost."""

    def is_held(self) -> bool:
        """Whether it has been held all the time since it was taken."""
        return True

    def close(self) -> None:
        """Nothing: it is free when its block ends."""


class CatalogFile:
    """A catalog in a SQLite file of a folder."""

    extension = "sqlite_scanner"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = str(folder)
        self.pen = FilePen(folder / _LOCK)
        self.source = f"sqlite:{folder / CATALOG}"
        self.faults: tuple[type[Exception], ...] = (duckdb.Error, OSError)
        self.options = ["META_JOURNAL_MODE 'WAL'", f"META_BUSY_TIMEOUT {int(BUSY_SECONDS * 1000)}"]

    def awaited(self, work: Callable[[], Result]) -> Result:
        """The work's result: a file is never away."""
        return work()

    def attach_plain(self, database: duckdb.DuckDBPyConnection, name: str) -> None:
        """Attach the catalog's own tables."""
        path = str(self._folder / CATALOG).replace("'", "''")
        database.execute(f"ATTACH '{path}' AS {name} (TYPE sqlite)")

    def exists(self) -> bool:
        """Whether the lake was made."""
        return (self._folder / CATALOG).exists()

    @contextmanager
    def making(self) -> Iterator[str]:
        """The source to make a new catalog at; it is moved to its place whole."""
        draft = self._folder / f".{CATALOG}-{uuid.uuid4().hex}"
        try:
            yield f"sqlite:{draft}"
            draft.rename(self._folder / CATALOG)
        finally:
            for left in self._folder.glob(f"{draft.name}*"):
                left.unlink(missing_ok=True)

    def explanation(self, text: str) -> tuple[str, str] | None:
        """What an error means and what to do."""
        lower = text.lower()
        if any(word in lower for word in _FORBIDDEN):
            return "its files may not be opened or written", f"check the permissions of {self._folder}"
        if "not a database" in lower:
            return f"it is damaged ({text.splitlines()[0]})", "restore the folder from a backup"
        return None


class CatalogSchema:
    """A catalog in a schema of PostgreSQL.

    Args:
        database: where, and the project it is for.
        opening: seconds to wait for a server that nothing was heard of yet.

    Raises:
        UserError: the driver is not installed, or the url is not understood.
    """

    extension = "postgres_scanner"

    def __init__(self, database: Database, opening: float) -> None:
        from envol.storage import postgres
        from envol.storage.postgres_pen import Pen

        settings = postgres.settings(database)
        import psycopg
        from psycopg.conninfo import make_conninfo

        self._postgres = postgres
        self._database = database
        self._server = Server(f"the database {database}", self._away, postgres.UNREACHABLE, opening)
        self.name = f"{database.url} (schema {database.lake_schema})"
        self.pen = Pen(database, database.lake_schema, self._server)
        self.source = f"postgres:{make_conninfo(**settings)}"
        self.faults: tuple[type[Exception], ...] = (duckdb.Error, OSError, psycopg.Error)
        schema = database.lake_schema.replace("'", "''")
        self.options = [f"METADATA_SCHEMA '{schema}'", f"META_SCHEMA '{schema}'"]

    def awaited(self, work: Callable[[], Result]) -> Result:
        """Do the work, and again from its start while the server is away."""
        return self._server.awaited(work)

    def attach_plain(self, database: duckdb.DuckDBPyConnection, name: str) -> None:
        """Attach the catalog's own tables."""
        source = self.source.removeprefix("postgres:").replace("'", "''")
        schema = self._database.lake_schema.replace("'", "''")
        database.execute(f"ATTACH '{source}' AS {name} (TYPE postgres, SCHEMA '{schema}')")

    def exists(self) -> bool:
        """Whether the lake was made, up to its last option."""
        return self._server.awaited(self._is_made)

    @contextmanager
    def making(self) -> Iterator[str]:
        """The source to make a new catalog at, or to go on where making it was broken off."""
        yield self.source

    def explanation(self, text: str) -> tuple[str, str] | None:
        """What an error means and what to do."""
        problem, remedy = self._postgres.text_explanation(text, self._database)
        return (problem, remedy) if problem else None

    def _is_made(self) -> bool:
        schema = self._database.lake_schema.replace('"', '""')
        with self._postgres.connect(self._database, autocommit=True) as connection:
            table = f'"{schema}".ducklake_metadata'
            if connection.execute("SELECT to_regclass(%s)", [table]).fetchone() == (None,):
                return False
            found = connection.execute(
                f"SELECT 1 FROM {table} WHERE key = %s".encode(), [LAST_OPTION]
            ).fetchone()
            return found is not None

    def _away(self, error: Exception) -> str | None:
        if not isinstance(error, duckdb.Error):
            return self._postgres.away(error)
        text = str(error)
        if _BROKEN.search(text):
            return "the connection dropped"
        return self._postgres.away_text(text)


Catalog = CatalogFile | CatalogSchema
