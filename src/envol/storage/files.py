"""The lake's Parquet files in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import duckdb

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


def damaged(text: str, remedy: str) -> tuple[str, str] | None:
    """What an error says of files that are not what was written."""
    lower, first = text.lower(), text.splitlines()[0] if text else ""
    unreadable = ".parquet" in lower and ("invalid" in lower or "too small" in lower)
    if unreadable or any(word in lower for word in ("malformed", "no magic bytes", "corrupt")):
        return f"it is damaged ({first})", remedy
    if any(word in lower for word in _GONE) and ".parquet" in lower:
        return f"one of its files is gone ({first})", remedy
    return None
