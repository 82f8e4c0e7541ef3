"""What the lake's catalog says of its tables."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from envol.errors import NotFoundError
from envol.storage.dtypes import described, incoming, quoted
from envol.storage.ground import META, Cursor
from envol.storage.records import TableInfo

WINDOW_START = "window_start"


@dataclass(frozen=True)
class Stored:
    """A table as it is: the dtypes its columns are read back as, and the notes of those that have one."""

    columns: dict[str, pl.DataType]
    notes: dict[str, str]


def table_sql(name: str) -> str:
    """The table's full name in SQL."""
    return f"lake.main.{quoted(name)}"


def notes_of(cursor: Cursor, table: str, snapshot: int | None = None) -> dict[str, str] | None:
    """Notes by column of a table as of a snapshot (default: now); None when there is no such table."""
    live = "t.end_snapshot IS NULL" if snapshot is None else _alive("t", snapshot)
    rows = cursor.execute(
        f"""SELECT c.column_name, tag.value
            FROM {META}.ducklake_table t
            LEFT JOIN {META}.ducklake_column_tag tag
                ON tag.table_id = t.table_id AND tag.key = 'comment' AND tag.end_snapshot IS NULL
            LEFT JOIN {META}.ducklake_column c
                ON c.table_id = t.table_id AND c.column_id = tag.column_id AND c.end_snapshot IS NULL
            WHERE t.table_name = ? AND {live}""",
        [table],
    ).fetchall()
    return {name: note for name, note in rows if name is not None} if rows else None


def newest(cursor: Cursor) -> tuple[int, int]:
    """Number of the newest snapshot, and of the schema it has."""
    # By its number, since PostgreSQL would send the whole table for an ORDER BY.
    snapshot = latest(cursor)
    [(schema,)] = cursor.execute(
        f"SELECT schema_version FROM {META}.ducklake_snapshot WHERE snapshot_id = {snapshot}"
    ).fetchall()
    return snapshot, int(schema)


def newest_window(cursor: Cursor, table: str) -> datetime | None:
    """Start of the last window that the table ever held; None when the catalog does not say."""
    rows = cursor.execute(
        f"""SELECT s.max_value::TIMESTAMPTZ
            FROM {META}.ducklake_table t
            JOIN {META}.ducklake_column c ON c.table_id = t.table_id AND c.end_snapshot IS NULL
                AND c.column_name = '{WINDOW_START}'
            JOIN {META}.ducklake_table_column_stats s ON s.table_id = t.table_id AND s.column_id = c.column_id
            WHERE t.table_name = ? AND t.end_snapshot IS NULL""",
        [table],
    ).fetchall()
    return rows[0][0] if rows else None


def stored(cursor: Cursor, table: str) -> Stored | None:
    """The table as it is now, seen from the cursor's transaction; None when there is none."""
    notes = notes_of(cursor, table)
    if notes is None:
        return None
    empty = arrow_frame(cursor.execute(f"SELECT * FROM {table_sql(table)} LIMIT 0"))
    return Stored(dict(incoming(empty, notes).schema), notes)


def missing_table(cursor: Cursor, table: str, snapshot: int | None) -> NotFoundError:
    """The error for a table that is not there, naming the nearest that is."""
    live = "end_snapshot IS NULL" if snapshot is None else _alive("t", snapshot)
    rows = cursor.execute(f"SELECT table_name FROM {META}.ducklake_table t WHERE {live}").fetchall()
    names = sorted(name for (name,) in rows)
    at = "" if snapshot is None else f" at snapshot {snapshot}"
    return NotFoundError(f"the lake has no table {table!r}{at}", remedy=_suggestion(table, names))


def missing_column(table: str, column: str, names: list[str]) -> NotFoundError:
    """The error for a column that is not there, naming the nearest that is."""
    return NotFoundError(f"table {table!r} has no column {column!r}", remedy=_suggestion(column, names))


