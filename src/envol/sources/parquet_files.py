"""Parquet by Arrow: row groups outside of the window are passed over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import polars as pl

from envol.errors import DataError
from envol.sources.during import bounds
from envol.sources.opened import File
from envol.sources.schema import conformed, from_arrow

if TYPE_CHECKING:
    from envol.project.windows import Window


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
        window, time: where both are given, only the rows of the window by this column are read.
        rows: rows in a frame, at most.

    Raises:
        DataError: a column is missing or a value does not fit.
    """
    import pyarrow as pa
    from pyarrow import compute, dataset

    present = schema_of(file)
    missing = [name for name in dtypes if name not in present]
    if missing:
        raise DataError(f"{file.path} has no column {missing[0]!r}", remedy="correct the schema or the file")
    condition = None
    if window is not None and time is not None:
        start, end = (pa.scalar(bound) for bound in bounds(window, time, present.get(time)))
        condition = (compute.field(time) >= start) & (compute.field(time) < end)
    read = dataset.dataset(file.path, filesystem=file.system, format="parquet")
    try:
        for batch in read.to_batches(
            columns=dtypes.names(), filter=condition, batch_size=rows, batch_readahead=1, fragment_readahead=1
        ):
            table = pa.Table.from_batches([batch])
            yield conformed(from_arrow(table, pl.Schema(), file.path), dtypes, file.path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{file.path}: {error}") from None
