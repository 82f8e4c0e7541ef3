"""Only the rows of a window, by a column that says when."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from envol.errors import ProjectError
from envol.project.windows import Period, Window

Bounds = tuple[datetime, datetime] | tuple[date, date]


def bounds(window: Window, column: str, dtype: Any) -> Bounds:
    """Start and end of the window as values of the column: rows with start <= value < end are its rows.

    Times without a zone are taken to be in UTC, dates to be days of the project's time zone.

    Raises:
        ProjectError: the column does not exist, or tells no time.
    """
    if isinstance(dtype, pl.Datetime):
        start, end = window.start.astimezone(UTC), window.end.astimezone(UTC)
        return (start, end) if dtype.time_zone else (start.replace(tzinfo=None), end.replace(tzinfo=None))
    if dtype == pl.Date:
        if window.period is Period.HOUR:
            raise ProjectError(
                f"the dates in {column!r} do not tell hours", remedy="choose a column with times"
            )
        return window.start.date(), window.end.date()
    if dtype is None:
        raise ProjectError(f"there is no column {column!r}", remedy="name a column that is read as `time`")
    raise ProjectError(
        f"column {column!r} is {dtype} and tells no time",
        remedy='give it pl.Datetime("us", "UTC") in the schema, or filter in the function without `time`',
    )


def during(window: Window | None, column: str | None, dtypes: pl.Schema) -> pl.Expr | None:
    """The condition on the rows of the window; None where no column is named."""
    if column is None:
        return None
    if window is None:
        raise ProjectError("`time` says which rows are the window's", remedy="pass the window as well")
    start, end = bounds(window, column, dtypes.get(column))
    dtype = dtypes[column]
    return pl.col(column).is_between(pl.lit(start).cast(dtype), pl.lit(end).cast(dtype), closed="left")
