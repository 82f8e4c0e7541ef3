"""The strict conversion of rows and frames to a model's inputs."""

from __future__ import annotations

import json
import math
import string
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from envol.registry import Field, Problem, Signature, UnsupportedTypeError

MIXED = Signature(
    (
        Field("stops", "Int64", nullable=True),
        Field("seats", "Int16"),
        Field("distance", "Float64"),
        Field("visibility", "Float64", nullable=True),
        Field("carrier", "String", categories=("AA", "UA")),
        Field("remark", "String", nullable=True),
        Field("night", "Boolean"),
        Field("day", "Date"),
        Field("at", "Datetime[us, UTC]", nullable=True),
    )
)
GOOD = {
    "stops": 2,
    "seats": 180,
    "distance": 1400.5,
    "visibility": None,
    "carrier": "UA",
    "remark": "",
    "night": False,
    "day": "2013-01-05",
    "at": "2013-01-05T09:30:00+01:00",
}


def problem_with(field: Field, value: Any) -> str | None:
    """What `from_rows` says of one value, the same for one row and for several."""
    signature = Signature((field,))
    _, one = signature.from_rows([{field.name: value}])
    _, two = signature.from_rows([{field.name: value}] * 2)
    assert [p.problem for p in two] == [p.problem for p in one] * 2
    assert len(one) <= 1
    return one[0].problem if one else None


def test_good_rows_become_a_frame_of_the_exact_types() -> None:
    rows = [GOOD, {**GOOD, "stops": None, "seats": 2.0, "distance": 3, "at": "2013-01-05T08:30Z"}]
    frame, problems = MIXED.from_rows(rows)
    assert problems == []
    assert dict(frame.schema) == MIXED.schema
    assert frame["stops"].to_list() == [2, None]
    assert frame["seats"].to_list() == [180, 2]
    assert frame["distance"].to_list() == [1400.5, 3.0]
    assert frame["day"].to_list() == [date(2013, 1, 5)] * 2
    assert frame["at"].to_list() == [datetime(2013, 1, 5, 8, 30, tzinfo=UTC)] * 2
    for row, one in zip(rows, frame.iter_slices(1), strict=True):
        assert_frame_equal(MIXED.from_rows([row])[0], one)


def test_order_of_the_given_names_does_not_matter_and_a_nullable_field_may_be_left_out() -> None:
    row = {name: GOOD[name] for name in reversed(GOOD) if name not in ("stops", "visibility")}
    frame, problems = MIXED.from_rows([row])
    assert problems == []
    assert frame.columns == list(MIXED.names)
    assert frame.row(0)[:4] == (None, 180, 1400.5, None)


def test_every_problem_is_named_by_row_and_field() -> None:
    rows: list[Any] = [
        GOOD,
        {**GOOD, "stops": 2.5, "carier": "UA"},
        [1, 2],
        {name: value for name, value in GOOD.items() if name != "seats"} | {"day": "5 January"},
    ]
    frame, problems = MIXED.from_rows(rows)
    assert problems == [
        Problem(1, "carier", "is not an input of the model; did you mean 'carrier'"),
        Problem(1, "stops", "2.5 is not a whole number"),
        Problem(2, "", "a list is not an object of named values"),
        Problem(3, "seats", "is missing, and it never was in training"),
        Problem(3, "day", '"5 January" is not a date such as 2013-01-05'),
    ]
    assert str(problems[1]) == "row 1, stops: 2.5 is not a whole number"
    assert frame.height == 4
    assert frame["stops"].to_list() == [2, None, None, 2]


