"""DuckDB with the lake attached: extensions, the catalog, the writers' lock, retries, and clear errors."""

from __future__ import annotations

import fcntl
import os
import random
import sysconfig
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import duckdb

from envol.errors import EnvolError, NotFoundError, StorageError, UserError
from envol.storage.disk import is_full

CATALOG = "lake.sqlite"
TABLES = "tables"
META = "__ducklake_metadata_lake"
"""Name under which DuckLake attaches the catalog itself."""
BUSY_SECONDS = 60.0
_LOCK = "lake.lock"
_EXTENSIONS = ("sqlite_scanner", "ducklake")
_TRANSIENT = ("database is locked", "database table is locked", "conflict", "retry count")
_FULL = ("no space left", "disk is full", "file too large", "disk quota")
_FORBIDDEN = ("permission denied", "readonly database", "read-only file system", "unable to open database")
_DAMAGED = ("malformed", "not a database", "no magic bytes", "corrupt")
_GONE = ("no such file", "no files found")

OPTIONS = {
    # Smaller than DuckDB's 122,880 rows: one window is read out of a merged file in less time.
    "parquet_row_group_size": "20480",
    # Rows deleted from a file are listed in a file of their own, written anew by each deletion: bound it.
    "target_file_size": "32MB",
}

Result = TypeVar("Result")
Cursor = duckdb.DuckDBPyConnection


class Engine:
    """One DuckDB instance for the threads of a process, each call on a cursor of its own.

    Args:
        path: folder of the catalog and of the Parquet files.
        read_only: attach for reading.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = Path(path)
        self.tables = self.path / TABLES
        self.read_only = read_only
        self._opening = threading.Lock()
        self._database: Cursor | None = None
        self._turn = threading.Lock()

    def open(self) -> None:
        """Attach the lake, making it first unless it is opened for reading."""
        with self.explained("opened"):
            self._instance()

    def close(self) -> None:
        """Let go of the instance; the next call opens another."""
        with self._opening:
            database, self._database = self._database, None
        if database is not None:
            database.close()

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
        with self._turn:
            descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)

    def retried(self, work: Callable[[], Result]) -> Result:
        """Do the work again, for up to a minute, when another program that takes no turn got ahead."""
        deadline, pause = time.monotonic() + BUSY_SECONDS, 0.01
        while True:
            try:
                return work()
            except duckdb.Error as error:
                text = str(error).lower()
                if time.monotonic() > deadline or not any(word in text for word in _TRANSIENT):
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
        except (duckdb.Error, OSError) as error:
            problem, remedy = _explanation(str(error), self.path)
            raise StorageError(
                f"the lake in {self.path} cannot be {verb}: {problem}",
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
                if self.read_only and not (self.path / CATALOG).exists():
                    raise NotFoundError(f"there is no lake in {self.path}", remedy="run the project first")
                database = instance(self.path)
                # A window is small work: more threads for it cost more time than they save, and tasks
                # side by side want the cores (a commit took 43 ms of CPU on two threads, 26 ms on one).
                database.execute("SET GLOBAL threads = 1")
                if not (self.path / CATALOG).exists():
                    self._create(database)
                self.retried(lambda: attach(database, self.path, read_only=self.read_only))
                self._database = database
            return self._database

    def _create(self, database: Cursor) -> None:
        """Make the catalog beside its place and move it there whole, so that no one opens half of one."""
        with self.writing():
            if (self.path / CATALOG).exists():
                return
            draft = self.path / f".{CATALOG}-{uuid.uuid4().hex}"
            try:
                self.tables.mkdir(exist_ok=True)
                attach(database, self.path, catalog=draft)
                for name, value in OPTIONS.items():
                    database.execute(f"CALL lake.set_option('{name}', '{value}')")
                database.execute("DETACH lake")
                draft.rename(self.path / CATALOG)
            finally:
                for left in self.path.glob(f"{draft.name}*"):
                    left.unlink(missing_ok=True)


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


def instance(path: Path) -> Cursor:
    """A DuckDB instance that can attach a lake; nothing is downloaded where the extensions' packages are."""
    files = [_packaged(extension) for extension in _EXTENSIONS]
    installed = all(file.exists() for file in files)
    database = duckdb.connect(
        config={
            # Verifying the signatures takes 0.3 s each time, and these files came with the Python packages,
            # whose code runs unverified as well. What DuckDB downloads instead is verified.
            "allow_unsigned_extensions": installed,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            "temp_directory": str(path / ".duckdb-temporary"),
        }
    )
    for extension, file in zip(_EXTENSIONS, files, strict=True):
        if installed:
            database.execute(f"LOAD {literal(str(file))}")
        else:
            database.install_extension(extension)
            database.load_extension(extension)
    database.execute("SET GLOBAL TimeZone = 'UTC'")
    return database


def attach(database: Cursor, path: Path, *, catalog: Path | None = None, read_only: bool = False) -> None:
    """Attach the lake as `lake`."""
    # The data path is given anew each time, so that the folder can be moved or copied.
    settings = [
        f"DATA_PATH {literal(f'{path / TABLES}/')}",
        "OVERRIDE_DATA_PATH true",
        "META_JOURNAL_MODE 'WAL'",
        f"META_BUSY_TIMEOUT {int(BUSY_SECONDS * 1000)}",
        "DATA_INLINING_ROW_LIMIT 0",
    ]
    if read_only:
        settings.append("READ_ONLY")
    source = literal(f"ducklake:sqlite:{catalog or path / CATALOG}")
    database.execute(f"ATTACH {source} AS lake ({', '.join(settings)})")


def literal(text: str) -> str:
    """The text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def _packaged(extension: str) -> Path:
    """Where the package `duckdb-extension-...` keeps the extension."""
    package = Path(sysconfig.get_path("purelib")) / f"duckdb_extension_{extension}"
    return package / "extensions" / f"v{duckdb.__version__}" / f"{extension}.duckdb_extension"


def _explanation(text: str, folder: Path) -> tuple[str, str]:
    lower = text.lower()
    # A SQLite that cannot make its small shared file says "disk I/O error", and not that the disk is full.
    if any(word in lower for word in _FULL) or is_full(folder):
        return "its disk is full", f"free space on the disk of {folder}"
    if any(word in lower for word in _FORBIDDEN):
        return "its files may not be opened or written", f"check the permissions of {folder}"
    unreadable = ".parquet" in lower and ("invalid" in lower or "too small" in lower)
    if unreadable or any(word in lower for word in _DAMAGED):
        return f"it is damaged ({text.splitlines()[0]})", "restore the folder from a backup"
    if any(word in lower for word in _GONE) and ".parquet" in lower:
        return f"one of its files is gone ({text.splitlines()[0]})", "restore the folder from a backup"
    if any(word in lower for word in _TRANSIENT):
        return "another program keeps it locked", "find the program that writes to it, or end it"
    return text.split("\n\nStack Trace")[0], f"check the space and the permissions of {folder}"
