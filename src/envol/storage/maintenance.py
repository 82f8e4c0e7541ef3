"""Keeping the lake quick: merging small files, expiring snapshots, removing files that nothing needs.

DuckLake reads the statistics of all files, live and past, in every transaction, so its speed follows their
number. Files are merged up to a bounded size, because replacing a window in a merged file lists its deleted
rows in a file of their own.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from envol.errors import UserError
from envol.storage.engine import Engine
from envol.storage.ground import META, Cursor, Files, literal
from envol.storage.records import Compaction

MERGE_EVERY = 100
"""Windows between two merges that commits do by themselves, unless said otherwise."""
GRACE = timedelta(minutes=10)
"""How long files stay on disk after nothing refers to them, for queries that are still reading them."""
_SMALL_BYTES = 16_000_000
_FEW_FILES = 8


def merge_small_files(engine: Engine) -> None:
    """Merge the small files of tables that have many; the pen must be held."""
    with engine.cursor() as cursor:
        for table, files in _small_files(cursor):
            if files >= _FEW_FILES:
                _merge(cursor, table)
        _remove_unneeded(cursor, engine.ground.files, GRACE)


def compact(engine: Engine, grace: timedelta) -> Compaction:
    """Merge small files, drop deleted rows from files that are mostly deleted, and clean up."""
    with engine.writing(), engine.cursor() as cursor:
        files_before, bytes_before = _live(cursor)
        for table, _ in _small_files(cursor):
            cursor.execute(
                f"CALL ducklake_rewrite_data_files('lake', {literal(table)}, delete_threshold => 0.3)"
            )
            _merge(cursor, table)
        removed = _remove_unneeded(cursor, engine.ground.files, grace)
        removed += _remove_orphans(cursor, engine.ground.files, grace)
        files_after, bytes_after = _live(cursor)
    return Compaction(files_before, files_after, bytes_before, bytes_after, removed)


def expire(
    engine: Engine, older_than: timedelta, now: datetime, keep: Collection[int], grace: timedelta
) -> int:
    """Forget snapshots made before `now - older_than`, but for those to keep and the newest."""
    if now.tzinfo is None:
        raise UserError("an instant needs a time zone", remedy="pass an aware datetime")
    with engine.writing(), engine.cursor() as cursor:
        rows = cursor.execute(
            f"""SELECT snapshot_id FROM {META}.ducklake_snapshot
                WHERE snapshot_time::TIMESTAMPTZ < ?
                    AND snapshot_id < (SELECT max(snapshot_id) FROM {META}.ducklake_snapshot)""",
            [(now - older_than).astimezone(UTC)],
        ).fetchall()
        ids = sorted({snapshot for (snapshot,) in rows} - set(keep))
        if ids:
            cursor.execute(f"CALL ducklake_expire_snapshots('lake', versions => {ids})")
        _remove_unneeded(cursor, engine.ground.files, grace)
    return len(ids)


def _small_files(cursor: Cursor) -> list[tuple[str, int]]:
    """Tables with the number of their live files that are small enough to be merged."""
    return cursor.execute(
        f"""SELECT t.table_name, count(f.data_file_id)
            FROM {META}.ducklake_table t
            LEFT JOIN {META}.ducklake_data_file f ON f.table_id = t.table_id AND f.end_snapshot IS NULL
                AND f.file_size_bytes < {_SMALL_BYTES}
            WHERE t.end_snapshot IS NULL GROUP BY t.table_name ORDER BY t.table_name"""
    ).fetchall()


def _live(cursor: Cursor) -> tuple[int, int]:
    files, size = cursor.execute(
        f"SELECT count(*), coalesce(sum(file_size_bytes), 0) FROM {META}.ducklake_data_file"
        " WHERE end_snapshot IS NULL"
    ).fetchall()[0]
    return int(files), int(size)


def _merge(cursor: Cursor, table: str) -> None:
    cursor.execute(
        f"CALL ducklake_merge_adjacent_files('lake', {literal(table)}, max_file_size => {_SMALL_BYTES})"
    )


def _remove_unneeded(cursor: Cursor, files: Files, grace: timedelta) -> int:
    """Files that no snapshot needs since at least the grace.

    DuckLake's own `ducklake_cleanup_old_files` compares times as text on SQLite, and takes all that became
    unneeded on the same day for old (1.0, duckdb/ducklake).
    """
    age = f"INTERVAL '{grace.total_seconds()} seconds'"
    rows = cursor.execute(
        f"""SELECT data_file_id, path
            FROM {META}.ducklake_files_scheduled_for_deletion
            WHERE schedule_start::TIMESTAMPTZ <= now() - {age}"""
    ).fetchall()
    files.delete(path for _, path in rows)
    if rows:
        ids = ", ".join(str(int(identity)) for identity, _ in rows)
        cursor.execute(
            f"DELETE FROM {META}.ducklake_files_scheduled_for_deletion WHERE data_file_id IN ({ids})"
        )
    return len(rows)


def _remove_orphans(cursor: Cursor, files: Files, grace: timedelta) -> int:
    """Files of transactions that never committed, because their process was killed."""
    age = (
        f"older_than => now() - INTERVAL '{grace.total_seconds()} seconds'"
        if grace
        else "cleanup_all => true"
    )
    found = cursor.execute(f"CALL ducklake_delete_orphaned_files('lake', dry_run => true, {age})").fetchall()
    files.delete(path for (path,) in found)
    return len(found)
