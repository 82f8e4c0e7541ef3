"""Where the lake's Parquet files are: a folder, or S3."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import duckdb

from envol.errors import StorageError
from envol.storage import s3
from envol.storage.disk import is_full

TABLES = "tables"
Result = TypeVar("Result")
_FULL = ("no space left", "disk is full", "file too large", "disk quota")
_FORBIDDEN = ("permission denied", "read-only file system")
_GONE = ("no such file", "no files found")


class FolderFiles:
    """Parquet files in a folder.

    Args:
        folder: of the store; they are in `tables` below it.
    """

    extension: str | None = None
    name: str | None = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = f"{folder / TABLES}/"

    @property
    def allowed(self) -> str:
        """The only place that queries may read files from."""
        return f"{(self._folder / TABLES).absolute()}/"

    def awaited(self, work: Callable[[], Result]) -> Result:
        """The work's result: a folder is never away."""
        return work()

    def prepare(self, database: duckdb.DuckDBPyConnection) -> None:
        """Nothing: DuckDB reads folders by itself."""

    def claim(self) -> None:
        """Make the folder for a new lake."""
        (self._folder / TABLES).mkdir(parents=True, exist_ok=True)

    def delete(self, paths: Iterable[str]) -> None:
        """Remove files; a path is below the folder, or whole."""
        for path in paths:
            (self._folder / TABLES / path).unlink(missing_ok=True)

    def explanation(self, text: str) -> tuple[str, str] | None:
        """What an error means and what to do."""
        lower = text.lower()
        # A SQLite that cannot make its small shared file does not say that the disk is full.
        if any(word in lower for word in _FULL) or is_full(self._folder):
            return "its disk is full", f"free space on the disk of {self._folder}"
        if any(word in lower for word in _FORBIDDEN):
            return "its files may not be opened or written", f"check the permissions of {self._folder}"
        return damaged(text, "restore the folder from a backup")


class BucketFiles:
    """Parquet files on S3.

    Args:
        data: `s3://bucket/prefix` of the project; they are in `tables` below it.
        opening: seconds to wait for a server that nothing was heard of yet.
    """

    extension: str | None = "httpfs"

    def __init__(self, data: str, opening: float) -> None:
        self._bucket = s3.Bucket(data, opening)
        self.name: str | None = data
        self.path = self.allowed = f"{self._bucket.address}/{TABLES}/"

    def awaited(self, work: Callable[[], Result]) -> Result:
        """Do the work, and again from its start while the object store is away."""
        return self._bucket.server.awaited(work)

    def prepare(self, database: duckdb.DuckDBPyConnection) -> None:
        """Let DuckDB reach the bucket."""
        database.execute(s3.secret_sql(self._bucket.address, self._bucket.access))

    def claim(self) -> None:
        """See that no other lake keeps its files there.

        Raises:
            StorageError: one does; what it keeps would look like files that nothing needs.
        """
        if self._bucket.holds_any(f"{TABLES}/"):
            raise StorageError(
                f"{self.path} holds files already, of another project or another database",
                remedy="name another address: `data` under [storage]; or remove what nobody needs any more",
            )

    def delete(self, paths: Iterable[str]) -> None:
        """Remove objects; a path is below `tables`, or whole."""
        self._bucket.delete(f"{TABLES}/{path.removeprefix(self.path)}" for path in paths)

    def explanation(self, text: str) -> tuple[str, str] | None:
        """What an error means and what to do."""
        if "404" in text and ".parquet" in text:
            return damaged("no such file .parquet", "restore the bucket from a backup")
        return s3.explanation(text) or damaged(text, "restore the bucket from a backup")


Files = FolderFiles | BucketFiles


def damaged(text: str, remedy: str) -> tuple[str, str] | None:
    """What an error says of files that are not what was written."""
    lower, first = text.lower(), text.splitlines()[0] if text else ""
    unreadable = ".parquet" in lower and ("invalid" in lower or "too small" in lower)
    if unreadable or any(word in lower for word in ("malformed", "no magic bytes", "corrupt")):
        return f"it is damaged ({first})", remedy
    if any(word in lower for word in _GONE) and ".parquet" in lower:
        return f"one of its files is gone ({first})", remedy
    return None