@pytest.mark.parametrize(
    ("dtype", "value", "problem"),
    [
        ("Int64", 2.5, "2.5 is not a whole number"),
        ("Int64", "2", '"2" is text, not a number'),
        ("Int64", True, "true is not a number"),
        ("Int64", math.nan, "NaN is not a whole number"),
        ("Int64", math.inf, "Infinity is not a whole number"),
        ("Int64", 2**63, f"{2**63} is out of the range of Int64, {-(2**63)} to {2**63 - 1}"),
        ("Int64", 1e300, "is out of the range of Int64"),
        ("Int8", 128, "128 is out of the range of Int8, -128 to 127"),
        ("UInt8", -1, "-1 is out of the range of UInt8, 0 to 255"),
        ("Int64", {"a": 1}, "an object is not a number"),
        ("Float64", "2.5", '"2.5" is text, not a number'),
        ("Float64", False, "false is not a number"),
        ("Float64", math.nan, "NaN is not a finite number"),
        ("Float64", -math.inf, "-Infinity is not a finite number"),
        ("Float64", 10**400, "is out of the range of Float64"),
        ("Float64", 2**53 + 1, f"{2**53 + 1} cannot be held exactly by Float64"),
        ("Float32", 1e39, "1e+39 is out of the range of Float32"),
        ("Float32", 2**24 + 1, f"{2**24 + 1} cannot be held exactly by Float32"),
        ("String", 5, "5 is not text"),
        ("String", "x" * 99, None),
        ("Boolean", 1, "1 is not true or false"),
        ("Boolean", "true", '"true" is not true or false'),
        ("Date", "2013-02-30", '"2013-02-30" is not a date such as 2013-01-05'),
        ("Date", 20130105, "20130105 is not a date such as 2013-01-05"),
        ("Datetime[us]", "2013-01-05T09:30Z", '"2013-01-05T09:30Z" has an offset, the input has none'),
        ("Datetime[us, UTC]", "2013-01-05T09:30", '"2013-01-05T09:30" has no offset such as Z or +01:00'),
        ("Datetime[us, UTC]", "9999-12-31T23:59:59-09:00", "is out of the range of"),
        ("Datetime[us]", "noon", '"noon" is not a time such as 2013-01-05T09:30:00'),
        ("Datetime[ms]", "2013-01-05T09:30:00.123456", "is finer than a millisecond"),
        ("Datetime[ns]", "2013-01-05T09:30:00.1234567", "is finer than a microsecond"),
        ("Datetime[ns]", "2013-01-05T09:30:00.1234560", None),
        ("Datetime[ns]", "0001-01-05T09:30:00", "is out of the range of nanoseconds"),
    ],
)
def test_a_lossy_or_wrong_value_is_refused(dtype: str, value: Any, problem: str | None) -> None:
    found = problem_with(Field("a", dtype), value)
    if problem is None:
        assert found is None
    else:
        assert found is not None
        assert problem in found


@pytest.mark.parametrize(
    "dtype", ["Int64", "Float64", "String", "Boolean", "Date", "Datetime[us]", "Datetime[ns, Europe/Paris]"]
)
def test_missing_values_only_where_training_had_them(dtype: str) -> None:
    assert problem_with(Field("a", dtype), None) == "is missing, and it never was in training"
    assert problem_with(Field("a", dtype, nullable=True), None) is None
    column = pl.DataFrame({"a": [None, None]}, schema={"a": Field("a", dtype).polars})
    _, problems = Signature((Field("a", dtype),)).conform(column)
    assert problems == [Problem(row, "a", "is missing, and it never was in training") for row in (0, 1)]
    conformed, problems = Signature((Field("a", dtype, nullable=True),)).conform(column)
    assert problems == []
    assert_frame_equal(conformed, column)


def test_an_unknown_category_is_refused_and_the_known_ones_are_listed() -> None:
    field = Field("carrier", "String", categories=tuple(string.ascii_uppercase))
    problem = problem_with(field, "AA")
    assert problem is not None
    assert problem.startswith('"AA" was never seen in training; known are "A", "B", "C"')
    assert problem.endswith("and 16 more")
    frame = pl.DataFrame({"carrier": ["A", "AA"]})
    assert Signature((field,)).conform(frame)[1] == [Problem(1, "carrier", problem)]


def test_the_signature_of_training_inputs() -> None:
    X = pl.DataFrame(
        {
            "whole": [1, None, 3],
            "full": [1, 2, 3],
            "number": [1.0, math.nan, 3.0],
            "gap": [1.0, None, 3.0],
            "either": [None, math.nan, 3.0],
            "dense": [1.0, 2.0, 3.0],
            "text": ["b", "a", None],
            "grade": pl.Series(["low", "high", "low"], dtype=pl.Enum(["low", "high"])),
            "at": pl.Series([datetime(2013, 1, 1)] * 3, dtype=pl.Datetime("ms", "Europe/Paris")),
        }
    )
    signature = Signature.infer(X)
    assert signature.fields == (
        Field("whole", "Int64", nullable=True),
        Field("full", "Int64"),
        Field("number", "Float64", nullable=True, missing="nan"),
        Field("gap", "Float64", nullable=True),
        Field("either", "Float64", nullable=True, missing="both"),
        Field("dense", "Float64"),
        Field("text", "String", nullable=True, categories=("a", "b")),
        Field("grade", "Enum", categories=("low", "high")),
        Field("at", "Datetime[ms, Europe/Paris]"),
    )
    assert dict(X.schema) == signature.schema
    conformed, problems = signature.conform(X)
    assert problems == []
    assert_frame_equal(conformed, X)
    assert Signature.infer(X, closed_categories=False).fields[6].categories is None


