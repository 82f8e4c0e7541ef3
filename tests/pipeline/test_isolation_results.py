"""What isolated tasks return comes back whole: tables, batches, models."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from isolated_project import Apart, has_ended, wait_until
from polars.testing import assert_frame_equal
from polars.testing.parametric import dataframes

from envol.errors import DataError, Failure, StorageError
from envol.training import train


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    apart = Apart(tmp_path_factory.mktemp("isolated"))
    with apart.isolation:
        yield apart


def test_a_large_table_comes_back_as_it_was(apart: Apart) -> None:
    numbers = pl.select(number=pl.int_range(2_000_000)).to_series()
    frame = pl.DataFrame(
        {
            "number": numbers,
            "text": numbers.cast(pl.String),
            "category": (numbers % 3).cast(pl.String).cast(pl.Categorical),
            "instant": (numbers * 1_000_000).cast(pl.Datetime("us", "Europe/Paris")),
        }
    )
    back = apart.compute("copy", process=frame)
    assert back.schema == frame.schema
    assert back.equals(frame)


def test_every_type_of_column_comes_back_as_it_was(apart: Apart) -> None:
    frame = pl.DataFrame(
        {
            "enum": pl.Series(["low", None, "high"], dtype=pl.Enum(["low", "high"])),
            "category": pl.Series(["b", "a", None], dtype=pl.Categorical),
            "decimal": pl.Series([Decimal("1.25"), None, Decimal("-3.00")], dtype=pl.Decimal(10, 2)),
            "nothing": pl.Series([None, None, None], dtype=pl.Null),
            "struct": [{"a": 1, "b": ["x", None]}, None, {"a": None, "b": []}],
            "list": [[1, 2], None, []],
            "array": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int16, 2)),
            "instant": pl.Series([0, None, 1], dtype=pl.Datetime("ns", "America/New_York")),
            "span": [timedelta(days=1), None, timedelta(microseconds=-1)],
            "day": [date(2024, 2, 29), None, date(1, 1, 1)],
            "bytes": [b"\x00", None, b""],
            "large": pl.Series([2**100, None, -1], dtype=pl.Int128),
        }
    )
    back = apart.compute("copy", process=frame)
    assert back.schema == frame.schema
    assert_frame_equal(back, frame)


@pytest.mark.parametrize("frame", [pl.DataFrame(), pl.DataFrame({"a": [1]}).clear()])
def test_an_empty_table_keeps_its_columns(apart: Apart, frame: pl.DataFrame) -> None:
    assert_frame_equal(apart.compute("copy", process=frame), frame)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(frame=dataframes(max_cols=6, max_size=20, excluded_dtypes=[pl.Object], allow_masked=True))
def test_any_table_comes_back_as_it_was(apart: Apart, frame: pl.DataFrame) -> None:
    assert_frame_equal(apart.compute("copy", process=frame), frame, categorical_as_str=True)


def test_a_column_that_arrow_does_not_know_is_a_failed_task(apart: Apart) -> None:
    apart.how("")
    with pytest.raises(DataError, match="Object"):
        apart.compute("copy", process=pl.DataFrame({"o": [object()]}))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_told_and_no_file_stays_on_it(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", tmp_path], check=True)
    apart = Apart(tmp_path)
    try:
        with apart.isolation:
            large = pl.DataFrame({"pid": range(1_000_000)})
            with pytest.raises(StorageError, match="No space left"):
                apart.compute("copy", process=large)
            with pytest.raises(StorageError, match="No space left"):
                apart.compute("large")
            assert apart.compute("copy", process=large.head(1_000)).height == 1_000
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_batches_come_one_by_one_and_not_far_ahead(apart: Apart) -> None:
    def made() -> int:
        return int((apart.root / "made").read_text())

    batches = apart.compute("batches")
    assert next(batches)["number"].to_list() == [0, 0, 0]
    wait_until(lambda: made() == 2)
    time.sleep(0.2)
    assert made() == 2  # one is taken, one waits, and one has been made
    assert [batch["number"][0] for batch in batches] == [1, 2, 3, 4, 5]


def test_batches_that_break_off_are_a_failure(apart: Apart) -> None:
    batches = apart.compute("breaks_off")
    assert next(batches).height == 1
    with pytest.raises(Failure, match="the second page is gone"):
        next(batches)
    assert apart.pid()


def test_batches_that_nobody_wants_end_with_their_process(apart: Apart) -> None:
    before = apart.pid()
    batches = apart.compute("batches")
    next(batches)
    batches.close()
    assert has_ended(before)
    assert apart.pid() != before


def test_a_model_is_fitted_as_in_this_process(apart: Apart, capfd: pytest.CaptureFixture[str]) -> None:
    days = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(8)]
    keys = pl.DataFrame({"day": range(8)})
    features = keys.with_columns(width=pl.col("day") * 2.0, window_start=pl.Series(days))
    labels = keys.with_columns(size=pl.col("day") * 3.0, window_start=pl.Series(days))
    cutoff = datetime(2024, 1, 9, tzinfo=apart.project.calendar.zone)
    node = apart.project.graph.nodes["average"]
    notes: list[str] = []
    apart_trained = apart.isolation.train(node, features, labels, cutoff, notes.append)
    here = train(node, features, labels, cutoff=cutoff, parameters={}, progress=notes.append)
    assert apart_trained.X.equals(here.X)
    assert apart_trained.y.equals(here.y) and apart_trained.y.name == here.y.name
    assert apart_trained.estimator.mean == here.estimator.mean
    assert apart_trained.backtest == here.backtest
    assert notes[: len(notes) // 2] == notes[len(notes) // 2 :]
    assert "fitting 4" in capfd.readouterr().out
