"""Parquet by Arrow: row groups outside of the window are passed over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import polars as pl

from envol.errors import DataError
from envol.sources.during import bounds
from envol.sources.opened import File
from envol.sources.schema import conformed, from_arrow

if TYPE_CHECKING:
    from envol.project.windows import Window


BUFFER = 1 << 20  # bytes of a column that are read at once


def schema_of(file: File) -> pl.Schema:
    """The columns of a file and their dtypes."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file.system.open_input_file(file.path)) as opened:
            return pl.DataFrame(pl.from_arrow(opened.schema_arrow.empty_table())).schema
    except pa.ArrowInvalid as error:
        raise DataError(f"{file.path} is no Parquet file: {error}") from None


def read_parquet(
    file: File, dtypes: pl.Schema, window: Window | None, time: str | None, rows: int
) -> Iterator[pl.DataFrame]:
    """The columns of the schema.

    Args:
        file: the file.
        dtypes: columns and their dtypes; others that the file has are left out.
        window, time: where both are given, row groups without a row of the window are passed over.
        rows: rows in a frame, at most.

    Raises:
        DataError: a column is missing or a value does not fit.
    """
    import pyarrow as pa
    from pyarrow import parquet

    present = schema_of(file)
    missing = [name for name in dtypes if name not in present]
    if missing:
        raise DataError(f"{file.path} has no column {missing[0]!r}", remedy="correct the schema or the file")
    try:
        with parquet.ParquetFile(
            file.system.open_input_file(file.path), pre_buffer=False, buffer_size=BUFFER
        ) as opened:
            groups = list(range(opened.num_row_groups))
            if window is not None and time is not None:
                start, end = bounds(window, time, present.get(time))
                groups = [number for number in groups if _may_hold(opened.metadata, number, time, start, end)]
            for batch in opened.iter_batches(rows, groups, dtypes.names(), use_threads=False):
                table = pa.Table.from_batches([batch])
                yield conformed(from_arrow(table, pl.Schema(), file.path), dtypes, file.path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{file.path}: {error}") from None


def _may_hold(metadata: Any, number: int, column: str, start: Any, end: Any) -> bool:
    """Whether a row group can have a value in [start, end), by the minimum and maximum that it tells."""
    group = metadata.row_group(number)
    for part in map(group.column, range(group.num_columns)):
        told = part.statistics
        if part.path_in_schema == column and told is not None and told.has_min_max:
            return bool(told.min < end and told.max >= start)
    return True