def missing_snapshot(cursor: Cursor, snapshot: int) -> NotFoundError | None:
    """The error for a snapshot that is not there, or None when it is."""
    snapshots = f"FROM {META}.ducklake_snapshot"
    if cursor.execute(f"SELECT 1 {snapshots} WHERE snapshot_id = {int(snapshot)}").fetchall():
        return None
    first, last = cursor.execute(f"SELECT min(snapshot_id), max(snapshot_id) {snapshots}").fetchall()[0]
    return NotFoundError(
        f"the lake has no snapshot {snapshot}: it never had, or it has expired",
        remedy=f"choose one from {first} to {last}",
    )


def table_infos(cursor: Cursor) -> list[TableInfo]:
    """All tables as of now, by name."""
    rows = cursor.execute(
        f"""SELECT t.table_name, coalesce(f.rows, 0) - coalesce(d.rows, 0), coalesce(f.files, 0),
                coalesce(f.bytes, 0) + coalesce(d.bytes, 0)
            FROM {META}.ducklake_table t
            LEFT JOIN (SELECT table_id, sum(record_count) AS rows, count(*) AS files,
                    sum(file_size_bytes) AS bytes
                FROM {META}.ducklake_data_file WHERE end_snapshot IS NULL GROUP BY table_id) f
                ON f.table_id = t.table_id
            LEFT JOIN (SELECT table_id, sum(delete_count) AS rows, sum(file_size_bytes) AS bytes
                FROM {META}.ducklake_delete_file WHERE end_snapshot IS NULL GROUP BY table_id) d
                ON d.table_id = t.table_id
            WHERE t.end_snapshot IS NULL ORDER BY t.table_name"""
    ).fetchall()
    return [
        TableInfo(name, _columns(cursor, name), int(count), int(files), int(size))
        for name, count, files, size in rows
    ]


def snapshot_frame(cursor: Cursor, limit: int | None) -> pl.DataFrame:
    """Snapshots, the newest first: id, at (UTC), author, message, node, window, fingerprint."""
    rows = cursor.execute(
        f"""WITH commits AS (
                SELECT s.snapshot_id AS id, s.snapshot_time::TIMESTAMPTZ AS made, c.author, c.commit_message,
                    CASE WHEN json_valid(c.commit_extra_info) THEN c.commit_extra_info::JSON END AS info
                FROM {META}.ducklake_snapshot s
                LEFT JOIN {META}.ducklake_snapshot_changes c USING (snapshot_id)
                ORDER BY id DESC {"" if limit is None else f"LIMIT {int(limit)}"})
            SELECT id, made, author, commit_message, one->>'$.node', one->>'$.window', one->>'$.fingerprint'
            FROM (SELECT *, unnest(coalesce((info->'$.windows')::JSON[], [info])) AS one FROM commits)
            ORDER BY id DESC"""
    ).fetchall()
    schema: dict[str, Any] = {"id": pl.Int64, "at": pl.Datetime("us", "UTC")}
    schema |= dict.fromkeys(("author", "message", "node", "window", "fingerprint"), pl.String)
    return pl.DataFrame(rows, schema=schema, orient="row")


def latest(cursor: Cursor) -> int:
    """Number of the newest snapshot."""
    return int(cursor.execute("SELECT id FROM ducklake_current_snapshot('lake')").fetchall()[0][0])


def last_commit(cursor: Cursor) -> int:
    """Number of the snapshot that this connection committed last; the newest where it changed nothing."""
    rows = cursor.execute("SELECT id FROM ducklake_last_committed_snapshot('lake')").fetchall()
    return latest(cursor) if not rows or rows[0][0] is None else int(rows[0][0])


def arrow_frame(cursor: Cursor) -> pl.DataFrame:
    """The cursor's result as a Polars frame."""
    frame = pl.from_arrow(cursor.to_arrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


def _columns(cursor: Cursor, table: str) -> dict[str, str]:
    found = stored(cursor, table)
    if found is None:
        return {}  # dropped by another process meanwhile
    names = [name for name in found.columns if name != WINDOW_START]
    return {name: described(found.columns[name]) for name in [*names, WINDOW_START] if name in found.columns}


def _alive(alias: str, snapshot: int) -> str:
    at = int(snapshot)
    return f"{alias}.begin_snapshot <= {at} AND coalesce({alias}.end_snapshot > {at}, true)"


def _suggestion(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"choose one of {', '.join(names)}" if names else "run the project first"
