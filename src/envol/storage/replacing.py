"""Replacing the rows of a window in one table, inside a transaction; the table's columns follow the frame."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import polars as pl

from envol.errors import DataError
from envol.project.windows import Window
from envol.storage.catalog import WINDOW_START, Stored, table_sql
from envol.storage.dtypes import UnsupportedError, described, fits, kept, outgoing, quoted, untyped
from envol.storage.ground import Cursor, literal
from envol.storage.known import Known
from envol.storage.spool import Spool

if TYPE_CHECKING:
    import pyarrow as pa

_INCOMING = "envol_incoming"


class Incoming:
    """The rows that are to become those of a window in one table.

    Args:
        name: the table's.
        frame: its rows; `window_start` is left out.
    """

    def __init__(self, name: str, frame: pl.DataFrame) -> None:
        self.name = name
        self.frame = frame.drop(WINDOW_START, strict=False)
        # Converted here, where others need not wait; `_conformed` seldom changes a dtype.
        self._arrow = (
            None if any(untyped(series.dtype) for series in self.frame) else _arrow(name, self.frame)
        )
        self._found = Stored({}, {})

    @property
    def height(self) -> int:
        return self.frame.height

    def conform(self, found: Stored) -> None:
        """Take over the table's dtypes where a column holds only missing values.

        Raises:
            DataError: when a column's dtype is not that of the table's.
        """
        frame = _conformed(self.name, self.frame, found)
        if frame.schema != self.frame.schema:
            self.frame, self._arrow = frame, None
        self._found = found

    def to_arrow(self) -> pa.Table:
        """The rows as they are written."""
        if self._arrow is None:
            self._arrow = _arrow(self.name, self.frame)
        return self._arrow

    def as_read(self, window: Window) -> pl.DataFrame:
        """The rows as reading the window gives them, once they are committed."""
        frame = self.frame
        given = {series.name: series.cast(kept(series.dtype).dtype) for series in frame}
        columns = [
            given.pop(name, pl.Series(name, [None], dtype).new_from_index(0, frame.height))
            for name, dtype in self._found.columns.items()
            if name != WINDOW_START
        ]
        start = pl.Series(WINDOW_START, [window.start.astimezone(UTC)], pl.Datetime("us", "UTC"))
        return pl.DataFrame([*columns, *given.values(), start.new_from_index(0, frame.height)])


class IncomingSpool:
    """The same for rows that come in batches; `frame` has their columns, and no row.

    Args:
        name: the table's.
        spool: its rows; they are read from it each time the transaction is tried.
    """

    def __init__(self, name: str, spool: Spool) -> None:
        self.name = name
        self.spool = spool
        self.frame = pl.DataFrame(schema=spool.schema).drop(WINDOW_START, strict=False)
        self._found = Stored({}, {})

    @property
    def height(self) -> int:
        return self.spool.height

    def conform(self, found: Stored) -> None:
        """As `Incoming.conform`."""
        self.frame = _conformed(self.name, self.frame, found)
        self._found = found

    def to_arrow(self) -> pa.RecordBatchReader:
        """The rows as they are written, a batch at a time."""
        import pyarrow as pa

        schema = _arrow(self.name, self.frame).schema
        batches = (
            batch for frame in self.spool.frames() for batch in self._written(frame).cast(schema).to_batches()
        )
        return pa.RecordBatchReader.from_batches(schema, batches)

    def _written(self, frame: pl.DataFrame) -> pa.Table:
        whole = frame.drop(WINDOW_START, strict=False).cast(self.frame.schema)
        return _arrow(self.name, _conformed(self.name, whole, self._found))


def replace_rows(cursor: Cursor, rows: Incoming | IncomingSpool, window: Window, known: Known) -> None:
    """Make the rows of the window those incoming; the table and missing columns are added.

    Args:
        known: what the table is like, as of the cursor's transaction.

    Raises:
        DataError: when a column's dtype is not that of the table's, or cannot be kept at all.
    """
    table = rows.name
    found = known.columns(cursor, table)
    _check_names(table, rows.frame, found)
    new = found is None
    if found is None:
        cursor.execute(f"CREATE TABLE {table_sql(table)} ({quoted(WINDOW_START)} TIMESTAMPTZ)")
        found = Stored({}, {})
    rows.conform(found)
    _add_columns(cursor, table, rows.frame, found)
    if not new and known.may_hold(cursor, table, window):
        cursor.execute(
            f"DELETE FROM {table_sql(table)}"
            f" WHERE {quoted(WINDOW_START)} >= ? AND {quoted(WINDOW_START)} < ?",
            [window.start, window.end],
        )
    if rows.height:
        _insert(cursor, rows, window)
        known.written(table, window)


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


def _insert(cursor: Cursor, rows: Incoming | IncomingSpool, window: Window) -> None:
    names = ", ".join(quoted(name) for name in [*rows.frame.columns, WINDOW_START])
    casts = [f"CAST({quoted(series.name)} AS {kept(series.dtype).sql})" for series in rows.frame]
    values = ", ".join([*casts, "?"])
    cursor.register(_INCOMING, rows.to_arrow())
    try:
        cursor.execute(
            f"INSERT INTO {table_sql(rows.name)} ({names}) SELECT {values} FROM {_INCOMING}", [window.start]
        )
    finally:
        cursor.unregister(_INCOMING)


def _arrow(table: str, frame: pl.DataFrame) -> pa.Table:
    columns = []
    for series in frame:
        try:
            kept(series.dtype)
            columns.append(outgoing(series))
        except UnsupportedError as error:
            raise _unsupported(table, series, error) from None
    return pl.DataFrame(columns).to_arrow()
