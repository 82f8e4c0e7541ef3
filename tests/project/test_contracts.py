"""A contract divides rows into good and broken ones; the table itself must have its columns and dtypes."""

from __future__ import annotations

from datetime import date, datetime

import dataframely as dy
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from envol.errors import DataError, ProjectError
from envol.project.contracts import REASON, check, check_contract


class Flight(dy.Schema):
    id = dy.Int64(primary_key=True)
    origin = dy.String(regex="^[A-Z]{3}$")
    delay = dy.Float64(nullable=True, min=-100)

    @dy.rule()
    def delay_of_jfk_is_known(cls) -> pl.Expr:
        return (pl.col("origin") != "JFK") | pl.col("delay").is_not_null()


def flights(*rows: tuple[int | None, str | None, float | None]) -> pl.DataFrame:
    schema = {"id": pl.Int64, "origin": pl.String, "delay": pl.Float64}
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def reasons(frame: pl.DataFrame) -> list[str]:
    return check(frame, Flight).broken[REASON].to_list()


def test_good_rows_pass_as_they_are() -> None:
    frame = flights((1, "JFK", 3.0), (2, "LGA", None))
    checked = check(frame, Flight)
    assert_frame_equal(checked.good, frame)
    assert checked.broken.is_empty()
    assert checked.broken.schema == {**frame.schema, REASON: pl.String}


def test_some_broken_rows_are_divided_in_their_order() -> None:
    frame = flights((1, "JFK", 3.0), (2, "lga", 1.0), (3, "LGA", -200.0), (4, "EWR", 0.0))
    checked = check(frame, Flight)
    assert checked.good["id"].to_list() == [1, 4]
    assert checked.broken["id"].to_list() == [2, 3]
    assert checked.broken[REASON].to_list() == ["origin: regex", "delay: min"]


def test_all_rows_broken() -> None:
    checked = check(flights((1, "x", 0.0), (2, "y", 0.0)), Flight)
    assert checked.good.is_empty()
    assert checked.good.columns == ["id", "origin", "delay"]
    assert checked.broken.height == 2


def test_a_row_tells_all_rules_that_it_breaks() -> None:
    [told] = reasons(flights((1, "jfk", -200.0)))
    assert set(told.split(", ")) == {"origin: regex", "delay: min"}


def test_a_rule_over_several_columns() -> None:
    assert reasons(flights((1, "JFK", None))) == ["delay_of_jfk_is_known"]


def test_all_rows_of_a_repeated_key_are_broken() -> None:
    checked = check(flights((1, "JFK", 1.0), (2, "LGA", 1.0), (1, "EWR", 1.0)), Flight)
    assert checked.good["id"].to_list() == [2]
    assert checked.broken["origin"].to_list() == ["JFK", "EWR"]
    assert checked.broken[REASON].to_list() == ["primary_key", "primary_key"]


def test_a_null_where_none_may_be() -> None:
    assert reasons(flights((1, None, 0.0), (2, "LGA", None))) == ["origin: nullability"]


def test_reasons_are_counted_most_frequent_first() -> None:
    checked = check(flights((1, "x", 0.0), (2, "y", 0.0), (3, "JFK", -200.0)), Flight)
    assert checked.reasons() == "2 x origin: regex, 1 x delay: min"


def test_an_empty_table() -> None:
    checked = check(flights(), Flight)
    assert checked.good.schema == flights().schema
    assert checked.broken.schema == {**flights().schema, REASON: pl.String}


def test_more_columns_are_kept_where_they_are() -> None:
    frame = flights((1, "JFK", 3.0), (2, "x", 1.0)).select(
        pl.lit("a").alias("first"), "delay", pl.lit(7).alias("middle"), "origin", "id"
    )
    checked = check(frame, Flight)
    assert checked.good.columns == ["first", "delay", "middle", "origin", "id"]
    assert checked.broken.row(0) == ("a", 1.0, 7, "x", 2, "origin: regex")


@pytest.mark.parametrize(
    ("dropped", "told"),
    [(["origin"], "column 'origin' of"), (["id", "delay"], "columns 'id', 'delay' of")],
)
def test_a_missing_column(dropped: list[str], told: str) -> None:
    frame = flights((1, "JFK", 3.0)).drop(dropped)
    with pytest.raises(DataError) as caught:
        check(frame, Flight)
    assert told in caught.value.message
    assert f"the function returned {', '.join(frame.columns)}" in caught.value.message
    assert caught.value.remedy


