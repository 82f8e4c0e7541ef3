"""What the lake reports about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Commit:
    """One transaction of the lake: its snapshot, and the rows it wrote by table."""

    snapshot: int
    rows: dict[str, int]


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
