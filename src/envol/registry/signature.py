"""The signature of a model: its inputs, and the strict conversion of rows and frames to them.

Polars and the standard library only: packages carry a copy of this file.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import polars as pl

from envol.registry.fields import FLOATS, IS_MISSING, RANGES, TEXTS, Check, Field, dtype_text, shown

MOST_CATEGORIES = 1000
PROBLEMS_PER_FIELD = 20
ALL_ROWS = -1


class Problem(NamedTuple):
    """What is wrong with one value: `row` from 0, or -1 when it is the whole column."""

    row: int
    field: str
    problem: str

    def __str__(self) -> str:
        place = "" if self.row == ALL_ROWS else f"row {self.row}, "
        return f"{place}{self.field}: {self.problem}"


@dataclasses.dataclass(frozen=True)
class Signature:
    """The inputs of a model, in the order in which it gets them."""

    fields: tuple[Field, ...]

    @classmethod
    def infer(cls, X: pl.DataFrame, *, closed_categories: bool = True) -> Signature:
        """The signature of the inputs that a model was trained on.

        A field is nullable when a value was missing (for floats: null or NaN). Texts of at most 1,000
        distinct values are a closed list of categories, unless `closed_categories` is off.

        Raises:
            UnsupportedTypeError: when a column has a type that no signature can express.
        """
        return cls(tuple(_inferred(X[name], closed_categories) for name in X.columns))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the fields."""
        return tuple(field.name for field in self.fields)

    @cached_property
    def schema(self) -> dict[str, pl.DataType]:
        """The Polars schema of a conforming frame."""
        return {field.name: field.polars for field in self.fields}

    @cached_property
    def _checks(self) -> list[tuple[str, Check]]:
        return [(field.name, field.check()) for field in self.fields]

    def from_rows(self, rows: Sequence[Mapping[str, Any]]) -> tuple[pl.DataFrame, list[Problem]]:
        """A frame of JSON rows, and what is wrong with them.

        The frame has a row for each given one; a wrong value is null in it. Nothing is converted that
        would lose something: 2 is a Float64 and 2.0 an Int64, 2.5 and "2" are not. Dates and times are
        ISO 8601 text. A nullable field may be left out; a field that the model does not have is a problem.
        """
        if len(rows) == 1:
            row = rows[0]
            try:
                good = {name: check(row[name]) for name, check in self._checks}
                if good and len(row) == len(good):
                    return pl.from_dicts([good], schema=self.schema), []
            except (KeyError, ValueError, TypeError):
                pass  # said below, field by field
        return self._from_columns(rows)

    def _from_columns(self, rows: Sequence[Mapping[str, Any]]) -> tuple[pl.DataFrame, list[Problem]]:
        problems = []
        objects: list[Mapping[str, Any] | None] = []
        names = frozenset(self.names)
        for index, row in enumerate(rows):
            if not isinstance(row, Mapping):
                problems.append(Problem(index, "", f"{shown(row)} is not an object of named values"))
                objects.append(None)
                continue
            objects.append(row)
            if not row.keys() <= names:
                problems += [Problem(index, str(name), self._hint(name)) for name in row if name not in names]
        columns = []
        for name, check in self._checks:
            try:
                values = [check(row.get(name)) for row in objects]  # type: ignore[union-attr]
            except (ValueError, AttributeError):
                values = []
                for index, given in enumerate(objects):
                    value = None
                    if given is not None:
                        try:
                            value = check(given.get(name))
                        except ValueError as error:
                            problems.append(Problem(index, name, str(error)))
                    values.append(value)
            columns.append(pl.Series(name, values, dtype=self.schema[name]))
        problems.sort(key=lambda problem: problem.row)
        return _frame(columns, len(rows)), problems

    def conform(
        self, frame: pl.DataFrame, *, most: int | None = PROBLEMS_PER_FIELD
    ) -> tuple[pl.DataFrame, list[Problem]]:
        """A frame with exactly the fields, their order and types, and what is wrong with it.

        Casts that lose nothing are made (Int32 to Int64, 2.0 to an integer, a midnight to a date); a wrong
        value is null in the result. Floats may round to a narrower float, and may be infinite.

        Args:
            most: how many wrong values are listed of each field, the first ones; all when None.
        """
        problems = [
            Problem(ALL_ROWS, name, self._hint(name)) for name in frame.columns if name not in self.schema
        ]
        columns = []
        for field in self.fields:
            if field.name in frame.columns:
                column, found = _conformed(field, frame[field.name], most)
            else:
                column, found = pl.Series(field.name, [None] * frame.height, dtype=field.polars), []
                if field.nullable:
                    column = _missing_as(field, column)
                else:
                    found = [Problem(ALL_ROWS, field.name, "the column is missing")]
            columns.append(column)
            problems += found
        return _frame(columns, frame.height), problems

    def to_json(self) -> str:
        """The signature as JSON text, an array of fields."""
        return json.dumps([dataclasses.asdict(field) for field in self.fields], ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Signature:
        """The signature that `to_json` wrote."""
        fields = []
        for item in json.loads(text):
            categories = item.pop("categories")
            fields.append(Field(**item, categories=None if categories is None else tuple(categories)))
        return cls(tuple(fields))

    def _hint(self, name: object) -> str:
        near = difflib.get_close_matches(str(name), self.names, n=1)
        return "is not an input of the model" + (f"; did you mean {near[0]!r}" if near else "")


def described(problems: Sequence[Problem], limit: int = 3) -> str:
    """The first problems in one line."""
    more = f" (and {len(problems) - limit} more)" if len(problems) > limit else ""
    return "; ".join(map(str, problems[:limit])) + more


def _inferred(column: pl.Series, closed: bool) -> Field:
    dtype = dtype_text(column.name, column.dtype)
    nulls = column.null_count() > 0
    nans = dtype in FLOATS and bool(column.is_nan().any())
    categories = None
    if dtype == "Enum":
        categories = tuple(column.dtype.categories)  # type: ignore[attr-defined]
    elif dtype in TEXTS and closed and column.n_unique() <= MOST_CATEGORIES + nulls:
        categories = tuple(sorted(column.cast(pl.String).drop_nulls().unique()))
    return Field(
        column.name, dtype, nulls or nans, categories, "null" if not nans else "both" if nulls else "nan"
    )


def _frame(columns: Iterable[pl.Series], height: int) -> pl.DataFrame:
    frame = pl.DataFrame(columns)
    return frame if frame.width else pl.DataFrame(height=height)


def _missing_as(field: Field, column: pl.Series) -> pl.Series:
    if field.dtype in FLOATS and field.missing != "both":
        return column.fill_null(float("nan")) if field.missing == "nan" else column.fill_nan(None)
    return column


def _conformed(field: Field, column: pl.Series, most: int | None) -> tuple[pl.Series, list[Problem]]:
    """The column with the field's type, and its problems."""
    target = field.polars
    wrongs: list[pl.Series] = []
    if column.dtype == target:
        result = column
    elif column.dtype == pl.Null:
        result = column.cast(target)
    elif _castable(field, column.dtype):
        result = column.cast(target, strict=False)
        wrongs.append(_lost(field, column, result))
    else:
        problem = f"the column is {column.dtype}, not {field.dtype}"
        empty = pl.Series(column.name, [None] * len(column), dtype=target)
        return empty, [Problem(ALL_ROWS, field.name, problem)]
    if field.categories is not None and field.dtype != "Enum":
        unknown = set(result.unique().to_list()) - set(field.categories) - {None}
        if unknown:
            wrongs.append(result.cast(pl.String).is_in(list(unknown)).fill_null(False))
    if not field.nullable:
        if column.null_count():
            wrongs.append(column.is_null())
        if field.dtype in FLOATS:
            wrongs.append(result.is_nan().fill_null(False))
    wrongs = [wrong for wrong in wrongs if wrong.any()]
    if wrongs:
        wrong = wrongs[0]
        for other in wrongs[1:]:
            wrong = wrong | other
        result = result.set(wrong, None)
        return result, _problems(field, column, wrong, most)
    return (_missing_as(field, result) if field.nullable else result), []


def _castable(field: Field, dtype: pl.DataType) -> bool:
    if field.dtype in RANGES or field.dtype in FLOATS:
        return dtype.is_integer() or dtype.is_float()
    if field.dtype in TEXTS:
        return dtype.base_type() in (pl.String, pl.Categorical, pl.Enum)
    if field.dtype == "Date":
        return isinstance(dtype, pl.Datetime) and dtype.time_zone is None
    if field.dtype.startswith("Datetime"):
        zone = field.polars.time_zone  # type: ignore[attr-defined]
        return (dtype == pl.Date and zone is None) or (
            isinstance(dtype, pl.Datetime) and (dtype.time_zone is None) == (zone is None)
        )
    return False


def _lost(field: Field, column: pl.Series, result: pl.Series) -> pl.Series:
    """Which values the cast from `column` to `result` did not keep."""
    emptied = result.is_null() & column.is_not_null()
    if column.dtype.is_float() and field.dtype in FLOATS:  # rounding is no loss, infinity is
        return (result.is_infinite() & column.is_finite()).fill_null(False)
    if field.dtype in TEXTS:
        return emptied
    return emptied | (result.cast(column.dtype, strict=False).ne_missing(column) & column.is_not_null())


def _problems(field: Field, column: pl.Series, wrong: pl.Series, most: int | None) -> list[Problem]:
    check = field.check()
    found = []
    for row in wrong.arg_true().to_list()[:most]:
        value = column[row]
        if value is None or (isinstance(value, float) and value != value and field.dtype in FLOATS):
            problem = IS_MISSING
        elif field.dtype == "Date" or field.dtype.startswith("Datetime"):
            problem = f"{shown(value)} cannot be held exactly by {field.dtype}"
        else:
            try:
                check(value)
                problem = f"{shown(value)} cannot be held exactly by {field.dtype}"
            except ValueError as error:
                problem = str(error)
        found.append(Problem(row, field.name, problem))
    return found
