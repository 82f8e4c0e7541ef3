"""Metrics against scikit-learn's, with weights, ties and degenerate rows."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from envol.errors import DataError
from envol.training import Metrics, evaluate
from envol.training.scores import BinaryScores, MulticlassScores, RegressionScores

RANDOM = np.random.default_rng(7)


def binary_rows(rows: int = 3000, ties: bool = False) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    probability = RANDOM.random(rows)
    if ties:
        probability = probability.round(1)
    return RANDOM.random(rows) < probability**2, probability


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_scores_equal_scikit_learns(ties: bool, weighted: bool) -> None:
    y, p = binary_rows(ties=ties)
    weights = RANDOM.integers(0, 4, len(y)).astype(float) if weighted else np.ones(len(y))
    scores = BinaryScores(y, p, p > 0.5)
    ours = scores(weights[scores.order])
    theirs = {
        "roc_auc": reference.roc_auc_score(y, p, sample_weight=weights),
        "average_precision": reference.average_precision_score(y, p, sample_weight=weights),
        "brier": reference.brier_score_loss(y, p, sample_weight=weights),
        "log_loss": reference.log_loss(y, p, sample_weight=weights),
        "accuracy": reference.accuracy_score(y, p > 0.5, sample_weight=weights),
        "base_rate": np.average(y, weights=weights),
    }
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("weighted", [False, True])
def test_multiclass_scores_equal_scikit_learns(weighted: bool) -> None:
    rows, classes = 2000, 4
    probability = RANDOM.dirichlet(np.ones(classes), rows)
    truth = np.array([RANDOM.choice(classes, p=p) for p in probability])
    decided = probability.argmax(1)
    weights = RANDOM.integers(0, 4, rows).astype(float) if weighted else np.ones(rows)
    ours = MulticlassScores(truth, probability, decided)(weights)
    assert ours == pytest.approx(
        {
            "accuracy": reference.accuracy_score(truth, decided, sample_weight=weights),
            "macro_f1": reference.f1_score(truth, decided, average="macro", sample_weight=weights),
            "log_loss": reference.log_loss(truth, probability, sample_weight=weights),
            "roc_auc": reference.roc_auc_score(
                truth, probability, multi_class="ovr", average="macro", sample_weight=weights
            ),
        },
        abs=1e-12,
    )


@pytest.mark.parametrize("rows", [1001, 1002])
def test_regression_scores_equal_scikit_learns(rows: int) -> None:
    y = RANDOM.normal(1e6, 20, rows)  # far from zero: squares must not cancel
    prediction = y + RANDOM.normal(1, 10, rows)
    ours = RegressionScores(y, prediction)(np.ones(rows))
    assert ours == pytest.approx(
        {
            "mae": reference.mean_absolute_error(y, prediction),
            "rmse": reference.root_mean_squared_error(y, prediction),
            "r2": reference.r2_score(y, prediction),
            "bias": np.mean(prediction - y),
            "median_ae": reference.median_absolute_error(y, prediction),
        },
        rel=1e-9,
    )
    weights = RANDOM.integers(0, 4, rows).astype(float)
    scores = RegressionScores(y, prediction)
    weighted, repeated = (
        scores(weights[scores.order]),
        np.repeat(np.arange(rows), weights.astype(int)),
    )
    assert weighted["r2"] == pytest.approx(reference.r2_score(y, prediction, sample_weight=weights), rel=1e-9)
    assert weighted["median_ae"] == pytest.approx(np.median(np.abs(prediction - y)[repeated]))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=40).filter(
        lambda rows: sum(weight for _, _, weight in rows) > 0
    )
)
def test_weights_mean_repeated_rows(rows: list[tuple[bool, int, int]]) -> None:
    y, p, weights = (np.array(column) for column in zip(*rows, strict=True))
    p = p / 6
    scores = BinaryScores(y, p, p > 0.5)
    weighted = scores(weights[scores.order].astype(float))
    again = np.repeat(np.arange(len(y)), weights)
    repeated = BinaryScores(y[again], p[again], (p > 0.5)[again])(np.ones(len(again)))
    for name in ("roc_auc", "average_precision", "brier", "log_loss", "lift_at_10", "accuracy"):
        assert weighted[name] == pytest.approx(repeated[name], nan_ok=True), name


def test_lift_is_the_rate_of_the_riskiest_tenth_over_the_base_rate() -> None:
    p = np.linspace(0, 1, 1000)
    y = RANDOM.random(1000) < p
    assert evaluate("binary", pl.Series(y), pl.Series(p), seed=0)["lift_at_10"].value == pytest.approx(
        y[-100:].mean() / y.mean()
    )
    same = evaluate("binary", pl.Series(y), pl.Series(np.full(1000, 0.3)), seed=0)
    assert same["lift_at_10"].value == pytest.approx(1)


def test_calibration_is_by_tenths_and_its_error_their_mean_gap() -> None:
    y, p = binary_rows(5000)
    found = evaluate("binary", pl.Series(y), pl.Series(p), seed=0)
    order = np.argsort(p)
    assert [each.count for each in found.calibration] == [500] * 10
    for each, rows in zip(found.calibration, np.split(order, 10), strict=True):
        assert (each.predicted, each.observed) == (
            pytest.approx(p[rows].mean()),
            pytest.approx(y[rows].mean()),
        )
    gaps = [abs(each.predicted - each.observed) for each in found.calibration]
    assert found["ece"].value == pytest.approx(sum(gaps) / 10)


def test_rows_of_equal_prediction_share_a_bin() -> None:
    found = evaluate("binary", pl.Series([True, False] * 50), pl.Series([0.2] * 60 + [0.9] * 40), seed=0)
    assert [each.count for each in found.calibration] == [60, 40]


def test_clustered_rows_have_wider_intervals_than_independent_ones() -> None:
    days = np.repeat(np.arange(40), 50)
    bad = RANDOM.random(40) < 0.3
    y = np.where(bad[days], RANDOM.random(2000) < 0.8, RANDOM.random(2000) < 0.1)
    p = np.full(2000, 0.3)
    by_rows = evaluate("binary", pl.Series(y), pl.Series(p), seed=0)["base_rate"]
    by_days = evaluate("binary", pl.Series(y), pl.Series(p), seed=0, windows=pl.Series(days))["base_rate"]
    assert by_rows.value == by_days.value
    assert by_rows.low and by_rows.high and by_days.low and by_days.high
    assert by_days.high - by_days.low > 3 * (by_rows.high - by_rows.low)


def test_an_interval_of_rows_is_as_wide_as_the_theory_says() -> None:
    y = RANDOM.random(4000) < 0.2
    found = evaluate("binary", pl.Series(y), pl.Series(np.full(4000, 0.2)), seed=3, resamples=1000)[
        "base_rate"
    ]
    assert found.low is not None and found.high is not None
    assert found.high - found.low == pytest.approx(2 * 1.645 * math.sqrt(0.16 / 4000), rel=0.15)


def test_the_seed_decides_the_resamples() -> None:
    y, p = binary_rows(500)
    first, second, other = (evaluate("binary", pl.Series(y), pl.Series(p), seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert first["roc_auc"].low != other["roc_auc"].low


@pytest.mark.parametrize("only", [True, False])
def test_one_class_leaves_ranking_undefined(only: bool) -> None:
    found = evaluate("binary", pl.Series([only] * 20), pl.Series(np.linspace(0.1, 0.9, 20)), seed=0)
    assert found["roc_auc"].value is None
    assert found["brier"].value is not None
    assert (found["base_rate"].value, found["lift_at_10"].value) == (
        (1, pytest.approx(1)) if only else (0, None)
    )


def test_rows_without_spread_leave_r2_undefined_and_no_rows_leave_all() -> None:
    assert evaluate("regression", pl.Series([2.0] * 5), pl.Series([1.0] * 5), seed=0)["r2"].value is None
    empty = evaluate("regression", pl.Series([], dtype=pl.Float64), pl.Series([], dtype=pl.Float64), seed=0)
    assert empty.rows == 0 and all(metric.value is None for metric in empty.values.values())


def test_metrics_survive_strict_json() -> None:
    for found in (
        evaluate("binary", pl.Series([True] * 4), pl.Series([0.1, 0.5, 0.6, 0.7]), seed=0),
        evaluate("regression", pl.Series([1.0, 2.0, 4.0]), pl.Series([1.0, 2.5, 3.0]), seed=0),
    ):
        assert Metrics.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


def test_a_class_the_model_never_saw_counts_as_missed() -> None:
    predicted = pl.DataFrame(
        {"prediction": ["a", "b", "a"], "probability_a": [0.9, 0.2, 0.6], "probability_b": [0.1, 0.8, 0.4]}
    )
    found = evaluate("multiclass", pl.Series(["a", "b", "c"]), predicted, seed=0, classes=["a", "b"])
    assert found["accuracy"].value == pytest.approx(2 / 3)
    assert found["log_loss"].value is not None and found["log_loss"].value > 10


def test_integer_and_text_labels_take_the_second_class_as_positive() -> None:
    p = pl.Series([0.1, 0.9, 0.8, 0.3])
    assert evaluate("binary", pl.Series([0, 1, 1, 0]), p, seed=0)["roc_auc"].value == 1
    assert evaluate("binary", pl.Series(["late", "early"] * 2), p, seed=0, classes=["early", "late"])[
        "base_rate"
    ].value == pytest.approx(0.5)
    assert evaluate("binary", pl.Series([1, 1, 1, 1]), p, seed=0)["base_rate"].value == 1


@pytest.mark.parametrize(
    ("y", "prediction", "message"),
    [
        ([True, False], [0.5], "2 true values and 1 predictions"),
        ([True, None], [0.5, 0.1], "1 of 2 values of 'the truth' are missing"),
        ([True, False], [0.5, math.nan], "1 of 2 values of 'probability' are missing"),
        ([1, 2, 3], [0.1, 0.2, 0.3], "two classes, and these rows have 1, 2, 3"),
    ],
)
def test_rows_that_cannot_be_compared_are_refused(
    y: list[Any], prediction: list[float], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        evaluate("binary", pl.Series(y), pl.Series(prediction), seed=0)