def test_no_columns_at_all() -> None:
    with pytest.raises(DataError, match="the function returned no columns"):
        check(pl.DataFrame(), Flight)


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (pl.Series("id", ["1"]), "id is String, not Int64"),
        (pl.Series("id", [1.0]), "id is Float64, not Int64"),
        (pl.Series("id", [1], pl.UInt64), "id is UInt64, not Int64"),
        (pl.Series("delay", [1]), "delay is Int64, not Float64"),
        (pl.Series("origin", [date(2024, 1, 1)]), "origin is Date, not String"),
        (pl.Series("origin", ["JFK"], pl.Categorical), "origin is Categorical"),
    ],
)
def test_another_dtype(column: pl.Series, told: str) -> None:
    with pytest.raises(DataError) as caught:
        check(flights((1, "JFK", 3.0)).with_columns(column), Flight)
    assert f"wrong dtype for the contract Flight: {told}" in caught.value.message
    assert f"pl.col({column.name!r}).cast(pl." in str(caught.value.remedy)


@pytest.mark.parametrize("dtype", [pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt32])
def test_smaller_numbers_are_widened(dtype: type[pl.DataType]) -> None:
    frame = flights((1, "JFK", 0.5)).cast({"id": dtype, "delay": pl.Float32})
    assert check(frame, Flight).good.schema == flights().schema


def test_a_column_of_nulls_takes_the_dtype() -> None:
    frame = flights((1, "LGA", None)).with_columns(pl.Series("delay", [None]))
    assert frame.schema["delay"] == pl.Null
    assert check(frame, Flight).good.schema == flights().schema


def test_times_must_have_their_zone() -> None:
    class Weather(dy.Schema):
        at = dy.Datetime(time_zone="UTC")

    with pytest.raises(DataError, match="at is Datetime"):
        check(pl.DataFrame({"at": [datetime(2024, 1, 1)]}), Weather)


def test_a_contract_of_another_contract() -> None:
    class Delayed(Flight):
        reason = dy.String()

    checked = check(flights((1, "x", 0.0)).with_columns(reason=pl.lit("fog")), Delayed)
    assert checked.broken[REASON].to_list() == ["origin: regex"]


def test_a_rule_over_groups() -> None:
    class Leg(dy.Schema):
        aircraft = dy.String()
        number = dy.Int64()

        @dy.rule()
        def starts_at_one(cls) -> pl.Expr:
            return pl.col("number").min().over("aircraft") == 1

    frame = pl.DataFrame({"aircraft": ["a", "b", "a", "b"], "number": [1, 2, 2, 3]})
    checked = check(frame, Leg)
    assert checked.good["aircraft"].to_list() == ["a", "a"]
    assert checked.broken[REASON].to_list() == ["starts_at_one"] * 2


def test_a_rule_that_cannot_be_computed() -> None:
    class Broken(dy.Schema):
        id = dy.Int64()

        @dy.rule()
        def nonsense(cls) -> pl.Expr:
            return pl.col("idd") > 0

    with pytest.raises(ProjectError, match="a rule of the contract Broken cannot be computed") as caught:
        check(pl.DataFrame({"id": [1]}), Broken)
    assert caught.value.remedy


@pytest.mark.parametrize("contract", [dict, Flight.columns, "Flight", {"id": pl.Int64}], ids=repr)
def test_what_is_no_contract(contract: object) -> None:
    with pytest.raises(ProjectError, match="is not a dataframely Schema") as caught:
        check_contract(contract, "flights")
    assert caught.value.node == "flights"


rows = st.tuples(
    st.none() | st.integers(0, 6),
    st.none() | st.sampled_from(["JFK", "LGA", "x", ""]),
    st.none() | st.sampled_from([0.0, -200.0, float("nan"), float("inf")]),
)


@given(st.lists(rows, max_size=12))
@settings(max_examples=60, deadline=None)
def test_good_and_broken_rows_together_are_the_given_ones(given_rows: list[tuple[int, str, float]]) -> None:
    frame = flights(*given_rows).with_row_index("row")
    checked = check(frame, Flight)
    together = pl.concat([checked.good, checked.broken.drop(REASON)]).sort("row")
    assert_frame_equal(together, frame)
    assert checked.broken[REASON].null_count() == 0
    assert (checked.broken[REASON] != "").all()
    assert check(checked.good, Flight).broken.is_empty()
    assert checked.good["row"].is_sorted() and checked.broken["row"].is_sorted()
