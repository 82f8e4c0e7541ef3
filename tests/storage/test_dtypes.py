"""Whatever was written reads back equal, whatever its dtype."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from envol.project.windows import Calendar, Period
from envol.storage import Lake

WINDOW = Calendar("UTC").window_at(Period.DAY, datetime(2013, 1, 1, tzinfo=UTC))
INTEGERS = [(pl.Int8, 7), (pl.Int16, 15), (pl.Int32, 31), (pl.Int64, 63)]
NATURALS = [(pl.UInt8, 8), (pl.UInt16, 16), (pl.UInt32, 32), (pl.UInt64, 64)]
SOME_YEARS = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1))
ANY_YEARS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))
SPANS = st.timedeltas(timedelta(days=-20_000), timedelta(days=20_000))
ZONES = st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Asia/Kathmandu"])


def whole(unit: str, value: Any) -> Any:
    """The instant or span, cut to milliseconds where that is the unit."""
    return value - timedelta(microseconds=value.microsecond % 1000) if unit == "ms" else value


def span(unit: str, value: timedelta) -> timedelta:
    return timedelta(milliseconds=value // timedelta(milliseconds=1)) if unit == "ms" else value


def leaves() -> st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]]:
    """A dtype with values of it."""
    simple: list[tuple[Any, st.SearchStrategy[Any]]] = [
        (pl.Float64, st.floats()),
        (pl.Float32, st.floats(width=32)),
        (pl.Boolean, st.booleans()),
        (pl.String, st.text(max_size=12)),
        (pl.Binary, st.binary(max_size=12)),
        (pl.Date, st.dates(date(1, 1, 1), date(9999, 12, 31))),
        (pl.Time, st.times()),
        (pl.Decimal(12, 3), st.decimals(-(10**8), 10**8, places=3)),
        (pl.Decimal(38, 0), st.integers(-(10**37), 10**37).map(Decimal)),
    ]
    simple += [(dtype, st.integers(-(2**bits), 2**bits - 1)) for dtype, bits in INTEGERS]
    simple += [(dtype, st.integers(0, 2**bits - 1)) for dtype, bits in NATURALS]
    for unit, years in (("ms", ANY_YEARS), ("us", ANY_YEARS), ("ns", SOME_YEARS)):
        simple.append((pl.Datetime(unit), years.map(lambda value, unit=unit: whole(unit, value))))
    return st.sampled_from(simple)


def nested() -> st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]]:
    def wrap(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        lists = inner.map(lambda pair: (pl.List(pair[0]), st.lists(st.none() | pair[1], max_size=3)))
        structs = st.lists(inner, min_size=1, max_size=3).map(
            lambda pairs: (
                pl.Struct({f"f{number}": pair[0] for number, pair in enumerate(pairs)}),
                st.fixed_dictionaries({f"f{n}": st.none() | pair[1] for n, pair in enumerate(pairs)}),
            )
        )
        return lists | structs

    return wrap(leaves() | wrap(leaves()))


def zoned() -> st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]]:
    pairs = st.tuples(st.sampled_from(["ms", "us", "ns"]), ZONES)
    return pairs.map(
        lambda pair: (
            pl.Datetime(*pair),
            SOME_YEARS.map(lambda value: whole(pair[0], value.replace(tzinfo=UTC))),
        )
    )


def durations() -> st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]]:
    return st.sampled_from(["ms", "us", "ns"]).map(
        lambda unit: (pl.Duration(unit), SPANS.map(lambda value: span(unit, value)))
    )


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.integers(0, 6))
    columns = []
    for number in range(draw(st.integers(1, 5))):
        dtype, values = draw(leaves() | nested() | zoned() | durations())
        cells = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        columns.append(pl.Series(f"c{number}", cells, dtype=dtype, strict=True))
    return pl.DataFrame(columns)


@pytest.fixture(scope="module")
def shared() -> Iterator[Lake]:
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        yield lake
        lake.close()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(frame=frames())
def test_whatever_was_written_reads_back_equal(shared: Lake, frame: pl.DataFrame) -> None:
    names = {table.name for table in shared.tables()}
    if "t" in names:
        shared.drop("t")
    shared.replace({"t": frame}, WINDOW, node="t", fingerprint="f")
    for found in (
        shared.read("t"),
        shared.scan("t").collect(),
        shared.read("t", snapshot=shared.latest_snapshot()),
    ):
        assert_frame_equal(found.drop("window_start"), frame, check_exact=True)
    for changed in (
        frame.select(reversed(frame.columns)),
        frame.select(frame.columns[:1], added=pl.lit(1)),
    ):
        commit = shared.replace({"t": changed}, WINDOW, node="t", fingerprint="f")
        found = shared.read("t")
        assert_frame_equal(commit.stored["t"], found, check_exact=True)
        assert_frame_equal(
            found.select(changed.columns),
            changed.with_columns(pl.col("^added$").cast(pl.Int32)),
            check_exact=True,
        )


@pytest.mark.parametrize(
    ("given_series", "expected"),
    [
        (pl.Series(["b", "a", None], dtype=pl.Categorical), pl.Series(["b", "a", None])),
        (pl.Series(["b", "a"], dtype=pl.Enum(["b", "a"])), pl.Series(["b", "a"])),
        (pl.Series([[1, 2], None], dtype=pl.Array(pl.Int64, 2)), pl.Series([[1, 2], None])),
        (pl.Series([["b"]], dtype=pl.List(pl.Categorical)), pl.Series([["b"]])),
        (pl.Series([time(1, 2, 3, 4)]), pl.Series([time(1, 2, 3, 4)])),
        (pl.Series([float("nan"), -0.0, float("inf")]), pl.Series([float("nan"), -0.0, float("inf")])),
    ],
)
def test_other_dtypes_read_back_as_documented(
    shared: Lake, given_series: pl.Series, expected: pl.Series
) -> None:
    table = f"t_{given_series.dtype.base_type()}_{given_series.len()}"
    commit = shared.replace({table: pl.DataFrame({"x": given_series})}, WINDOW, node="t", fingerprint="f")
    assert_frame_equal(shared.read(table, columns=["x"]).drop("window_start"), pl.DataFrame({"x": expected}))
    assert_frame_equal(commit.stored[table].drop("window_start"), pl.DataFrame({"x": expected}))
