"""The hash of a table's content."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from envol.pipeline.content import content_version

ROWS = st.lists(
    st.tuples(
        st.integers(-5, 5) | st.none(),
        st.text(max_size=3) | st.none(),
        st.floats(-2, 2).map(lambda x: x + 0.0) | st.none(),
    ),
    max_size=20,
)


def frame(rows: list[tuple[int | None, str | None, float | None]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.String, "c": pl.Float64}, orient="row")


@settings(deadline=None)
@given(rows=ROWS, chance=st.randoms(use_true_random=False))
def test_the_order_of_rows_and_columns_does_not_count(rows: list[tuple], chance) -> None:
    shuffled = rows[:]
    chance.shuffle(shuffled)
    assert content_version(frame(rows)) == content_version(frame(shuffled).select("c", "a", "b"))


@given(rows=ROWS, other=ROWS)
def test_other_rows_have_another_hash(rows: list[tuple], other: list[tuple]) -> None:
    same = sorted(map(repr, rows)) == sorted(map(repr, other))
    assert (content_version(frame(rows)) == content_version(frame(other))) == same


def test_names_and_dtypes_count() -> None:
    numbers = pl.DataFrame({"a": [1, 2]})
    versions = {
        content_version(changed)
        for changed in (
            numbers,
            numbers.rename({"a": "b"}),
            numbers.cast(pl.Int32),
            numbers.clear(),
            numbers.clear().cast(pl.Int32),
            pl.concat([numbers, numbers]),
        )
    }
    assert len(versions) == 6


def test_nested_columns_and_times_have_one_too() -> None:
    nested = pl.DataFrame(
        {
            "list": [[1, 2], []],
            "struct": [{"x": 1}, {"x": None}],
            "when": [datetime(2024, 1, 1, tzinfo=UTC), None],
            "day": [date(2024, 1, 1), None],
            "kind": pl.Series(["a", None], dtype=pl.Categorical),
        }
    )
    assert content_version(nested) == content_version(nested.reverse())
    assert content_version(nested) != content_version(nested.head(1))


def test_every_process_finds_the_same() -> None:
    code = (
        "import polars as pl; from envol.pipeline.content import content_version;"
        "print(content_version(pl.DataFrame({'a': [1, None], 'b': ['x', 'y']})))"
    )
    said = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout for _ in "ab"}
    assert said == {f"{content_version(pl.DataFrame({'a': [1, None], 'b': ['x', 'y']}))}\n"}
