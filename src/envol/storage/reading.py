"""Reading rows of a table: by range of windows, in the order they were written in, as of a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from envol.errors import UserError
from envol.storage import catalog
from envol.storage.catalog import WINDOW_START, arrow_frame, missing_column, notes_of, table_sql
from envol.storage.dtypes import incoming, quoted
from envol.storage.ground import Cursor

PART_ROWS = 200_000
"""About how many rows a scan reads at a time; whole windows, so one window may be more."""


@dataclass(frozen=True)
class Bounds:
    """Windows with start <= window_start < end; None leaves the range open."""

    start: datetime | None
    end: datetime | None

    @classmethod
    def of(cls, start: datetime | None, end: datetime | None) -> Bounds:
        """The bounds of two aware instants.

        Raises:
            UserError: when one has no time zone.
        """
        for instant in (start, end):
            if instant is not None and instant.tzinfo is None:
                raise UserError(f"{instant} has no time zone", remedy="pass aware datetimes")
        return cls(start and start.astimezone(UTC), end and end.astimezone(UTC))

    def where(self) -> tuple[str, list[datetime]]:
        """The condition in SQL, and its values."""
        ends = [(">=", self.start), ("<", self.end)]
        conditions = [f"{quoted(WINDOW_START)} {sign} ?" for sign, instant in ends if instant is not None]
        values = [instant for _, instant in ends if instant is not None]
        return (f"WHERE {' AND '.join(conditions)}" if conditions else ""), values


def read_rows(
    cursor: Cursor,
    table: str,
    bounds: Bounds,
    *,
    columns: Sequence[str] | None = None,
    snapshot: int | None = None,
    limit: int | None = None,
) -> pl.DataFrame:
    """The rows, ordered by window and as written, `window_start` last.

    Raises:
        NotFoundError: when the table, a column or the snapshot does not exist.
    """
    notes = _notes(cursor, table, snapshot)
    source = f"{table_sql(table)}{'' if snapshot is None else f' AT (VERSION => {int(snapshot)})'}"
    chosen = "*"
    if columns is not None:
        _check_columns(cursor, table, source, columns)
        chosen = ", ".join(quoted(name) for name in dict.fromkeys([*columns, WINDOW_START]))
    where, values = bounds.where()
    # `rowid` is DuckLake's row lineage: it follows the order of writing, and merging files keeps it.
    found = cursor.execute(
        f"SELECT {chosen} FROM {source} {where}"
        f" ORDER BY {quoted(WINDOW_START)}, rowid {'' if limit is None else f'LIMIT {int(limit)}'}",
        values,
    )
    return incoming(arrow_frame(found), notes).select(pl.exclude(WINDOW_START), WINDOW_START)


def divided(cursor: Cursor, table: str, bounds: Bounds, snapshot: int) -> list[Bounds]:
    """The bounds in consecutive parts of whole windows with about PART_ROWS rows each."""
    where, values = bounds.where()
    counts = cursor.execute(
        f"SELECT {quoted(WINDOW_START)}, count(*) FROM {table_sql(table)} AT (VERSION => {int(snapshot)})"
        f" {where} GROUP BY 1 ORDER BY 1",
        values,
    ).fetchall()
    starts, rows = [], PART_ROWS
    for start, count in counts:
        if rows + count > PART_ROWS:
            starts.append(start)
            rows = 0
        rows += count
    ends = [*starts[1:], bounds.end]
    return [Bounds(start, end) for start, end in zip(starts, ends, strict=False)]


def needed(schema: pl.Schema, columns: list[str] | None, predicate: pl.Expr | None) -> list[str]:
    """The columns that a selection and a filter on it need, in the table's order."""
    if columns is None:
        return schema.names()
    used = {*columns, *(predicate.meta.root_names() if predicate is not None else ())}
    return [name for name in schema.names() if name in used]


def _notes(cursor: Cursor, table: str, snapshot: int | None) -> dict[str, str]:
    if snapshot is not None and (missing := catalog.missing_snapshot(cursor, snapshot)):
        raise missing
    notes = notes_of(cursor, table, snapshot)
    if notes is None:
        raise catalog.missing_table(cursor, table, snapshot)
    return notes


def _check_columns(cursor: Cursor, table: str, source: str, columns: Sequence[str]) -> None:
    described = cursor.execute(f"SELECT * FROM {source} LIMIT 0").description or []
    names = [str(name) for name, *_ in described]
    for column in columns:
        if column not in names:
            raise missing_column(table, column, names)
