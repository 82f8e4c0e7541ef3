"""Copying a lake with its history: files as they are, and the rows of its catalog."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor

from envol.errors import StorageError
from envol.storage.dtypes import quoted
from envol.storage.engine import transaction
from envol.storage.ground import Cursor, Files, Ground
from envol.storage.records import Compared

Progress = Callable[[str, int, int], None]
SOURCE, TARGET = "source", "target"
"""Names under which both sides are attached."""
_COPIERS = 8
_ROW = "envol_whole_row"
_UNNEEDED = "ducklake_files_scheduled_for_deletion"
# Where the files are, and what made the catalog, is told by the new one itself.
_OWN_KEYS = "('data_path', 'created_by', 'version', 'encrypted')"


def attach_catalogs(database: Cursor, source: Ground, target: Ground) -> None:
    """Make an empty lake at the target, and attach the tables of both catalogs."""
    with target.catalog.making() as place:
        target.attach(database, source=place)
        database.execute("DETACH lake")
    source.catalog.attach_plain(database, SOURCE)
    target.catalog.attach_plain(database, TARGET)


def unneeded_files(database: Cursor) -> set[str]:
    """Files that no snapshot of the source refers to any more."""
    return {path for (path,) in database.execute(f"SELECT path FROM {SOURCE}.{_UNNEEDED}").fetchall()}


def past_files(database: Cursor) -> set[str]:
    """Names of the files that only earlier snapshots refer to."""
    kinds = ("ducklake_data_file", "ducklake_delete_file")
    query = "SELECT path FROM {}.{} WHERE end_snapshot IS NOT NULL"
    rows = [row for kind in kinds for row in database.execute(query.format(SOURCE, kind)).fetchall()]
    return {path.rpartition("/")[2] for (path,) in rows}


def copy_catalog(database: Cursor) -> None:
    """Copy the rows of the catalog, in one transaction.

    Raises:
        StorageError: the source has tables that a new catalog has not.
    """
    names = _tables(database, SOURCE)
    missing = sorted(names - _tables(database, TARGET))
    if missing:
        raise StorageError(
            f"the lake was written by another version of DuckLake: a new one has no {missing[0]}",
            remedy="open it with the Envol that wrote it",
        )
    with transaction(database):
        for name in sorted(names - {_UNNEEDED}):
            but = f"WHERE key NOT IN {_OWN_KEYS}" if name == "ducklake_metadata" else ""
            database.execute(f"DELETE FROM {TARGET}.{name} {but}")
            database.execute(f"INSERT INTO {TARGET}.{name} BY NAME SELECT * FROM {SOURCE}.{name} {but}")


def copy_files(source: Files, target: Files, leave: Collection[str], progress: Progress) -> list[str]:
    """Copy the files that are missing; returns the names of all.

    Raises:
        StorageError: the target holds files of something else.
    """
    wanted = {path: size for path, size in source.sizes().items() if path not in leave}
    found = target.sizes()
    foreign = sorted(set(found) - set(wanted))
    if foreign:
        raise StorageError(
            f"{target.path} holds files of something else, such as {foreign[0]}",
            remedy="name another place, or remove what nobody needs any more",
        )
    missing = [path for path, size in wanted.items() if found.get(path) != size]
    done = len(wanted) - len(missing)

    def copy(path: str) -> None:
        with source.local(path) as file:
            target.put(path, file)

    with ThreadPoolExecutor(_COPIERS) as pool:
        for count, _ in enumerate(pool.map(copy, missing), start=done + 1):
            progress("files", count, len(wanted))
    return sorted(wanted)


def compare_files(
    source: Files, target: Files, paths: Collection[str], past: Collection[str], progress: Progress
) -> Compared:
    """Read back the files that only earlier snapshots need; those of now are compared by their rows."""
    checked = [path for path in paths if path.rpartition("/")[2] in past]
    with ThreadPoolExecutor(_COPIERS) as pool:
        equal = True
        for count, same in enumerate(pool.map(lambda path: _same(source, target, path), checked), start=1):
            progress("earlier files compared", count, len(checked))
            equal = equal and same
    sizes, copied = source.sizes(), target.sizes()
    equal = equal and all(sizes[path] == copied.get(path) for path in paths)
    return Compared("files", "all tables", "files", len(paths), len(copied), equal)


def compare_lakes(database: Cursor, source: Ground, target: Ground, progress: Progress) -> list[Compared]:
    """Compare the rows of each window of each table, and the list of snapshots, as both sides read them."""
    query = (
        "SELECT snapshot_id, snapshot_time::TIMESTAMPTZ, schema_version FROM {}.ducklake_snapshot ORDER BY 1"
    )
    ours, theirs = (database.execute(query.format(side)).fetchall() for side in (SOURCE, TARGET))
    compared = [Compared("lake", "snapshots", "snapshots", len(ours), len(theirs), ours == theirs)]
    for side, ground in ((SOURCE, source), (TARGET, target)):
        database.execute(f"DETACH {side}")
        ground.attach(database, side, read_only=True)
    tables = sorted({*_lake_tables(database, SOURCE), *_lake_tables(database, TARGET)})
    for number, name in enumerate(tables):
        progress("tables compared", number, len(tables))
        compared += _compared(name, *(_windows(database, side, name) for side in (SOURCE, TARGET)))
    progress("tables compared", len(tables), len(tables))
    return compared


def _tables(database: Cursor, side: str) -> set[str]:
    rows = database.execute(
        f"SELECT table_name FROM duckdb_tables() WHERE database_name = '{side}' AND table_name ^@ 'ducklake_'"
    ).fetchall()
    return {name for (name,) in rows}


def _lake_tables(database: Cursor, side: str) -> list[str]:
    query = f"SELECT table_name FROM duckdb_tables() WHERE database_name = '{side}'"
    return [name for (name,) in database.execute(query).fetchall()]


def _windows(database: Cursor, side: str, table: str) -> dict[object, tuple[int, int]]:
    """By window how many rows, and the sum of their hashes."""
    rows = database.execute(
        f"SELECT window_start, count(*), sum(hash({_ROW})) FROM {side}.main.{quoted(table)} AS {_ROW}"
        " GROUP BY 1"
    ).fetchall()
    return {start: (count, total) for start, count, total in rows}


def _compared(
    name: str, ours: dict[object, tuple[int, int]], theirs: dict[object, tuple[int, int]]
) -> Iterable[Compared]:
    rows, copied = (sum(count for count, _ in side.values()) for side in (ours, theirs))
    yield Compared("table", name, "rows", rows, copied, ours == theirs)
    yield Compared("table", name, "windows", len(ours), len(theirs), ours == theirs)


def _same(source: Files, target: Files, path: str) -> bool:
    digests = []
    for side in (source, target):
        with side.local(path) as file, file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").digest())
    return digests[0] == digests[1]
