"""The lake's Parquet files in a folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import duckdb

from envol.storage.disk import flush, is_full

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
        self.prepare_folder()

    def prepare_folder(self) -> None:
        """Make the folder unless it is there."""
        (self._folder / TABLES).mkdir(parents=True, exist_ok=True)

    def delete(self, paths: Iterable[str]) -> None:
        """Remove files; a path is below the folder, or whole."""
        for path in paths:
            (self._folder / TABLES / path).unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        """Every file's path below the folder, and its bytes."""
        root = self._folder / TABLES
        found = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
        return {path.relative_to(root).as_posix(): path.stat().st_size for path in found}

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """A file for reading."""
        yield self._folder / TABLES / path

    def put(self, path: str, source: Path) -> None:
        """Copy a file in; it is there whole or not at all."""
        target = self._folder / TABLES / path
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.draft")
        shutil.copyfile(source, draft)
        flush(draft)
        draft.rename(target)

    def explanation(self, text: str) -> tuple[str, str] | None:
        """What an error means and what to do."""
        lower = text.lower()
        # A SQLite that cannot make its small shared file does not say that the disk is full.
        if any(word in lower for word in _FULL) or is_full(self._folder):
            place = self._folder / TABLES  # which may be a disk of its own
            return (
                "its disk is full",
                f"free space on the disk of {place if is_full(place) else self._folder}",
            )
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
