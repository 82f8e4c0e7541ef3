"""How the dtypes of Polars are kept in the lake, and given back.

| Polars | lake | read back as |
|---|---|---|
| integers and floats of 8 to 64 bits, Boolean, String, Binary, Date, Decimal | the same | the same |
| Time | TIME | Time; finer than microseconds is refused |
| Datetime(ms, us or ns) | TIMESTAMP_MS, TIMESTAMP, TIMESTAMP_NS | the same |
| Datetime(ms or us, zone) | TIMESTAMPTZ, with a note unless it is microseconds in UTC | the same |
| Datetime(ns, zone) | TIMESTAMP_NS in UTC, with a note | the same |
| Duration | BIGINT in its unit, with a note | the same |
| Categorical, Enum | VARCHAR | String |
| Array | a list | List |
| List, Struct | of all these but Duration and zones other than UTC | List, Struct |

A note is the comment of the column in the lake, such as "Datetime(us, Europe/Paris)": SQL shows the column
as stored, and reading through Envol restores the dtype.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from envol.errors import DataError

_PLAIN: dict[pl.DataType, str] = {
    pl.Int8(): "TINYINT",
    pl.Int16(): "SMALLINT",
    pl.Int32(): "INTEGER",
    pl.Int64(): "BIGINT",
    pl.UInt8(): "UTINYINT",
    pl.UInt16(): "USMALLINT",
    pl.UInt32(): "UINTEGER",
    pl.UInt64(): "UBIGINT",
    pl.Float32(): "FLOAT",
    pl.Float64(): "DOUBLE",
    pl.Boolean(): "BOOLEAN",
    pl.String(): "VARCHAR",
    pl.Binary(): "BLOB",
    pl.Date(): "DATE",
    pl.Time(): "TIME",
    pl.Datetime("ms"): "TIMESTAMP_MS",
    pl.Datetime("us"): "TIMESTAMP",
    pl.Datetime("ns"): "TIMESTAMP_NS",
    pl.Datetime("us", "UTC"): "TIMESTAMPTZ",
}
_NOTE = re.compile(r"(Datetime|Duration)\((ms|us|ns)(?:, ([^)]+))?\)")


class UnsupportedError(Exception):
    """A dtype that the lake cannot keep; the message names it."""


@dataclass(frozen=True)
class Kept:
    """How a column is kept: the dtype it is read back as, its SQL type, and its note, if it needs one."""

    dtype: pl.DataType
    sql: str
    note: str | None = None


def kept(dtype: pl.DataType) -> Kept:
    """How a column of this dtype is kept.

    Raises:
        UnsupportedError: when the lake cannot keep it.
    """
    if isinstance(dtype, pl.Duration):
        return Kept(dtype, "BIGINT", described(dtype))
    if isinstance(dtype, pl.Datetime) and dtype.time_zone and dtype not in _PLAIN:
        return Kept(dtype, "TIMESTAMP_NS" if dtype.time_unit == "ns" else "TIMESTAMPTZ", described(dtype))
    return Kept(_read_back(dtype), _sql(dtype))


def read_back_as(dtype: pl.DataType) -> pl.DataType:
    """The dtype that such a column has when it is read from the lake; itself where none can keep it."""
    try:
        return kept(dtype).dtype
    except UnsupportedError:
        return dtype


def outgoing(series: pl.Series) -> pl.Series:
    """The series in the dtype that is written.

    Raises:
        DataError: when a time of day is finer than microseconds.
    """
    dtype = series.dtype
    if isinstance(dtype, pl.Duration):
        return series.to_physical()
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        if dtype.time_unit == "ns":
            return series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return series.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    if dtype == pl.Time and (series.to_physical() % 1000 != 0).any():
        raise DataError(
            f"column {series.name!r} holds times of day finer than a microsecond",
            remedy='round them, for example with `.dt.truncate("1us")` before `.dt.time()`',
        )
    return series.cast(_read_back(dtype))


def incoming(frame: pl.DataFrame, notes: dict[str, str]) -> pl.DataFrame:
    """The frame as DuckDB gave it, with the dtypes that its columns' notes name."""
    noted = (
        (frame[name], dtype)
        for name, note in notes.items()
        if name in frame.columns and (dtype := _noted(note))
    )
    return frame.with_columns(_restored(series, dtype) for series, dtype in noted)


