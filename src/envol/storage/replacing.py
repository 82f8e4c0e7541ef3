"""Replacing the rows of a window in one table, inside a transaction; the table's columns follow the frame."""

from __future__ import annotations

from datetime import UTC

import polars as pl

from envol.errors import DataError
from envol.project.windows import Window
from envol.storage.catalog import WINDOW_START, Stored, table_sql
from envol.storage.dtypes import UnsupportedError, described, fits, kept, outgoing, quoted, untyped
from envol.storage.engine import Cursor, literal

_INCOMING = "envol_incoming"


def replace_rows(
    cursor: Cursor, table: str, frame: pl.DataFrame, window: Window, found: Stored | None
) -> pl.DataFrame:
    """Make the rows of the window those of the frame; the table and missing columns are added.

    Args:
        found: the table's columns as they are; None when there is no such table.

    Returns:
        The rows as reading the window gives them.

    Raises:
        DataError: when a column's dtype is not that of the table's, or cannot be kept at all.
    """
    frame = frame.drop(WINDOW_START, strict=False)
    _check_names(table, frame, found)
    if found is None:
        cursor.execute(f"CREATE TABLE {table_sql(table)} ({quoted(WINDOW_START)} TIMESTAMPTZ)")
        found = Stored({}, {})
    frame = _conformed(table, frame, found)
    _add_columns(cursor, table, frame, found)
    cursor.execute(
        f"DELETE FROM {table_sql(table)} WHERE {quoted(WINDOW_START)} >= ? AND {quoted(WINDOW_START)} < ?",
        [window.start, window.end],
    )
    if frame.height:
        _insert(cursor, table, frame, window)
    return _as_read(frame, found, window)


def _as_read(frame: pl.DataFrame, found: Stored, window: Window) -> pl.DataFrame:
    given = {series.name: series.cast(kept(series.dtype).dtype) for series in frame}
    columns = [
        given.pop(name, pl.Series(name, [None], dtype).new_from_index(0, frame.height))
        for name, dtype in found.columns.items()
        if name != WINDOW_START
    ]
    start = pl.Series(WINDOW_START, [window.start.astimezone(UTC)], pl.Datetime("us", "UTC"))
    return pl.DataFrame([*columns, *given.values(), start.new_from_index(0, frame.height)])


def _check_names(table: str, frame: pl.DataFrame, found: Stored | None) -> None:
    """SQL does not tell "Late" from "late": refuse two names that differ only in that."""
    spelt = {name.casefold(): name for name in (found.columns if found else [])}
    spelt[WINDOW_START] = WINDOW_START
    for name in frame.columns:
        if not name or "\0" in name:
            raise DataError(f"table {table!r} has a column named {name!r}", remedy="give every column a name")
        other = spelt.setdefault(name.casefold(), name)
        if other != name:
            raise DataError(
                f"columns {other!r} and {name!r} of table {table!r} differ only in upper and lower case",
                remedy=f"rename {name!r}",
            )


def _conformed(table: str, frame: pl.DataFrame, found: Stored) -> pl.DataFrame:
    """The frame with columns without a dtype (all missing) given that of the table's."""
    conformed = []
    for series in frame:
        known = found.columns.get(series.name)
        if known is None:
            if untyped(series.dtype):
                raise DataError(
                    f"column {series.name!r} of table {table!r} holds only missing values and has no dtype",
                    remedy=f'give it one, for example pl.col("{series.name}").cast(pl.Float64)',
                )
            conformed.append(series)
            continue
        dtype = series.dtype if untyped(series.dtype) else _kept_dtype(table, series)
        if not fits(dtype, known):
            raise DataError(
                f"column {series.name!r} of table {table!r} is {described(known)},"
                f" and would become {described(series.dtype)}",
                remedy=f"cast it to {described(known)}, or give the new column another name; to change the"
                f" dtype of all windows, drop the table (`store.lake.drop({table!r})`) and run them again",
            )
        conformed.append(series.cast(known) if dtype != known else series)
    return pl.DataFrame(conformed)


def _kept_dtype(table: str, series: pl.Series) -> pl.DataType:
    try:
        return kept(series.dtype).dtype
    except UnsupportedError as error:
        raise _unsupported(table, series, error) from None


def _unsupported(table: str, series: pl.Series, error: UnsupportedError) -> DataError:
    return DataError(
        f"column {series.name!r} of table {table!r} is {described(series.dtype)}:"
        f" the lake cannot keep {error}",
        remedy="cast it to numbers, text, dates or lists and structs of these",
    )


def _add_columns(cursor: Cursor, table: str, frame: pl.DataFrame, found: Stored) -> None:
    for series in frame:
        if series.name in found.columns:
            continue
        try:
            column = kept(series.dtype)
        except UnsupportedError as error:
            raise _unsupported(table, series, error) from None
        cursor.execute(f"ALTER TABLE {table_sql(table)} ADD COLUMN {quoted(series.name)} {column.sql}")
        if column.note:
            place = f"{table_sql(table)}.{quoted(series.name)}"
            cursor.execute(f"COMMENT ON COLUMN {place} IS {literal(column.note)}")


def _insert(cursor: Cursor, table: str, frame: pl.DataFrame, window: Window) -> None:
    names = ", ".join(quoted(name) for name in [*frame.columns, WINDOW_START])
    values = [f"CAST({quoted(series.name)} AS {kept(series.dtype).sql})" for series in frame]
    rows = pl.DataFrame([outgoing(series) for series in frame])
    cursor.register(_INCOMING, rows.to_arrow())
    try:
        cursor.execute(
            f"INSERT INTO {table_sql(table)} ({names}) SELECT {', '.join([*values, '?'])} FROM {_INCOMING}",
            [window.start],
        )
    finally:
        cursor.unregister(_INCOMING)
