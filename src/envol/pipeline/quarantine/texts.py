"""Rows as people edit them: plain values for JSON and CSV, and back into the dtypes of a table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import polars as pl

from envol.storage import described

_EXACT = 2**53
"""Below it every whole number is a float."""
_TIMES = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")


def plain_rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """The rows with values that JSON has: times in ISO format, decimals and what is no number as text."""
    texts = []
    for name, dtype in frame.schema.items():
        if isinstance(dtype, pl.Duration):
            texts.append(pl.col(name).to_physical())
        elif dtype.is_temporal():
            texts.append(pl.col(name).dt.to_string("iso"))
    rows = frame.with_columns(texts).to_dicts()
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def text_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with all values as text, lists and structs as JSON."""
    rows = plain_rows(frame)
    return pl.DataFrame(
        [pl.Series(name, [_text(row[name]) for row in rows], pl.String) for name in frame.columns]
    )


def parsed(
    rows: Sequence[Mapping[str, Any]], schema: Mapping[str, pl.DataType]
) -> tuple[pl.DataFrame, dict[int, str]]:
    """Rows of plain values or texts in these dtypes; a column that a row lacks is missing in it.

    Returns:
        The frame, and by number of the row what of it cannot be read, such as "heat: 'warm' is no Float64".
    """
    columns, problems = [], dict[int, str]()
    for name, dtype in schema.items():
        texts = pl.Series(name, [_text(row.get(name)) for row in rows], pl.String)
        values = _values(texts, dtype)
        for row in (values.is_null() & texts.is_not_null()).arg_true():
            problems.setdefault(row, f"{name}: {texts[row]!r} is no {described(dtype)}")
        columns.append(values)
    return pl.DataFrame(columns), problems


def _plain(value: Any) -> Any:
    match value:
        case bool() | int() | str() | None:
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case list():
            return [_plain(one) for one in value]
        case dict():
            return {name: _plain(one) for name, one in value.items()}
        case bytes():
            return value.hex()
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return str(value)
    raise TypeError(f"{type(value).__name__} is no value of a table")


def _text(value: Any) -> str | None:
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case list() | dict():
            return json.dumps(value)
    return str(value)


def _values(texts: pl.Series, dtype: pl.DataType) -> pl.Series:
    """The values in a dtype; null where a text is none."""
    stripped = texts.str.strip_chars()
    if dtype.is_nested():
        values = [None if text is None else _nested(text, dtype) for text in texts]
        return pl.Series(texts.name, values, dtype)
    if dtype == pl.Boolean:
        known = {"true": True, "false": False}
        return stripped.str.to_lowercase().replace_strict(known, default=None, return_dtype=pl.Boolean)
    if dtype.is_integer():
        return _whole(stripped, dtype)
    if isinstance(dtype, pl.Decimal):
        return _decimals(stripped, dtype)
    if dtype.is_float():
        return stripped.cast(dtype, strict=False)
    if isinstance(dtype, pl.Duration):
        return _whole(stripped, pl.Int64()).cast(dtype)
    if dtype == pl.Binary:
        return stripped.str.decode("hex", strict=False)
    if dtype == pl.Time:
        return stripped.str.to_time("%H:%M:%S%.f", strict=False)
    if dtype == pl.Date:
        return stripped.str.to_date("%Y-%m-%d", strict=False)
    if isinstance(dtype, pl.Datetime):
        return _instants(stripped, dtype)
    return texts.cast(dtype, strict=False)


def _whole(texts: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Whole numbers, also where a program wrote them as "2.0"."""
    floats = texts.cast(pl.Float64, strict=False)
    exact = (floats == floats.round()) & (floats.abs() < _EXACT)
    from_floats = floats.set(~exact.fill_null(False), None).cast(dtype, strict=False)
    return texts.cast(dtype, strict=False).zip_with(
        texts.cast(dtype, strict=False).is_not_null(), from_floats
    )


def _decimals(texts: pl.Series, dtype: pl.Decimal) -> pl.Series:
    """Decimals; null where there are more digits than are kept."""
    places = f"^[+-]?[0-9]*\\.?[0-9]{{0,{dtype.scale}}}0*$"
    return texts.set(~texts.str.contains(places).fill_null(False), None).cast(dtype, strict=False)


def _instants(texts: pl.Series, dtype: pl.Datetime) -> pl.Series:
    iso, unit = texts.str.replace(" ", "T", literal=True), dtype.time_unit
    if dtype.time_zone:
        moments = iso.str.to_datetime("%+", time_unit=unit, time_zone="UTC", strict=False)
        return moments.dt.convert_time_zone(dtype.time_zone)
    found = iso.str.to_datetime(_TIMES[0], time_unit=unit, strict=False)
    for form in _TIMES[1:]:
        found = found.zip_with(found.is_not_null(), iso.str.to_datetime(form, time_unit=unit, strict=False))
    return found


def _nested(text: str, dtype: pl.DataType) -> Any:
    """The list or struct of a JSON text; None where it is none."""
    try:
        return _inner(json.loads(text), dtype)
    except (ValueError, TypeError, AttributeError):
        return None


def _inner(value: Any, dtype: Any) -> Any:
    if value is None:
        return None
    if isinstance(dtype, pl.List | pl.Array):
        return [_inner(one, dtype.inner) for one in value]
    if isinstance(dtype, pl.Struct):
        return {field.name: _inner(value.get(field.name), field.dtype) for field in dtype.fields}
    text = _text(value)
    [found] = _values(pl.Series([text], dtype=pl.String), dtype)
    if found is None:
        raise ValueError(text)
    return found
