"""Bad rows and bad models: each refused with where it is, what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC

from envol.errors import DataError, EnvolError, Failure, ProjectError
from envol.project.nodes import Model
from envol.training import predict_frame, prepare, train

Tables = tuple[pl.DataFrame, pl.DataFrame]
Declare = Callable[..., Model]
HOURS = ("wind", "carrier")  # excluded, so that any estimator can be fitted


def delay_risk(X: pl.DataFrame, y: pl.Series) -> Any:
    return LogisticRegression().fit(X, y)


def refused(node: Model, features: pl.DataFrame, labels: pl.DataFrame, cutoff: datetime) -> EnvolError:
    with pytest.raises(EnvolError) as caught:
        train(node, features, labels, cutoff=cutoff, parameters={})
    assert (caught.value.node, caught.value.window) == (node.name, f"{cutoff:%Y-%m-%d}")
    assert caught.value.remedy
    return caught.value


def first(column: str, value: Any) -> pl.Expr:
    return pl.when(pl.int_range(pl.len()) < 3).then(pl.lit(value)).otherwise(column).alias(column)


@pytest.mark.parametrize(
    ("settings", "change", "kind", "message", "remedy"),
    [
        (
            {"target": "lat"},
            None,
            DataError,
            "the target column 'lat' is missing in arrivals",
            "mean 'late'?",
        ),
        (
            {"key": "flight"},
            None,
            DataError,
            "the key column 'flight' is missing in departures",
            "id, hour, wind",
        ),
        (
            {},
            lambda f, a: (f, a.rename({"id": "number"})),
            DataError,
            "the key column 'id' is missing in arrivals",
            "columns are number, late",
        ),
        (
            {},
            lambda f, a: (f.drop("window_start"), a),
            DataError,
            "the time column 'window_start' is missing in departures",
            "columns are",
        ),
        (
            {},
            lambda f, a: (f.with_columns(pl.col("window_start").dt.replace_time_zone(None)), a),
            DataError,
            "not a time with a zone",
            "replace_time_zone",
        ),
        (
            {},
            lambda f, a: (pl.concat([f, f.tail(2), f.tail(1)]), a),
            DataError,
            "2 keys of departures occur more than once, for example id = 1998 2 times",
            "one row for each id",
        ),
        (
            {},
            lambda f, a: (f, pl.concat([a, a.head(1)])),
            DataError,
            "1 keys of arrivals occur more than once, for example id = 0 2 times",
            "one row for each id",
        ),
        (
            {},
            lambda f, a: (f, a.with_columns(pl.col("id").cast(pl.String))),
            DataError,
            "the key id is Int64 in departures and String in arrivals",
            "same type",
        ),
        ({"exclude": ("wnd",)}, None, ProjectError, "exclude names 'wnd'", "did you mean 'wind'"),
        (
            {"exclude": ("wind", "hour", "carrier")},
            None,
            ProjectError,
            "no column to learn from",
            "add a column",
        ),
        (
            {},
            lambda f, a: (f, a.with_columns(late=pl.lit(False))),
            DataError,
            "all 1,200 rows of the training range 2013-02-10..2013-04-10 have late = False",
            "longer history (train='60d' now)",
        ),
        (
            {},
            lambda f, a: (f, a.with_columns(late=pl.lit(None, pl.Boolean))),
            DataError,
            "no labelled rows of departures in the training range 2013-02-10..2013-04-10; "
            "0 rows have no label, 1,800 have null as late",
            "check how arrivals makes the column late: it is null there",
        ),
        (
            {},
            lambda f, a: (f, a.with_columns(pl.col("id") + 100_000)),
            DataError,
            "1,800 rows have no label",
            "run departures and arrivals for that range",
        ),
        (
            {},
            lambda f, a: (f.filter(pl.col("id") < 600), a),
            DataError,
            "the last labelled row is of 2013-01-30",
            "run departures and arrivals for that range",
        ),
        ({}, lambda f, a: (f.clear(), a.clear()), DataError, "no labelled rows", "run departures"),
        ({"task": "binary", "target": "cause"}, None, ProjectError, "cause has 3", "multiclass"),
        ({"task": "regression", "target": "cause"}, None, ProjectError, "cause is String", "number"),
        ({"target": "window_start"}, None, DataError, "which cannot be predicted", "true or false"),
        (
            {"target": "minutes"},
            lambda f, a: (f, a.with_columns(minutes=pl.lit(np.inf))),
            DataError,
            "infinite in 1,800 rows",
            "make those rows null",
        ),
    ],
)
def test_rows_that_cannot_be_learned_are_refused(
    settings: dict[str, Any],
    change: Callable[[pl.DataFrame, pl.DataFrame], Tables] | None,
    kind: type[EnvolError],
    message: str,
    remedy: str,
    declared: Declare,
    flights: Tables,
    cutoff: datetime,
) -> None:
    error = refused(declared(delay_risk, **settings), *(change(*flights) if change else flights), cutoff)
    assert type(error) is kind
    assert message in str(error) and remedy in str(error)


def test_rows_without_label_and_null_targets_are_dropped_and_counted(
    declared: Declare, flights: Tables, cutoff: datetime
) -> None:
    features, labels = flights
    labels = labels.slice(0, 1990).with_columns(
        late=pl.when(pl.col("id") >= 1983).then(None).otherwise("late")
    )
    lines: list[str] = []
    node = declared(delay_risk, folds=0, exclude=HOURS)
    found = train(node, features, labels, cutoff=cutoff, parameters={}, progress=lines.append)
    assert (found.unlabelled, found.null_targets, len(found.y)) == (10, 7, 1183)
    assert lines[0] == "1,183 labelled rows; 10 without a label, 7 with null as late"


def test_a_key_of_two_columns_and_the_window(declared: Declare, flights: Tables, cutoff: datetime) -> None:
    features, labels = (
        table.with_columns(pl.int_range(pl.len()).over("window_start").alias("id")) for table in flights
    )
    assert "occur more than once" in str(
        refused(declared(delay_risk, exclude=HOURS), features, labels, cutoff)
    )
    node = declared(delay_risk, exclude=HOURS, key=["id", "window_start"])
    assert prepare(node, features, labels, cutoff=cutoff).X.columns == ["hour"]


def test_a_target_among_the_features_is_kept_from_x(
    declared: Declare, flights: Tables, cutoff: datetime
) -> None:
    features, labels = flights
    leaking = features.join(labels.select("id", "late"), on="id")
    examples = prepare(declared(delay_risk, exclude=HOURS), leaking, labels, cutoff=cutoff)
    assert examples.X.columns == ["hour"]


def test_keys_of_other_integer_widths_are_joined(
    declared: Declare, flights: Tables, cutoff: datetime
) -> None:
    features, labels = flights
    labels = labels.with_columns(pl.col("id").cast(pl.Int32))
    assert len(prepare(declared(delay_risk), features, labels, cutoff=cutoff).y) == 1800


class Broken:
    """A classifier that fits, and answers what it is told to."""

    classes_ = np.array([False, True])

    def __init__(self, decided: Any = None, probability: Any = None) -> None:
        self.decided, self.probability = decided, probability

    def predict(self, X: pl.DataFrame) -> Any:
        return np.zeros(len(X), bool) if self.decided is None else self.decided(len(X))

    def predict_proba(self, X: pl.DataFrame) -> Any:
        return self.probability(len(X))


def none(X: pl.DataFrame, y: pl.Series) -> Any:
    LogisticRegression().fit(X, y)


def number(X: pl.DataFrame, y: pl.Series) -> Any:
    return LogisticRegression().fit(X, y).score(X, y)


def deciding(X: pl.DataFrame, y: pl.Series) -> Any:
    return LinearSVC().fit(X, y)


def unfitted(X: pl.DataFrame, y: pl.Series) -> Any:
    return HistGradientBoostingClassifier()


def recoded(X: pl.DataFrame, y: pl.Series) -> Any:
    return LogisticRegression().fit(X, pl.Series(["yes" if late else "no" for late in y]))


def raising(X: pl.DataFrame, y: pl.Series) -> Any:
    return LogisticRegression().fit(X.select("hours"), y)


def unsure(X: pl.DataFrame, y: pl.Series) -> Any:
    return Broken(probability=lambda rows: np.full((rows, 2), np.nan))


def excessive(X: pl.DataFrame, y: pl.Series) -> Any:
    return Broken(probability=lambda rows: np.full((rows, 2), 1.5))


def flat(X: pl.DataFrame, y: pl.Series) -> Any:
    return Broken(probability=lambda rows: np.full(rows, 0.5))


def short(X: pl.DataFrame, y: pl.Series) -> Any:
    return Broken(decided=lambda rows: np.zeros(rows - 1, bool))


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        (none, ProjectError, "returned None (is a `return` missing?), not a fitted estimator"),
        (number, ProjectError, "returned a float without predict"),
        (deciding, ProjectError, "LinearSVC has no predict_proba"),
        (unfitted, ProjectError, "not fitted"),
        (recoded, ProjectError, "predicted 'no', and the labels are False, True"),
        (raising, Failure, "the function raised ColumnNotFoundError"),
        (unsure, DataError, "of probability are NaN"),
        (excessive, DataError, "predict_proba answered with 1.5 to 1.5"),
        (flat, ProjectError, "predict_proba answered with the shape (200,), not 200 rows x 2 classes"),
        (short, ProjectError, "predict answered with the shape (199,) for 200 rows"),
    ],
)
@pytest.mark.parametrize("folds", [0, 1])
def test_models_that_cannot_be_used_are_refused(
    function: Any,
    kind: type[EnvolError],
    message: str,
    folds: int,
    declared: Declare,
    flights: Tables,
    cutoff: datetime,
) -> None:
    error = refused(declared(function, exclude=HOURS, folds=folds), *flights, cutoff)
    assert type(error) is kind
    assert (message if folds else message.split("(")[0].split(" for ")[0]) in str(error)


def test_an_error_of_the_users_code_keeps_its_cause_and_shows_its_line(
    declared: Declare, flights: Tables, cutoff: datetime
) -> None:
    error = refused(declared(raising, exclude=HOURS), *flights, cutoff)
    assert isinstance(error.__cause__, pl.exceptions.ColumnNotFoundError)
    assert "test_faults.py" in str(error) and 'X.select("hours")' in str(error)
    assert "usercode.py" not in str(error)


def test_a_users_own_envol_error_is_only_located(
    declared: Declare, flights: Tables, cutoff: datetime
) -> None:
    def strict(X: pl.DataFrame, y: pl.Series) -> Any:
        raise DataError("too little wind", remedy="wait for a storm")

    error = refused(declared(strict), *flights, cutoff)
    assert str(error) == "node strict, window 2013-04-11: too little wind\n  -> wait for a storm"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({}, "the parameter 'depth' has no value"), ({"dept": 3}, "the function has no parameter 'dept'")],
)
def test_parameters_must_match_the_function(
    parameters: dict[str, Any], message: str, declared: Declare, flights: Tables, cutoff: datetime
) -> None:
    def deep(X: pl.DataFrame, y: pl.Series, depth: int) -> Any:
        return HistGradientBoostingClassifier(max_depth=depth).fit(X, y)

    with pytest.raises(ProjectError, match=message):
        train(declared(deep), *flights, cutoff=cutoff, parameters=parameters)


def test_a_naive_cutoff_is_refused(declared: Declare, flights: Tables, cutoff: datetime) -> None:
    with pytest.raises(ProjectError, match="no time zone"):
        train(declared(delay_risk), *flights, cutoff=cutoff.replace(tzinfo=None), parameters={})


def test_labels_of_the_future_are_no_labels(declared: Declare, flights: Tables, cutoff: datetime) -> None:
    features, labels = flights
    node = declared(delay_risk, exclude=HOURS)
    error = refused(node, features, labels.with_columns(pl.col("window_start") + timedelta(days=100)), cutoff)
    assert "1,800 rows have no label" in str(error)


def test_no_rows_are_predicted_with_the_same_columns() -> None:
    X = pl.DataFrame({"hour": [1, 2, 3, 4]})
    for task, classes, y in (
        ("binary", [False, True], [True, False, True, False]),
        ("multiclass", ["a", "b", "c"], ["a", "b", "c", "a"]),
        ("regression", None, [1.0, 2.0, 3.0, 5.0]),
    ):
        estimator = (Ridge() if classes is None else LogisticRegression()).fit(X, y)
        some = predict_frame(estimator, task, classes, X, "polars")  # type: ignore[arg-type]
        empty = predict_frame(estimator, task, classes, X.clear(), "polars")  # type: ignore[arg-type]
        assert some.height == 4 and empty.height == 0
        assert some.schema == empty.schema