def test_a_missing_float_is_given_to_the_model_as_it_was_in_training() -> None:
    signature = Signature(
        (Field("nan", "Float64", nullable=True, missing="nan"), Field("null", "Float64", nullable=True))
    )
    frame, problems = signature.from_rows([{"nan": None, "null": None}])
    assert problems == []
    assert math.isnan(frame["nan"][0])
    assert frame["null"][0] is None
    given_frame = pl.DataFrame({"nan": [None, math.nan], "null": [None, math.nan]}, strict=False)
    frame, problems = signature.conform(given_frame)
    assert problems == []
    assert frame["nan"].is_nan().all()
    assert frame["null"].null_count() == 2


def test_more_than_a_thousand_texts_are_no_categories() -> None:
    texts = [f"N{number}" for number in range(1001)]
    assert Signature.infer(pl.DataFrame({"tail": texts})).fields[0].categories is None
    assert len(Signature.infer(pl.DataFrame({"tail": [*texts[1:], None]})).fields[0].categories or ()) == 1000


def test_a_type_that_no_model_takes_is_refused() -> None:
    with pytest.raises(UnsupportedTypeError, match=r"the input 'legs' is List\(Int64\)"):
        Signature.infer(pl.DataFrame({"legs": [[1, 2]]}))


def test_a_frame_of_narrower_types_in_another_order_conforms() -> None:
    frame = MIXED.from_rows([GOOD])[0]
    narrow = frame.select(
        pl.col("at").cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone("Europe/Paris"),
        pl.col("day").cast(pl.Datetime("us")),
        "night",
        pl.col("carrier").cast(pl.Categorical),
        pl.lit(None).alias("visibility"),
        pl.col("distance").cast(pl.Float32),
        pl.col("seats").cast(pl.Float64),
        pl.col("stops").cast(pl.Int8),
        "remark",
    )
    conformed, problems = MIXED.conform(narrow)
    assert problems == []
    assert_frame_equal(conformed, frame)


def test_wrong_columns_and_values_of_a_frame() -> None:
    frame = pl.DataFrame(
        {
            "stops": [1.0, 2.5, math.nan],
            "seats": [1, 40000, 3],
            "distance": [1.0, math.nan, None],
            "visibility": ["1", "2", "3"],
            "carrier": ["AA", "ua", "UA"],
            "night": [True, False, None],
            "day": [datetime(2013, 1, 5), datetime(2013, 1, 5, 9), None],
            "att": [None, None, None],
        }
    )
    conformed, problems = MIXED.conform(frame)
    missing = "is missing, and it never was in training"
    assert problems == [
        Problem(-1, "att", "is not an input of the model; did you mean 'at'"),
        Problem(1, "stops", "2.5 is not a whole number"),
        Problem(2, "stops", "NaN is not a whole number"),
        Problem(1, "seats", "40000 is out of the range of Int16, -32768 to 32767"),
        Problem(1, "distance", missing),
        Problem(2, "distance", missing),
        Problem(-1, "visibility", "the column is String, not Float64"),
        Problem(1, "carrier", '"ua" was never seen in training; known are "AA", "UA"'),
        Problem(2, "night", missing),
        Problem(1, "day", "2013-01-05T09:00:00 cannot be held exactly by Date"),
        Problem(2, "day", missing),
    ]
    assert dict(conformed.schema) == MIXED.schema
    assert conformed["carrier"].to_list() == ["AA", None, "UA"]
    assert MIXED.conform(frame.select("night"))[1][0] == Problem(-1, "seats", "the column is missing")


def test_twenty_problems_of_a_field_are_enough() -> None:
    signature = Signature((Field("a", "Int64"),))
    assert len(signature.conform(pl.DataFrame({"a": [0.5] * 1000}))[1]) == 20


def test_no_rows_and_no_fields() -> None:
    frame, problems = MIXED.from_rows([])
    assert (frame.height, dict(frame.schema), problems) == (0, MIXED.schema, [])
    assert Signature(()).from_rows([{}, {}])[0].height == 2
    assert Signature(()).from_rows([{"a": 1}])[1] == [Problem(0, "a", "is not an input of the model")]


