"""Inputs of a model: what each may hold, and a compiled check of one JSON value.

Polars and the standard library only: packages carry a copy of this file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal, cast

import polars as pl

Check = Callable[[Any], Any]
Missing = Literal["null", "nan", "both"]

RANGES = {
    f"{prefix}Int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if not prefix else (0, 2**bits - 1)
    for prefix in ("", "U")
    for bits in (8, 16, 32, 64)
}
FLOATS = ("Float32", "Float64")
TEXTS = ("String", "Categorical", "Enum")
_LARGEST_FLOAT32 = 3.4028235677973366e38  # from here on a number rounds to infinity
_DATETIME = re.compile(r"Datetime\[(ms|us|ns)(?:, (.+))?\]")
_BELOW_MICROSECOND = re.compile(r"[.,]\d{6}0*[1-9]")
_NANOSECOND_YEARS = (1678, 2261)
IS_MISSING = "is missing, and it never was in training"


class UnsupportedTypeError(TypeError):
    """A column whose type a model's signature cannot express."""


@dataclass(frozen=True)
class Field:
    """One input of a model.

    Attributes:
        name: the column.
        dtype: Polars' name of its type: "Int64", "Float64", "String", "Boolean", "Date", "Datetime[us]",
            "Datetime[us, Europe/Paris]", "Categorical", "Enum" and the narrower numbers.
        nullable: whether the value may be missing.
        categories: the only texts allowed; None when any is.
        missing: what a missing float was in training: null, NaN, or either.
    """

    name: str
    dtype: str
    nullable: bool = False
    categories: tuple[str, ...] | None = None
    missing: Missing = "null"

    @property
    def polars(self) -> pl.DataType:
        """The Polars type.

        Raises:
            UnsupportedTypeError: when there is none of that name.
        """
        if self.dtype == "Enum":
            return pl.Enum(self.categories or ())
        if found := _DATETIME.fullmatch(self.dtype):
            return pl.Datetime(cast("Literal['ms', 'us', 'ns']", found[1]), found[2])
        if self.dtype in RANGES or self.dtype in (*FLOATS, *TEXTS, "Boolean", "Date"):
            return cast("type[pl.DataType]", getattr(pl, self.dtype))()
        raise UnsupportedTypeError(f"the input {self.name!r} has the unknown type {self.dtype!r}")

    def check(self) -> Check:
        """A function from a JSON value to the value to store; its ValueError says what is wrong."""
        check = self._check_value()
        if self.nullable:
            absent = math.nan if self.missing == "nan" else None
            return lambda value: absent if value is None else check(value)
        return check

    def _check_value(self) -> Check:
        if self.dtype in RANGES:
            return _check_integer(self.dtype)
        if self.dtype in FLOATS:
            return _check_float(self.dtype)
        if self.dtype in TEXTS:
            return _check_text(self.categories)
        if self.dtype == "Boolean":
            return _check_boolean
        return _check_date if self.dtype == "Date" else _check_datetime(self.polars)


def dtype_text(name: str, dtype: pl.DataType) -> str:
    """The name of a Polars type in a signature.

    Raises:
        UnsupportedTypeError: when a model's input cannot have it.
    """
    if isinstance(dtype, pl.Datetime):
        return f"Datetime[{dtype.time_unit}{f', {dtype.time_zone}' if dtype.time_zone else ''}]"
    text = str(dtype.base_type())
    if text in RANGES or text in (*FLOATS, *TEXTS, "Boolean", "Date"):
        return text
    raise UnsupportedTypeError(
        f"the input {name!r} is {dtype}; a model's inputs are numbers, text, booleans, dates and times"
    )


def shown(value: Any) -> str:
    """A JSON value as the client wrote it, shortened."""
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, date):
        return value.isoformat()
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _missing_or(value: Any, problem: str) -> ValueError:
    return ValueError(IS_MISSING if value is None else problem)


def _not_a_number(value: Any) -> ValueError:
    kind = " is text, not a number" if isinstance(value, str) else " is not a number"
    return _missing_or(value, shown(value) + kind)


