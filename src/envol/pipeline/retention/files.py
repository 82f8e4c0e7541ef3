"""Files that nothing refers to any more: packages without a version, and what killed processes left."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from envol.pipeline.retention.limits import LEFTOVERS
from envol.storage import tables

if TYPE_CHECKING:
    from envol.storage import Store

_INCOMING, _SPOOL = ".incoming-*", "spool/spool-*"


def orphaned_packages(store: Store, *, dry_run: bool) -> tuple[int, int]:
    """Remove packages that no version of a model refers to; returns how many, and their bytes here.

    No model may be in training meanwhile: its package is stored before its version is registered.
    """
    query = select(tables.model_version.c.digest)
    known = store.metadata.read(lambda connection: set(connection.execute(query).scalars()))
    orphans = [digest for digest in store.artifacts.digests() if digest not in known]
    size = sum(bytes_in(store.artifacts.path / digest) for digest in orphans)
    if not dry_run:
        for digest in orphans:
            store.artifacts.delete(digest)
    return len(orphans), size


def leftovers(store: Store, *, dry_run: bool) -> tuple[int, int]:
    """Remove folders of packages half stored and of rows on their way that are a day old.

    Returns:
        How many, and their bytes.
    """
    before = time.time() - LEFTOVERS.total_seconds()
    found = [*store.artifacts.path.glob(_INCOMING), *store.path.glob(_SPOOL)]
    old = [folder for folder in found if _changed_at(folder) < before]
    size = sum(map(bytes_in, old))
    if not dry_run:
        for folder in old:
            shutil.rmtree(folder, ignore_errors=True)
    return len(old), size


def bytes_in(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for file in [path, *path.rglob("*")]:
        try:
            total += 0 if file.is_dir() else file.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _changed_at(folder: Path) -> float:
    """When something in a folder was changed last."""
    times = [time.time()]
    try:
        times = [folder.stat().st_mtime, *(file.stat().st_mtime for file in folder.rglob("*"))]
    except FileNotFoundError:
        pass  # it is just being removed
    return max(times)