def fits(found: pl.DataType, stored: pl.DataType) -> bool:
    """Whether values of dtype `found` can go into a column of dtype `stored` (Null fits anywhere)."""
    if found == pl.Null or found == stored:
        return True
    if isinstance(found, pl.List) and isinstance(stored, pl.List):
        return fits(_inner(found), _inner(stored))
    if isinstance(found, pl.Struct) and isinstance(stored, pl.Struct):
        return [field.name for field in found.fields] == [field.name for field in stored.fields] and all(
            fits(_of(a), _of(b)) for a, b in zip(found.fields, stored.fields, strict=True)
        )
    return False


def untyped(dtype: pl.DataType) -> bool:
    """Whether it is Null somewhere: the dtype of values that are all missing."""
    if isinstance(dtype, pl.List | pl.Array):
        return untyped(_inner(dtype))
    if isinstance(dtype, pl.Struct):
        return any(untyped(_of(field)) for field in dtype.fields)
    return dtype == pl.Null


def described(dtype: pl.DataType) -> str:
    """The dtype in few words: "Int64", "Datetime(us, UTC)", "List(String)"."""
    if isinstance(dtype, pl.Datetime):
        return f"Datetime({dtype.time_unit}{', ' + dtype.time_zone if dtype.time_zone else ''})"
    if isinstance(dtype, pl.Duration):
        return f"Duration({dtype.time_unit})"
    if isinstance(dtype, pl.Decimal):
        return f"Decimal({dtype.precision}, {dtype.scale})"
    if isinstance(dtype, pl.List):
        return f"List({described(_inner(dtype))})"
    if isinstance(dtype, pl.Struct):
        return f"Struct({', '.join(f'{f.name}: {described(_of(f))}' for f in dtype.fields)})"
    return str(dtype)


def quoted(name: str) -> str:
    """The name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _sql(dtype: pl.DataType) -> str:
    if dtype in _PLAIN:
        return _PLAIN[dtype]
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return "VARCHAR"
    if isinstance(dtype, pl.Decimal):
        return f"DECIMAL({dtype.precision}, {dtype.scale})"
    if isinstance(dtype, pl.List | pl.Array):
        return f"{_sql(_inner(dtype))}[]"
    if isinstance(dtype, pl.Struct):
        names = [field.name.casefold() for field in dtype.fields]
        if names and len(set(names)) == len(names):
            return f"STRUCT({', '.join(f'{quoted(f.name)} {_sql(_of(f))}' for f in dtype.fields)})"
    raise UnsupportedError(described(dtype))


def _read_back(dtype: pl.DataType) -> pl.DataType:
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return pl.String()
    if isinstance(dtype, pl.List | pl.Array):
        return pl.List(_read_back(_inner(dtype)))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _read_back(_of(field)) for field in dtype.fields})
    return dtype


def _noted(note: str) -> pl.DataType | None:
    match = _NOTE.fullmatch(note)
    if not match:
        return None  # a comment of somebody else's
    kind, unit, zone = match.groups()
    return pl.Datetime(unit, zone) if kind == "Datetime" else pl.Duration(unit)  # type: ignore[arg-type]


def _restored(series: pl.Series, dtype: pl.DataType) -> pl.Series:
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        return (
            series.dt.replace_time_zone("UTC")
            .dt.convert_time_zone(dtype.time_zone)
            .dt.cast_time_unit(dtype.time_unit)
        )
    return series.cast(dtype)


def _inner(dtype: pl.List | pl.Array) -> pl.DataType:
    inner = dtype.inner
    return inner if isinstance(inner, pl.DataType) else inner()


def _of(field: pl.Field) -> pl.DataType:
    return field.dtype if isinstance(field.dtype, pl.DataType) else field.dtype()