def _check_integer(dtype: str) -> Check:
    low, high = RANGES[dtype]

    def check(value: Any) -> int:
        if type(value) is float:
            if not math.isfinite(value):
                raise ValueError(f"{shown(value)} is not a whole number")
            whole = int(value)
            if whole != value:
                raise ValueError(f"{value!r} is not a whole number")
            value = whole
        elif type(value) is not int:
            raise _not_a_number(value)
        if low <= value <= high:
            return cast(int, value)
        raise ValueError(f"{shown(value)} is out of the range of {dtype}, {low} to {high}")

    return check


def _check_float(dtype: str) -> Check:
    largest = _LARGEST_FLOAT32 if dtype == "Float32" else math.inf
    exact = 2**24 if dtype == "Float32" else 2**53

    def check(value: Any) -> float:
        if type(value) is int:
            return _integer_as_float(value, dtype, largest, exact)
        if type(value) is not float:
            raise _not_a_number(value)
        if -largest < value < largest:
            return value
        if math.isfinite(value):
            raise ValueError(f"{value!r} is out of the range of {dtype}")
        raise ValueError(f"{shown(value)} is not a finite number")

    return check


def _integer_as_float(value: int, dtype: str, largest: float, exact: int) -> float:
    if -exact <= value <= exact:
        return float(value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not -largest < number < largest:
        raise ValueError(f"{shown(value)} is out of the range of {dtype}")
    if (pl.Series([number], dtype=pl.Float32).item() if dtype == "Float32" else number) != value:
        raise ValueError(f"{value} cannot be held exactly by {dtype}")
    return number


def _check_text(categories: tuple[str, ...] | None) -> Check:
    def check(value: Any) -> str:
        if type(value) is not str:
            raise _missing_or(value, f"{shown(value)} is not text")
        return value

    if categories is None:
        return check
    allowed = frozenset(categories)

    def check_known(value: Any) -> str:
        if value in allowed if type(value) is str else False:
            return cast(str, value)
        check(value)
        raise ValueError(unknown_category(value, categories))

    return check_known


def unknown_category(value: str, categories: tuple[str, ...]) -> str:
    """What is wrong with a text that is not among the categories."""
    known = ", ".join(map(shown, categories[:10]))
    more = f" and {len(categories) - 10} more" if len(categories) > 10 else ""
    return f"{shown(value)} was never seen in training; known are {known}{more}"


def _check_boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise _missing_or(value, f"{shown(value)} is not true or false")
    return value


def _check_date(value: Any) -> date:
    if type(value) is str:
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise _missing_or(value, f"{shown(value)} is not a date such as 2013-01-05")


def _check_datetime(dtype: pl.DataType) -> Check:
    assert isinstance(dtype, pl.Datetime)
    aware = dtype.time_zone is not None
    unit = dtype.time_unit
    example = f"2013-01-05T09:30:00{'Z' if aware else ''}"

    def check(value: Any) -> datetime:
        try:
            instant = datetime.fromisoformat(value)
        except (ValueError, TypeError):
            raise _missing_or(value, f"{shown(value)} is not a time such as {example}") from None
        if aware != (instant.tzinfo is not None):
            problem = "has no offset such as Z or +01:00" if aware else "has an offset, the input has none"
            raise ValueError(f"{shown(value)} {problem}")
        if _BELOW_MICROSECOND.search(value):
            raise ValueError(f"{shown(value)} is finer than a microsecond")
        if unit == "ms" and instant.microsecond % 1000:
            raise ValueError(f"{shown(value)} is finer than a millisecond")
        if aware:
            try:
                instant = instant.astimezone(UTC)
            except OverflowError:
                raise ValueError(f"{shown(value)} is out of the range of {dtype}") from None
        if unit == "ns" and not _NANOSECOND_YEARS[0] <= instant.year <= _NANOSECOND_YEARS[1]:
            raise ValueError(f"{shown(value)} is out of the range of nanoseconds")
        return instant

    return check
