"""Contracts: a table's rows against its dataframely `Schema`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import polars as pl

from envol.errors import DataError, ProjectError

REASON = "broken_rule"
_ROW = "envol_row"
_BITS: dict[pl.DataType, int] = {
    dtype(): bits
    for dtypes in ((pl.Int8, pl.Int16, pl.Int32, pl.Int64), (pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64))
    for dtype, bits in zip(dtypes, (8, 16, 32, 64), strict=True)
}


class ColumnsError(DataError):
    """A table has not the columns of its contract; `found` are those that it has."""

    def __init__(self, message: str, *, found: pl.Schema, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.found = found


@dataclass(frozen=True)
class Checked:
    """Rows that meet the contract, and those that do not with the rules they break in `broken_rule`."""

    good: pl.DataFrame
    broken: pl.DataFrame

    def reasons(self) -> str:
        """How many rows break which rule, most frequent first, as one line."""
        return broken_rules(self.broken)


def broken_rules(broken: pl.DataFrame) -> str:
    """How many of the broken rows break which rule, most frequent first, as one line."""
    counts = broken.get_column(REASON).str.split(", ").list.explode().value_counts(sort=True)
    return ", ".join(f"{count} x {rule}" for rule, count in counts.head(5).iter_rows())


def check(frame: pl.DataFrame, contract: type[Any]) -> Checked:
    """Divide a table's rows by its contract. Columns beyond the contract are kept.

    Args:
        frame: the table of one window.
        contract: a dataframely `Schema`.

    Raises:
        ColumnsError: a column is missing or has another dtype than the contract says.
        ProjectError: a rule of the contract cannot be computed.
    """
    dtypes = {name: column.dtype for name, column in contract.columns().items()}
    frame = frame.with_columns(
        pl.col(name).cast(dtype)
        for name, dtype in dtypes.items()
        if name in frame.columns and _widens(frame.schema[name], dtype)
    )
    missing = [name for name in dtypes if name not in frame.columns]
    if missing:
        raise ColumnsError(
            f"{_columns(missing)} of the contract {contract.__name__} missing; the function returned "
            + (", ".join(frame.columns) or "no columns"),
            found=frame.schema,
            remedy="return that column, or take it out of the contract",
        )
    wrong = [
        name for name, column in contract.columns().items() if not column.validate_dtype(frame.schema[name])
    ]
    if wrong:
        told = "; ".join(f"{name} is {frame.schema[name]}, not {dtypes[name]}" for name in wrong)
        raise ColumnsError(
            f"wrong dtype for the contract {contract.__name__}: {told}",
            found=frame.schema,
            remedy=f"cast it in the function, for example pl.col({wrong[0]!r}).cast(pl.{dtypes[wrong[0]]})",
        )
    if frame.is_empty():
        return Checked(frame, _no_rows(frame))
    schema: Any = contract
    try:
        good, failure = _marked(schema).filter(frame.with_row_index(_ROW).select(_ROW, *dtypes))
    except pl.exceptions.PolarsError as error:
        raise ProjectError(
            f"a rule of the contract {contract.__name__} cannot be computed: {error}",
            remedy="mend the rule: it names columns of the contract and yields true or false for each row",
        ) from None
    kept = good.get_column(_ROW)
    if kept.len() == frame.height:
        return Checked(frame, _no_rows(frame))
    details = failure.details()
    rules = details.select(pl.exclude(_ROW, *dtypes))
    reasons = details.select(
        pl.concat_list(pl.when(pl.col(rule) == "invalid").then(pl.lit(rule)) for rule in rules.columns)
        .list.drop_nulls()
        .list.join(", ")
        .str.replace_all("|", ": ", literal=True)
    ).to_series()
    broken = frame[details.get_column(_ROW)].with_columns(reasons.alias(REASON))
    return Checked(frame[kept], broken)


def check_contract(contract: Any, node: str) -> None:
    """Refuse a contract that is not a dataframely `Schema`.

    Raises:
        ProjectError: naming what was given.
    """
    import dataframely as dy

    if not (isinstance(contract, type) and issubclass(contract, dy.Schema)):
        raise ProjectError(
            f"contract={contract!r} is not a dataframely Schema",
            node=node,
            remedy="class Flight(dy.Schema): flight_id = dy.String(primary_key=True)",
        )


def _columns(names: list[str]) -> str:
    return f"column {names[0]!r}" if len(names) == 1 else "columns " + ", ".join(map(repr, names))


def _no_rows(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.clear().with_columns(pl.lit(None, pl.String).alias(REASON))


@cache
def _marked(contract: Any) -> type[Any]:
    """The contract with a column that numbers the rows, so that broken ones are found again."""
    import dataframely as dy

    return type(contract.__name__, (contract,), {_ROW: dy.UInt32(), "__module__": contract.__module__})


def _widens(given: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether a cast cannot lose anything: no values at all, or a smaller number type to a larger."""
    if given == wanted:
        return False
    if given == pl.Null:
        return True
    if given in _BITS and wanted in _BITS:
        spare = _BITS[wanted] - _BITS[given]
        signs = wanted.is_signed_integer() - given.is_signed_integer()
        return spare > 0 and signs >= 0
    return given == pl.Float32 and wanted == pl.Float64
