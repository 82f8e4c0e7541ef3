"""What a project keeps: tables in the lake, metadata in SQL, artifacts by digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envol.storage.place import Place
from envol.storage.store import Store
from envol.storage.waiting import PATIENCE, UnreachableError

if TYPE_CHECKING:
    from envol.storage import tables
    from envol.storage.artifacts import Artifacts
    from envol.storage.disk import make_folder
    from envol.storage.dtypes import described, read_back_as
    from envol.storage.lake import Lake
    from envol.storage.metadata import Metadata
    from envol.storage.records import Commit, Compaction, TableInfo
    from envol.storage.spool import Spool
    from envol.storage.sqlite import use_wal

__all__ = [
    "PATIENCE",
    "Artifacts",
    "Commit",
    "Compaction",
    "Lake",
    "Metadata",
    "Place",
    "Spool",
    "Store",
    "TableInfo",
    "UnreachableError",
    "described",
    "make_folder",
    "read_back_as",
    "tables",
    "use_wal",
]

_MODULES = {
    "Artifacts": "artifacts",
    "Commit": "records",
    "Compaction": "records",
    "Lake": "lake",
    "Metadata": "metadata",
    "Spool": "spool",
    "TableInfo": "records",
    "described": "dtypes",
    "make_folder": "disk",
    "read_back_as": "dtypes",
    "use_wal": "sqlite",
}


def __getattr__(name: str) -> object:
    # Loaded when first used: DuckDB and SQLAlchemy each take a tenth of a second to import.
    from importlib import import_module

    if name == "tables":
        return import_module("envol.storage.tables")
    if name in _MODULES:
        return getattr(import_module(f"envol.storage.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'envol.storage' has no attribute {name!r}")