NUMBERS = st.sampled_from(["Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"])
OTHERS = st.sampled_from(
    ["Float32", "Float64", "String", "Categorical", "Boolean", "Date", "Datetime[us]", "Datetime[ms, UTC]"]
)
TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1))


def values(field: Field) -> st.SearchStrategy[Any]:
    """Values of a field as a frame holds them."""
    if "Int" in field.dtype:
        bits = int(field.dtype.partition("Int")[2])
        low = 0 if field.dtype.startswith("U") else -(2 ** (bits - 1))
        found: st.SearchStrategy[Any] = st.integers(low, low + 2**bits - 1)
    elif field.dtype.startswith("Float"):
        found = st.floats(allow_nan=False, allow_infinity=False, width=32 if field.dtype == "Float32" else 64)
    elif field.dtype in ("String", "Categorical"):
        found = st.sampled_from(field.categories) if field.categories else st.text(max_size=5)
    elif field.dtype == "Boolean":
        found = st.booleans()
    elif field.dtype == "Date":
        found = st.dates()
    elif field.dtype == "Datetime[us]":
        found = TIMES
    else:
        found = TIMES.map(lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000, tzinfo=UTC))
    return st.none() | found if field.nullable else found


@st.composite
def tables(draw: st.DrawFn) -> tuple[Signature, list[dict[str, Any]]]:
    """A signature, and rows that conform to it."""
    names = draw(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=5, unique=True))
    fields = []
    for name in names:
        dtype = draw(NUMBERS | OTHERS)
        closed = dtype in ("String", "Categorical") and draw(st.booleans())
        fields.append(Field(name, dtype, draw(st.booleans()), ("a", "b", "ü") if closed else None))
    row = st.fixed_dictionaries({field.name: values(field) for field in fields})
    return Signature(tuple(fields)), draw(st.lists(row, max_size=4))


def as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


@settings(max_examples=150, deadline=None)
@given(tables())
def test_rows_and_frames_give_the_same(table: tuple[Signature, list[dict[str, Any]]]) -> None:
    signature, rows = table
    frame = pl.DataFrame(rows, schema=signature.schema)
    conformed, problems = signature.conform(frame)
    assert problems == []
    assert_frame_equal(conformed, frame)
    text = json.dumps([{name: as_json(value) for name, value in row.items()} for row in rows])
    from_rows, problems = signature.from_rows(json.loads(text))
    assert problems == []
    assert_frame_equal(from_rows, frame)


@settings(max_examples=100, deadline=None)
@given(tables())
def test_a_signature_survives_json_and_what_it_was_inferred_from_conforms(
    table: tuple[Signature, list[dict[str, Any]]],
) -> None:
    signature, rows = table
    assert Signature.from_json(signature.to_json()) == signature
    frame = pl.DataFrame(rows, schema=signature.schema)
    inferred = Signature.infer(frame)
    assert Signature.from_json(inferred.to_json()) == inferred
    conformed, problems = inferred.conform(frame)
    assert problems == []
    assert_frame_equal(conformed, frame)


JSON = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.lists(st.integers(), max_size=2)
    | st.sampled_from(["2013-01-05", "2013-01-05T09:30Z", "2013-01-05T09:30:00.1234567", 2**63, -1, 300, 2.0])
)


@settings(max_examples=200, deadline=None)
@given(NUMBERS | OTHERS, st.booleans(), st.lists(JSON, min_size=1, max_size=3))
def test_any_json_is_taken_whole_or_refused(dtype: str, nullable: bool, given_values: list[Any]) -> None:
    signature = Signature((Field("a", dtype, nullable),))
    frame, problems = signature.from_rows([{"a": value} for value in given_values])
    refused = {problem.row for problem in problems}
    for row, (given_value, value) in enumerate(zip(given_values, frame["a"].to_list(), strict=True)):
        if row in refused or given_value is None:
            assert value is None
            assert row in refused or nullable
        elif isinstance(given_value, float) and dtype == "Float32":
            assert value == pytest.approx(given_value, rel=1e-6, abs=1e-44)
        elif "Date" not in dtype:
            assert value == given_value
            assert isinstance(value, bool) == isinstance(given_value, bool)
    assert signature.conform(frame)[1] == [] or not nullable


def test_an_offset_is_the_same_instant() -> None:
    signature = Signature((Field("at", "Datetime[us, Europe/Paris]"),))
    instant = datetime(2013, 7, 5, 9, 30, tzinfo=timezone(timedelta(hours=-5)))
    frame, problems = signature.from_rows([{"at": instant.isoformat()}])
    assert problems == []
    assert frame["at"][0] == instant
