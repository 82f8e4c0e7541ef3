"""Frames: from Polars to what a function's annotation asks for, and back."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import polars as pl

from envol.errors import ProjectError


def to_kind(frame: pl.DataFrame, kind: str) -> Any:
    """A Polars frame as "polars", "lazy", "pandas", "arrow" or "numpy".

    Pandas has integers with nulls as floats, as `polars.DataFrame.to_pandas` makes them.
    """
    if kind == "lazy":
        return frame.lazy()
    if kind == "pandas":
        return frame.to_pandas()
    if kind == "arrow":
        return frame.to_arrow()
    return frame.to_numpy() if kind == "numpy" else frame


def series_to_kind(series: pl.Series, kind: str) -> Any:
    """A Polars series as "polars", "pandas", "arrow" or "numpy"."""
    if kind == "pandas":
        return series.to_pandas()
    if kind == "arrow":
        return series.to_arrow()
    return series.to_numpy() if kind == "numpy" else series


def to_polars(result: Any, node: str) -> pl.DataFrame:
    """What a source or table returned, as a Polars frame. A named index of pandas becomes a column.

    Raises:
        ProjectError: when it is no frame, with the type it is.
    """
    if isinstance(result, pl.LazyFrame):
        return result.collect()
    if isinstance(result, pl.DataFrame):
        return result
    if type(result).__module__.partition(".")[0] in ("pandas", "pyarrow"):
        try:
            frame = _from_pandas(result) if hasattr(result, "iloc") else pl.from_arrow(result)
        except (pl.exceptions.PolarsError, TypeError, ValueError, NotImplementedError) as error:
            raise ProjectError(
                f"the returned {type(result).__name__} cannot be read as a table: {error}",
                node=node,
                remedy="give each column values of one type, and a name of its own",
            ) from None
        if isinstance(frame, pl.DataFrame):
            return frame
    raise ProjectError(
        f"the function returned {_described(result)}, not a frame",
        node=node,
        remedy="return a polars DataFrame or LazyFrame, a pandas DataFrame or a pyarrow Table",
    )


def _from_pandas(result: Any) -> Any:
    index = result.index.names if result.ndim == 2 else ()
    return pl.from_pandas(result, include_index=any(name is not None for name in index))


def to_numbers(result: Any, rows: int, node: str) -> pl.Series:
    """What a value node returned: one number a row.

    Raises:
        ProjectError: when it is no series of numbers of that length.
    """
    try:
        series = pl.Series("value", result)
    except (TypeError, ValueError, pl.exceptions.PolarsError):
        series = pl.Series("value", [], dtype=pl.String)
    if rows == 0 and series.dtype == pl.Null and isinstance(result, Sized):
        return series.cast(pl.Float64)
    if len(series) != rows or not series.dtype.is_numeric():
        raise ProjectError(
            f"the function returned {_described(result)}{_contents(result)}, "
            f"not one number for each of the {rows} outcomes",
            node=node,
            remedy="return a series of numbers as long as the outcomes",
        )
    return series.cast(pl.Float64)


def _contents(result: Any) -> str:
    """How many values of which type a series holds; nothing for what is no series."""
    shape: tuple[int, ...] = getattr(result, "shape", ())
    dtype = getattr(result, "dtype", None)
    return f" of {shape[0]:,} x {dtype}" if len(shape) == 1 and dtype is not None else ""


def _described(result: Any) -> str:
    if result is None:
        return "None (is a `return` missing?)"
    library = type(result).__module__.partition(".")[0]
    told = type(result).__name__ if library == "builtins" else f"{library} {type(result).__name__}"
    return f"{'an' if told[0] in 'aeiou' else 'a'} {told}"
