"""Columns and their dtypes, as the user gives them, and Arrow's types as Polars has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from envol.errors import DataError, ProjectError

if TYPE_CHECKING:
    import dataframely as dy
    import pyarrow as pa

    Schema = Mapping[str, Any] | type[dy.Schema]

_UUID_PARTS = ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))
# PostgreSQL counts to infinity in times; what the driver makes of it lies far before its earliest one.
_LONG_AGO = {pl.Datetime: -(10**18), pl.Date: -(10**9)}


def dtypes_of(schema: Schema) -> pl.Schema:
    """Names and dtypes of a mapping, or of a contract.

    Raises:
        ProjectError: it is neither.
    """
    try:
        if isinstance(schema, type) and hasattr(schema, "create_empty"):
            return pl.Schema(schema.create_empty().schema)
        return pl.DataFrame(schema=dict(schema)).schema  # type: ignore[arg-type]
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise ProjectError(
            f"the schema is neither a mapping of names to dtypes nor a contract: {error}",
            remedy='write for example schema={"id": pl.Int64, "at": pl.Datetime("us", "UTC")}',
        ) from None


def arrow_schema(dtypes: pl.Schema, *, json: bool = False) -> pa.Schema:
    """The same columns in types that Arrow's readers of text know, or the closest that are cast to them.

    Args:
        dtypes: columns and their dtypes.
        json: for JSON, whose reader takes dates and times of day for numbers.
    """
    import pyarrow as pa

    def readable(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_dictionary(kind):
            return kind.value_type
        if json and (pa.types.is_date(kind) or pa.types.is_time(kind)):
            return pa.string()
        if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            return pa.list_(readable(kind.value_type))
        if pa.types.is_struct(kind):
            return pa.struct([(part.name, readable(part.type)) for part in kind])
        return kind

    schema = pl.DataFrame(schema=dtypes).to_arrow().schema
    return pa.schema([(field.name, readable(field.type)) for field in schema])


def as_code(dtypes: Mapping[str, Any]) -> str:
    """A schema as one would write it in Python, for messages; "?" where nothing is known."""
    parts = []
    for name, dtype in dtypes.items():
        if isinstance(dtype, pl.Datetime):
            dtype = pl.Datetime("us", "UTC" if dtype.time_zone else None)
        parts.append(f'"{name}": {"pl.String" if dtype == pl.Null else _code(dtype)}')
    return "schema={" + ", ".join(parts) + "}"


def _code(dtype: Any) -> str:
    if isinstance(dtype, pl.Datetime):
        return 'pl.Datetime("us", "UTC")' if dtype.time_zone else 'pl.Datetime("us")'
    if isinstance(dtype, pl.List):
        return f"pl.List({_code(dtype.inner)})"
    if isinstance(dtype, pl.Struct):
        return "pl.Struct({" + ", ".join(f'"{f.name}": {_code(f.dtype)}' for f in dtype.fields) + "})"
    return f"pl.{dtype}"


def conformed(frame: pl.DataFrame, dtypes: pl.Schema, where: str) -> pl.DataFrame:
    """The frame with those of its columns that are named cast to their dtypes.

    Raises:
        DataError: a value does not fit; `where` tells where it comes from.
    """
    casts = [
        pl.col(name).cast(dtype) for name, dtype in dtypes.items() if frame.schema.get(name, dtype) != dtype
    ]
    try:
        return frame.with_columns(casts)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{where}: a value does not fit the schema: {error}",
            remedy="correct the schema, or read the column as pl.String and convert it in the function",
        ) from None


def from_arrow(table: pa.Table, overrides: pl.Schema, where: str) -> pl.DataFrame:
    """Rows of a query as Polars; the types of the databases' own become plain ones.

    Args:
        table: what a driver has returned.
        overrides: dtypes that columns are to have instead.
        where: for messages.

    Raises:
        ProjectError: a column has a type that has no counterpart.
        DataError: a value does not fit.
    """
    for field in table.schema:
        _refuse_unknown(field)
    frame = pl.DataFrame(pl.from_arrow(table))
    exact = [
        plain
        for field in table.schema
        if (plain := _plain(field.type, pl.col(field.name), field, overrides.get(field.name))) is not None
    ]
    try:
        frame = frame.with_columns(exact)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{where}: a value cannot be read: {error}") from None
    for name, dtype in frame.schema.items():
        earliest = _LONG_AGO.get(dtype.base_type())
        if earliest is not None and (frame[name].to_physical() < earliest).any():
            raise DataError(
                f"{where}: column {name!r} has an infinite time",
                remedy=f"leave it out in the query: nullif({name}, 'infinity')",
            )
    return conformed(frame, overrides, where)


def _plain(
    kind: pa.DataType, value: pl.Expr, field: pa.Field, override: pl.DataType | None
) -> pl.Expr | None:
    """How to make a plain value of one with a type of the database's own; None where it is plain."""
    import pyarrow as pa

    if isinstance(kind, pa.UuidType):
        digits = value.bin.encode("hex")
        return pl.concat_str([digits.str.slice(*part) for part in _UUID_PARTS], separator="-")
    if isinstance(kind, pa.JsonType):
        return value.ext.storage()
    if isinstance(kind, pa.OpaqueType):
        return value.ext.storage().cast(override or _number(field))
    if pa.types.is_dictionary(kind):
        return value.cast(pl.String)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        element = _plain(kind.value_type, pl.element(), field, None)
        return None if element is None else value.list.eval(element)
    return None


def _number(field: pa.Field) -> pl.DataType:
    """The dtype of a NUMERIC: exact where the database declares at most 38 digits, else Float64."""
    declared = int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"-1")) - 4
    precision, scale = declared >> 16 & 0xFFFF, declared & 0x7FF
    if declared < 0 or not (0 < precision <= 38 and scale <= precision):
        return pl.Float64()
    return pl.Decimal(precision, scale)


def _refuse_unknown(field: pa.Field) -> None:
    declared = (field.metadata or {}).get(b"POSTGRESQL:type", b"").decode()
    unknown = "money" if declared == "money" else _without_counterpart(field.type)
    if unknown:
        raise ProjectError(
            f"column {field.name!r} has the type {declared or unknown}, which has no counterpart in a table",
            remedy=f"convert it in the query, for example cast({field.name} as text)",
        )


def _without_counterpart(kind: pa.DataType, *, inside: bool = False) -> str | None:
    """The type, or the one inside it, that Polars does not have; None where it has all."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return _without_counterpart(kind.value_type)
    if pa.types.is_struct(kind):
        parts = (_without_counterpart(kind.field(i).type, inside=True) for i in range(kind.num_fields))
        return next((part for part in parts if part), None)
    if isinstance(kind, pa.OpaqueType) and (inside or kind.type_name != "numeric"):
        return str(kind.type_name)
    if isinstance(kind, pa.BaseExtensionType) and inside:
        return str(kind.extension_name)
    return str(kind) if pa.types.is_interval(kind) or pa.types.is_union(kind) else None
