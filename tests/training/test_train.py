"""Training real scikit-learn models on real-ish rows: what comes out, and that it never looks ahead."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from threadpoolctl import threadpool_info

from envol.project.nodes import Model
from envol.training import Backtest, Trained, backtest, predict_frame, train

Tables = tuple[pl.DataFrame, pl.DataFrame]
Declare = Callable[..., Model]


def boosted(estimator: Any) -> Any:
    encoded = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["carrier"]), remainder="passthrough"
    )
    return make_pipeline(encoded, estimator)


def small_boosting(**settings: Any) -> Any:
    return boosted(HistGradientBoostingClassifier(max_iter=15, max_leaf_nodes=7, **settings))


def delay_risk(X: pl.DataFrame, y: pl.Series) -> Any:
    return small_boosting(random_state=0).fit(X, y)


def of_pandas(X: pd.DataFrame, y: pd.Series) -> Any:
    assert isinstance(X, pd.DataFrame) and isinstance(y, pd.Series)
    return small_boosting(random_state=0).fit(X, y)


def of_arrow(X: pa.Table, y: np.ndarray) -> Any:
    assert isinstance(X, pa.Table) and isinstance(y, np.ndarray)
    return FromArrow().fit(X, y)


def of_numpy(X: np.ndarray, y: np.ndarray) -> Any:
    assert X.dtype == np.float64 and isinstance(y, np.ndarray)
    return HistGradientBoostingClassifier(max_iter=15, random_state=0).fit(X, y)


def of_lazy(X: pl.LazyFrame, y: pl.Series) -> Any:
    return small_boosting(random_state=0).fit(X.collect(), y)


def of_minutes(X: pl.DataFrame, y: pl.Series) -> Any:
    return boosted(HistGradientBoostingRegressor(max_iter=15, random_state=0)).fit(X, y)


class FromArrow:
    """An estimator of arrow tables."""

    def fit(self, X: pa.Table, y: np.ndarray) -> FromArrow:
        self._model = HistGradientBoostingClassifier(max_iter=15, random_state=0).fit(self._numbers(X), y)
        self.classes_ = self._model.classes_
        return self

    def predict(self, X: pa.Table) -> np.ndarray:
        return np.asarray(self._model.predict(self._numbers(X)))

    def predict_proba(self, X: pa.Table) -> np.ndarray:
        return np.asarray(self._model.predict_proba(self._numbers(X)))

    @staticmethod
    def _numbers(X: pa.Table) -> np.ndarray:
        assert isinstance(X, pa.Table)
        return X.select(["hour", "wind"]).to_pandas().to_numpy()


@pytest.fixture(scope="module")
def trained(declared: Declare, flights: Tables, cutoff: datetime) -> Trained:
    return train(declared(delay_risk), *flights, cutoff=cutoff, parameters={})


def predicted(trained: Trained, X: pl.DataFrame) -> pl.DataFrame:
    return predict_frame(trained.estimator, trained.task, trained.classes, X, trained.frame_kind)


def test_a_binary_model_is_trained_on_its_span_and_beats_the_base_rate(
    trained: Trained, flights: Tables, cutoff: datetime
) -> None:
    assert (trained.task, trained.classes, trained.frame_kind) == ("binary", [False, True], "polars")
    assert trained.X.columns == ["hour", "wind", "carrier"]
    assert len(trained.X) == len(trained.y) == 60 * 20
    assert trained.start == cutoff - timedelta(days=60)
    tested = trained.backtest
    assert [(fold.number, fold.end - fold.start) for fold in tested.folds] == [
        (number, timedelta(days=10)) for number in (1, 2, 3)
    ]
    assert tested.folds[-1].end == cutoff
    assert [fold.train_rows for fold in tested.folds] == [1200] * 3
    assert tested.model and tested.baseline and tested.beats_baseline
    assert tested.model.rows == sum(fold.rows for fold in tested.folds) == 600
    assert 0.75 < (tested.model["roc_auc"].value or 0) < 0.9
    assert tested.baseline["brier"].value == pytest.approx(0.22, abs=0.03)
    assert "is above 0.5" in tested.verdict
    assert predicted(trained, trained.X).schema == {"prediction": pl.Boolean, "probability": pl.Float64}


def test_the_same_seed_gives_the_same_model_and_metrics(
    declared: Declare, flights: Tables, cutoff: datetime
) -> None:
    def forest(X: pl.DataFrame, y: pl.Series) -> Any:  # takes its numbers from numpy's global generator
        return boosted(RandomForestClassifier(5)).fit(X.with_columns(pl.col("wind").fill_null(0)), y)

    def run(seed: int, shuffle: bool = False) -> tuple[pl.DataFrame, Backtest]:
        features, labels = flights
        features = features.with_columns(pl.col("wind").fill_null(0))
        if shuffle:  # the lake may give rows of a window in any order
            features, labels = features.sample(fraction=1, shuffle=True), labels.reverse()
        found = train(declared(forest, folds=1, seed=seed), features, labels, cutoff=cutoff, parameters={})
        return predicted(found, found.X), found.backtest

    first, again, shuffled, other = run(3), run(3), run(3, shuffle=True), run(4)
    assert first[0].equals(again[0]) and first[1] == again[1]
    assert first[0].equals(shuffled[0]) and first[1] == shuffled[1]
    assert not first[0].equals(other[0])


def test_global_generators_are_left_as_they_were(
    declared: Declare, flights: Tables, cutoff: datetime
) -> None:
    random.seed(11)
    np.random.seed(11)
    expected = random.Random(11).random(), np.random.RandomState(11).random()
    train(declared(delay_risk, folds=1), *flights, cutoff=cutoff, parameters={})
    assert (random.random(), np.random.random()) == expected


def test_a_seed_parameter_gets_the_nodes_seed_unless_configured(
    declared: Declare, flights: Tables, cutoff: datetime
) -> None:
    seen = []

    def remembers(X: pl.DataFrame, y: pl.Series, depth: int, random_state: int | None = None) -> Any:
        seen.append((depth, random_state))
        return small_boosting(max_depth=depth).fit(X, y)

    node = declared(remembers, folds=0, seed=9)
    for parameters in ({"depth": 2}, {"depth": 3, "random_state": None}, {"depth": 2, "random_state": 5}):
        train(node, *flights, cutoff=cutoff, parameters=parameters)
    assert seen == [(2, 9), (3, 9), (2, 5)]


@pytest.mark.parametrize(
    ("function", "kind", "exclude"),
    [
        (of_pandas, "pandas", ()),
        (of_arrow, "arrow", ()),
        (of_numpy, "numpy", ("carrier",)),
        (of_lazy, "polars", ()),
    ],
)
def test_the_function_gets_the_frames_it_asks_for(
    function: Any, kind: str, exclude: tuple[str, ...], declared: Declare, flights: Tables, cutoff: datetime
) -> None:
    found = train(declared(function, folds=1, exclude=exclude), *flights, cutoff=cutoff, parameters={})
    assert found.frame_kind == kind
    assert found.backtest.model and (found.backtest.model["roc_auc"].value or 0) > 0.7
    assert predicted(found, found.X.head(3)).height == 3


def test_regression_and_its_mean_baseline(declared: Declare, flights: Tables, cutoff: datetime) -> None:
    found = train(declared(of_minutes, target="minutes"), *flights, cutoff=cutoff, parameters={})
    assert (found.task, found.classes, found.y.dtype) == ("regression", None, pl.Float64)
    tested = found.backtest
    assert tested.model and tested.baseline and tested.gain and tested.beats_baseline
    assert (tested.model["r2"].value or 0) > 0.5 > (tested.baseline["r2"].value or 0)
    assert tested.gain.value == pytest.approx(
        (tested.baseline["mae"].value or 0) - (tested.model["mae"].value or 0)
    )
    assert predicted(found, found.X).schema == {"prediction": pl.Float64}


def test_multiclass_with_a_class_that_early_folds_never_saw(
    declared: Declare, flights: Tables, cutoff: datetime
) -> None:
    features, labels = flights
    recent = pl.col("window_start") >= cutoff - timedelta(days=15)
    labels = labels.with_columns(
        cause=pl.when(recent & (pl.col("id") % 7 == 0)).then(pl.lit("strike")).otherwise("cause")
    )
    found = train(declared(delay_risk, target="cause"), features, labels, cutoff=cutoff, parameters={})
    assert found.task == "multiclass"
    assert found.classes == ["carrier", "none", "strike", "weather"]
    frame = predicted(found, found.X)
    assert frame.columns == ["prediction", *(f"probability_{label}" for label in found.classes)]
    assert frame["prediction"].dtype == pl.String
    assert frame.select(pl.sum_horizontal(pl.exclude("prediction"))).to_series().to_list() == pytest.approx(
        [1.0] * len(frame)
    )
    assert found.backtest.model and (found.backtest.model["macro_f1"].value or 0) > 0.3


def test_noise_does_not_beat_the_baseline(declared: Declare, flights: Tables, cutoff: datetime) -> None:
    features, labels = flights
    noise = labels.with_columns(pl.col("late", "minutes").shuffle(seed=1))
    for function, target in ((delay_risk, "late"), (of_minutes, "minutes")):
        tested = backtest(declared(function, target=target), features, noise, cutoff=cutoff, parameters={})
        assert not tested.beats_baseline
        assert tested.verdict


def test_nothing_after_the_cutoff_changes_anything(
    declared: Declare, tables: Callable[..., Tables], flights: Tables, cutoff: datetime
) -> None:
    features, labels = flights
    after = pl.col("window_start") >= cutoff - timedelta(days=10)
    changed = labels.with_columns(late=pl.when(after).then(~pl.col("late")).otherwise("late"))
    earlier = cutoff - timedelta(days=10)
    node = declared(delay_risk)
    before, then = (train(node, features, each, cutoff=earlier, parameters={}) for each in (labels, changed))
    assert before.backtest == then.backtest
    assert predicted(before, before.X).equals(predicted(then, then.X))


def test_a_label_is_not_used_before_its_own_window(
    declared: Declare, flights: Tables, cutoff: datetime
) -> None:
    features, labels = flights
    late = labels.with_columns(pl.col("window_start") + timedelta(days=7))  # known a week after the departure
    found = train(declared(delay_risk), features, late, cutoff=cutoff, parameters={})
    assert len(found.y) == (60 - 7) * 20
    assert [fold.train_rows for fold in found.backtest.folds] == [53 * 20] * 3
    assert found.backtest.folds[-1].rows == 3 * 20


def test_a_memorising_model_shows_that_folds_are_unseen(
    declared: Declare, flights: Tables, cutoff: datetime
) -> None:
    """A model that knows the rows it was trained on by heart, given away by a unique number."""
    features, labels = flights
    features = features.with_columns(number=pl.col("id").shuffle(seed=2))
    noise = labels.with_columns(pl.col("late").shuffle(seed=3))

    def by_number(X: np.ndarray, y: np.ndarray) -> Any:
        return RandomForestClassifier(10, bootstrap=False, max_features=None).fit(X, y)

    node = declared(by_number, exclude=("hour", "wind", "carrier"))
    found = train(node, features, noise, cutoff=cutoff, parameters={})
    assert (predicted(found, found.X)["prediction"] == found.y).all()
    area = found.backtest.model["roc_auc"] if found.backtest.model else None
    assert area and area.value == pytest.approx(0.5, abs=0.06)


def test_folds_left_out_are_told_with_the_reason(
    declared: Declare, flights: Tables, cutoff: datetime
) -> None:
    lines: list[str] = []
    features, labels = flights
    one_class = pl.col("window_start") < cutoff - timedelta(days=30)
    labels = labels.with_columns(late=pl.when(one_class).then(False).otherwise("late"))
    node = declared(delay_risk, train="40d", folds=8)
    tested = backtest(node, features, labels, cutoff=cutoff, parameters={}, progress=lines.append)
    assert [fold.number for fold in tested.folds] == [7, 8]
    assert [each.reason for each in tested.skipped][:2] == [
        "all 400 rows to train on have late = False",
        "all 600 rows to train on have late = False",
    ]
    assert lines[-1] == "fold 8 of 8: trained on 2013-02-20..2013-03-31, evaluated on 2013-04-01..2013-04-10"
    none = backtest(declared(delay_risk, folds=0), features, labels, cutoff=cutoff, parameters={})
    assert (none.folds, none.model, none.beats_baseline) == ((), None, False)
    assert none.verdict == "no fold could be evaluated (the node asks for none)"


def test_a_fold_of_one_class_does_not_crash(declared: Declare, flights: Tables, cutoff: datetime) -> None:
    features, labels = flights
    last = pl.col("window_start") >= cutoff - timedelta(days=10)
    labels = labels.with_columns(late=pl.when(last).then(False).otherwise("late"))
    tested = backtest(declared(delay_risk), features, labels, cutoff=cutoff, parameters={})
    assert tested.folds[-1].model["roc_auc"].value is None
    assert tested.model and tested.model["roc_auc"].value is not None


def test_a_backtest_survives_strict_json(trained: Trained, cutoff: datetime) -> None:
    stored = json.dumps(trained.backtest.to_dict(), allow_nan=False)
    assert Backtest.from_dict(json.loads(stored)) == trained.backtest


def test_history_start_is_all_that_is_read(declared: Declare, flights: Tables, cutoff: datetime) -> None:
    node = declared(delay_risk, train="30d", folds=2)
    start = node.history_start(cutoff)
    assert start == cutoff - timedelta(days=50)
    whole = train(node, *flights, cutoff=cutoff, parameters={})
    read = train(
        node,
        *(table.filter(pl.col("window_start") >= start) for table in flights),
        cutoff=cutoff,
        parameters={},
    )
    assert whole.backtest == read.backtest


def test_threads_are_limited_while_fitting(declared: Declare, flights: Tables, cutoff: datetime) -> None:
    seen = []

    def watches(X: pl.DataFrame, y: pl.Series) -> Any:
        seen.append({library["num_threads"] for library in threadpool_info()})
        return small_boosting().fit(X, y)

    train(declared(watches, folds=1), *flights, cutoff=cutoff, parameters={}, threads=1)
    assert seen == [{1}, {1}]


def test_text_and_integer_labels_keep_their_type(
    declared: Declare, flights: Tables, cutoff: datetime
) -> None:
    features, labels = flights
    for expression, dtype, classes in (
        (pl.col("late").cast(pl.Int8), pl.Int64, [0, 1]),
        (pl.when("late").then(pl.lit("late")).otherwise(pl.lit("early")), pl.String, ["early", "late"]),
        (pl.col("late").cast(pl.Float32), pl.Float64, [0.0, 1.0]),
    ):
        found = train(
            declared(delay_risk, folds=1),
            features,
            labels.with_columns(late=expression),
            cutoff=cutoff,
            parameters={},
        )
        assert (found.task, found.classes) == ("binary", classes)
        frame = predicted(found, found.X)
        assert frame["prediction"].dtype == dtype
        assert frame.filter(pl.col("probability") > 0.5)["prediction"].unique().to_list() == [classes[1]]


def test_logistic_regression_on_pandas_equals_scikit_learn_by_hand(
    declared: Declare, flights: Tables, cutoff: datetime
) -> None:
    def plain(X: pd.DataFrame, y: pd.Series) -> Any:
        return LogisticRegression().fit(X[["hour"]].to_numpy(), y)

    class Hour:
        def __init__(self, model: Any) -> None:
            self.model = model

        def predict(self, X: pd.DataFrame) -> Any:
            return self.model.predict(X[["hour"]].to_numpy())

        def predict_proba(self, X: pd.DataFrame) -> Any:
            return self.model.predict_proba(X[["hour"]].to_numpy())

    def wrapped(X: pd.DataFrame, y: pd.Series) -> Any:
        return Hour(plain(X, y))

    found = train(declared(wrapped, folds=1), *flights, cutoff=cutoff, parameters={})
    features, labels = flights
    rows = features.join(labels.drop("window_start"), on="id").filter(
        pl.col("window_start") >= cutoff - timedelta(days=60)
    )
    by_hand = LogisticRegression().fit(rows[["hour"]].to_numpy(), rows["late"].to_numpy())
    assert predicted(found, found.X)["probability"].to_list() == pytest.approx(
        by_hand.predict_proba(rows[["hour"]].to_numpy())[:, 1].tolist()
    )
