"""How much space a project's store takes, part by part."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envol.pipeline.retention.files import bytes_in

if TYPE_CHECKING:
    from envol.storage import Store

_FILES = {
    "catalog of the tables": "lake.sqlite*",
    "prediction log": "predictions.sqlite*",
    "copies of packages": "cache",
    "rows on their way": "spool",
}


@dataclass(frozen=True)
class Part:
    """A part of the store, and the bytes that it takes."""

    name: str
    bytes: int


def sizes(store: Store) -> tuple[list[Part], int]:
    """The parts of a store, and the bytes that are free on the disk of its folder.

    Of tables and packages that are on S3 the present rows are counted, and nothing.
    """
    tables = store.path / "tables"
    live = sum(table.bytes for table in store.lake.tables())
    parts = [Part("records", store.metadata.size()), Part("tables", live)]
    if tables.is_dir():
        parts.append(Part("past states of the tables", max(bytes_in(tables) - live, 0)))
    if store.place.data is None:
        parts.append(Part("packages", bytes_in(store.artifacts.path)))
    for name, pattern in _FILES.items():
        parts.append(Part(name, sum(map(bytes_in, store.path.glob(pattern)))))
    return [part for part in parts if part.bytes], shutil.disk_usage(store.path).free
