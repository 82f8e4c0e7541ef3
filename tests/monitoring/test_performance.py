"""How good stored predictions were, on outcomes of a real run."""

from __future__ import annotations

from pathlib import Path

import pytest
from sklearn.metrics import mean_absolute_error, roc_auc_score
from small_project import SmallProject

import envol
from envol.errors import NotFoundError

SOURCES = """
@source(every="1d")
def days(window: Window) -> pl.DataFrame:
    day = window.start.timetuple().tm_yday
    frame = pl.DataFrame({"id": range(day * 100, day * 100 + 20)})
    return frame.with_columns(x=(pl.col("id") * 7919 % 101).cast(pl.Float64))


@source(every="1d", delay="1d")
def truths(window: Window) -> pl.DataFrame:
    noise = pl.col("id") * 104729 % 61
    return days(window).select("id", y=TRUTH)
"""
MODEL = """
@model(features="days", labels="truths", key="id", target="y", train="20d", every="60d", folds=1, test="5d",
       promote="auto")
def guess(X: pl.DataFrame, y: pl.Series):
    from sklearn.linear_model import ESTIMATOR

    return ESTIMATOR().fit(X, y)
"""


def ran(root: Path, truth: str, estimator: str, until: str) -> envol.Connection:
    module = SOURCES.replace("TRUTH", truth) + MODEL.replace("ESTIMATOR", estimator)
    small = SmallProject(root / "small").write(module)
    small.run(until)
    return envol.connect(small.root)


def test_a_classifier_by_month_and_in_all(tmp_path: Path) -> None:
    with ran(tmp_path, 'pl.col("x") + noise > 80', "LogisticRegression", "2024-02-12") as connection:
        found = connection.performance("guess")
        outcomes = connection.table("guess_outcomes")
    assert found is not None
    assert list(found.months) == ["2024-01", "2024-02"]
    assert found.windows == outcomes["window_start"].n_unique() == 21
    assert [metrics.rows for metrics in found.months.values()] == [11 * 20, 10 * 20]
    area = found.overall["roc_auc"]
    assert area.value == pytest.approx(roc_auc_score(outcomes["y"], outcomes["probability"]))
    assert area.low is not None and area.high is not None and area.low < area.value < area.high


def test_a_regressor(tmp_path: Path) -> None:
    with ran(tmp_path, 'pl.col("x") * 2 + noise / 10', "LinearRegression", "2024-02-01") as connection:
        found = connection.performance("guess")
        outcomes = connection.table("guess_outcomes")
    assert found is not None
    expected = mean_absolute_error(outcomes["y"], outcomes["prediction"])
    assert found.overall["mae"].value == pytest.approx(expected)


def test_before_outcomes_there_is_none_and_a_wrong_name_is_told(tmp_path: Path) -> None:
    with ran(tmp_path, 'pl.col("x") > 50', "LogisticRegression", "2024-01-10") as connection:
        assert connection.performance("guess") is None
        with pytest.raises(NotFoundError, match="'gess'"):
            connection.performance("gess")
