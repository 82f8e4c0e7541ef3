"""What the lake reports about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, eq=False)
class Commit:
    """One transaction of the lake: its snapshot, and by table the window's rows as `read` now gives them.

    Rows that came in batches are not in it.
    """

    snapshot: int
    stored: Mapping[str, pl.DataFrame]

    @property
    def rows(self) -> dict[str, int]:
        """How many rows each table's window has."""
        return {table: frame.height for table, frame in self.stored.items()}


@dataclass(frozen=True)
class TableInfo:
    """One table as of now: SQL types by column, rows, Parquet files and their bytes."""

    name: str
    columns: Mapping[str, str]
    rows: int
    files: int
    bytes: int


@dataclass(frozen=True)
class Compaction:
    """What a compaction did: data files of the newest snapshot and bytes on disk, before and after."""

    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    files_removed: int


@dataclass(frozen=True)
class Compared:
    """One part of a store that was moved: what was counted on both sides, and whether all of it is equal.

    `counted` says what: "rows", "windows" of a table as well, "files" or "folders".
    """

    part: str
    name: str
    counted: str
    source: int
    target: int
    equal: bool
