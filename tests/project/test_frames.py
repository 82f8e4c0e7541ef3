"""Frames go to functions as they ask, and whatever frame comes back is one of Polars."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from envol.errors import ProjectError
from envol.project.frames import series_to_kind, to_kind, to_numbers, to_polars

FRAME = pl.DataFrame(
    {
        "id": [1, 2, 3],
        "rate": [0.5, None, 1.5],
        "name": ["a", None, "ü"],
        "late": [True, False, True],
        "at": [datetime(2024, 1, 1, tzinfo=UTC)] * 3,
    }
)


@pytest.mark.parametrize(
    ("kind", "type_"),
    [
        ("polars", pl.DataFrame),
        ("lazy", pl.LazyFrame),
        ("pandas", pd.DataFrame),
        ("arrow", pa.Table),
    ],
)
@pytest.mark.parametrize("frame", [FRAME, FRAME.clear()], ids=["rows", "empty"])
def test_a_frame_goes_there_and_back(kind: str, type_: type, frame: pl.DataFrame) -> None:
    given = to_kind(frame, kind)
    assert isinstance(given, type_)
    assert_frame_equal(to_polars(given, "node"), frame)


def test_numpy_gets_the_numbers() -> None:
    assert to_kind(FRAME.select("id"), "numpy").tolist() == [[1], [2], [3]]


@pytest.mark.parametrize(
    ("kind", "type_"),
    [("polars", pl.Series), ("pandas", pd.Series), ("arrow", pa.Array), ("numpy", np.ndarray)],
)
def test_a_series_goes_as_asked(kind: str, type_: type) -> None:
    given = series_to_kind(FRAME["id"], kind)
    assert isinstance(given, type_)
    assert pl.Series(given).to_list() == [1, 2, 3]


def test_a_lazy_frame_is_collected() -> None:
    assert to_polars(FRAME.lazy().filter(pl.col("id") > 1), "node").height == 2


def test_an_index_of_pandas_is_kept_when_it_has_a_name() -> None:
    frame = pd.DataFrame({"origin": ["a", "b", "a"], "delay": [1, 2, 3]})
    by_origin = to_polars(frame.groupby("origin").sum(), "node")
    assert by_origin.to_dict(as_series=False) == {"origin": ["a", "b"], "delay": [4, 2]}
    assert to_polars(frame[frame["delay"] > 1], "node").columns == ["origin", "delay"]


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (None, "None (is a `return` missing?)"),
        ([{"a": 1}], "a list"),
        ({"a": [1]}, "a dict"),
        (3, "an int"),
        (pl.Series([1]), "a polars Series"),
        (pl.col("a"), "a polars Expr"),
        (pd.Series([1]), "a pandas Series"),
        (pa.array([1]), "a pyarrow Int64Array"),
        (np.zeros((2, 2)), "a numpy ndarray"),
        (date(2024, 1, 1), "a datetime date"),
    ],
)
def test_what_is_no_frame_is_refused(result: Any, told: str) -> None:
    with pytest.raises(ProjectError) as caught:
        to_polars(result, "flights")
    assert f"node flights: the function returned {told}, not a frame" in str(caught.value)
    assert caught.value.remedy


def test_a_frame_of_another_library_is_refused() -> None:
    import duckdb

    with pytest.raises(ProjectError, match="DuckDBPyRelation, not a frame"):
        to_polars(duckdb.sql("select 1"), "flights")


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": [1, "x"]}),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pa.table([[1], [2]], names=["a", "a"]),
    ],
    ids=["mixed", "twice", "twice in arrow"],
)
def test_a_frame_that_is_no_table_is_refused(frame: Any) -> None:
    with pytest.raises(ProjectError, match="cannot be read as a table") as caught:
        to_polars(frame, "flights")
    assert caught.value.node == "flights"


@pytest.mark.parametrize(
    "result",
    [
        pl.Series([1, 2]),
        pd.Series([1.0, 2.0], index=[7, 3]),
        np.array([1, 2]),
        pa.chunked_array([[1], [2]]),
        [1, 2],
        (1.0, 2),
        pl.DataFrame({"worth": [1, 2]}),
    ],
    ids=lambda result: type(result).__name__,
)
def test_numbers_of_any_kind(result: Any) -> None:
    numbers = to_numbers(result, 2, "worth")
    assert (numbers.name, numbers.dtype, numbers.to_list()) == ("value", pl.Float64, [1.0, 2.0])


@pytest.mark.parametrize("result", [[], pl.Series([]), np.array([]), pd.Series([], dtype=float)])
def test_no_numbers_for_no_rows(result: Any) -> None:
    assert to_numbers(result, 0, "worth").dtype == pl.Float64


@pytest.mark.parametrize(
    "result",
    [None, 1.0, "ab", ["a", "b"], [True, False], [1], [1, 2, 3], [[1], [2]], FRAME.head(2)],
    ids=lambda result: type(result).__name__,
)
def test_what_is_not_one_number_a_row_is_refused(result: Any) -> None:
    with pytest.raises(ProjectError, match="not one number for each of the 2 outcomes") as caught:
        to_numbers(result, 2, "worth")
    assert caught.value.node == "worth"


def test_how_many_numbers_of_which_type_came_instead_is_told() -> None:
    for result, told in (
        (pl.Series(["a", "b"]), "a polars Series of 2 x String,"),
        (np.array([1.5]), "a numpy ndarray of 1 x float64,"),
        (pd.Series([1, 2, 3]), "a pandas Series of 3 x int64,"),
        ([1], "a list,"),
    ):
        with pytest.raises(ProjectError, match=told):
            to_numbers(result, 2, "worth")


def test_none_is_refused_without_rows_too() -> None:
    with pytest.raises(ProjectError, match="None"):
        to_numbers(None, 0, "worth")
