"""What MLflow hands over, pandas frames of all kinds, becomes what the model was trained on."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from envol.registry import Field, Signature
from envol.registry.loader import from_pandas

INSTANT = datetime(2013, 1, 5, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, None, 2**53 + 1], dtype="Int64"),
        pd.Series([1, None, 2**53 + 1], dtype=object),
        pd.Series([np.int32(1), pd.NA, np.int64(2**53 + 1)], dtype=object),
        pd.Series([1.0, math.nan, 2**53 + 1], dtype=object),
        pd.Series([1, None, 2**53 + 1], dtype="int64[pyarrow]"),
    ],
)
def test_a_nullable_integer_stays_exact(column: Any) -> None:
    frame, problems = from_pandas(
        Signature((Field("a", "Int64", nullable=True),)), pd.DataFrame({"a": column})
    )
    assert problems == []
    assert frame.schema == {"a": pl.Int64}
    assert frame["a"].to_list() == [1, None, 2**53 + 1]


@pytest.mark.parametrize(
    ("dtype", "column", "expected"),
    [
        ("Int64", pd.Series([1.0, math.nan]), [1, None]),
        ("Float64", pd.Series([0.1, None], dtype="Float64"), [0.1, None]),
        ("Boolean", pd.Series([True, None], dtype="boolean"), [True, None]),
        ("Boolean", pd.Series([np.True_, None], dtype=object), [True, None]),
        ("String", pd.Series(["a", None]), ["a", None]),
        ("String", pd.Series(["a", math.nan], dtype=object), ["a", None]),
        ("String", pd.Series(["a", None], dtype="category"), ["a", None]),
        ("Date", pd.to_datetime(pd.Series(["2013-01-05", None])), [date(2013, 1, 5), None]),
        ("Date", pd.Series(["2013-01-05", None]), [date(2013, 1, 5), None]),
        ("Date", pd.Series([date(2013, 1, 5), None], dtype=object), [date(2013, 1, 5), None]),
        ("Datetime[us, UTC]", pd.Series([INSTANT, None]), [INSTANT, None]),
        ("Datetime[us, UTC]", pd.Series(["2013-01-05T09:30:00+01:00", None]), [INSTANT, None]),
        ("Datetime[us, UTC]", pd.Series([pd.Timestamp(INSTANT), pd.NaT], dtype=object), [INSTANT, None]),
    ],
)
def test_every_kind_of_column(dtype: str, column: Any, expected: list[Any]) -> None:
    field = Field("a", dtype, nullable=True)
    frame, problems = from_pandas(Signature((field,)), pd.DataFrame({"a": column}))
    assert problems == []
    assert_frame_equal(frame, pl.DataFrame({"a": expected}, schema={"a": field.polars}))


@pytest.mark.parametrize(
    ("dtype", "column", "problem"),
    [
        ("Int64", pd.Series([2.5]), "row 0, a: 2.5 is not a whole number"),
        ("Int64", pd.Series([2.5], dtype=object), "row 0, a: 2.5 is not a whole number"),
        ("Int64", pd.Series([None], dtype="Int64"), "row 0, a: is missing, and it never was in training"),
        ("Date", pd.to_datetime(pd.Series(["2013-01-05T09:00"])), "cannot be held exactly by Date"),
        ("Boolean", pd.Series([1]), "a: the column is Int64, not Boolean"),
    ],
)
def test_what_would_be_lost_is_refused(dtype: str, column: Any, problem: str) -> None:
    _, problems = from_pandas(Signature((Field("a", dtype),)), pd.DataFrame({"a": column}))
    assert len(problems) == 1
    assert problem in str(problems[0])


def test_columns_of_objects_beside_others_keep_the_order_of_the_signature() -> None:
    signature = Signature((Field("a", "Int64", nullable=True), Field("b", "Float64"), Field("c", "String")))
    data = pd.DataFrame({"b": [0.5, 1.5], "c": ["x", "y"], "a": pd.Series([None, 7], dtype=object)})
    frame, problems = from_pandas(signature, data)
    assert problems == []
    assert frame.rows() == [(None, 0.5, "x"), (7, 1.5, "y")]
    assert frame.columns == ["a", "b", "c"]
