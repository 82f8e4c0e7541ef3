"""The lake's Parquet files on S3."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import duckdb

from envol.errors import StorageError
from envol.storage import s3
from envol.storage.files import TABLES, damaged

Result = TypeVar("Result")


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

    def prepare_folder(self) -> None:
        """Nothing: a bucket has no folders."""

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

    def sizes(self) -> dict[str, int]:
        """Every object's path below `tables`, and its bytes."""
        found = self._bucket.sizes(f"{TABLES}/")
        return {key.removeprefix(f"{TABLES}/"): size for key, size in found.items()}

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """A copy of an object for reading, which goes at the end of the block."""
        with tempfile.TemporaryDirectory(prefix="envol-") as folder:
            copy = Path(folder) / "file"
            self._bucket.download(f"{TABLES}/{path}", copy)
            yield copy

    def put(self, path: str, source: Path) -> None:
        """Write an object from a file; it is there whole or not at all."""
        self._bucket.put(f"{TABLES}/{path}", source)

    def explanation(self, text: str) -> tuple[str, str] | None:
        """What an error means and what to do."""
        if "404" in text and ".parquet" in text:
            return damaged("no such file .parquet", "restore the bucket from a backup")
        return s3.explanation(text) or damaged(text, "restore the bucket from a backup")
