"""How good predictions are: metrics with bootstrap intervals, and calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from envol.errors import DataError
from envol.project.nodes import Task
from envol.training.columns import PREDICTION, PROBABILITY, probability_column
from envol.training.scores import (
    BinaryScores,
    Codes,
    Floats,
    MulticlassScores,
    Ranking,
    RegressionScores,
    Scores,
    draws,
)

RESAMPLES = 200
CONFIDENCE = 0.9
MAIN: dict[Task, str] = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "mae"}
NAMES: dict[Task, tuple[str, ...]] = {
    "binary": BinaryScores.names,
    "multiclass": MulticlassScores.names,
    "regression": RegressionScores.names,
}


@dataclass(frozen=True)
class Metric:
    """A value with its 90 % bootstrap interval; None where it is undefined (one class only, no rows)."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "undefined"
        interval = "" if self.low is None else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{self.value:.3g}{interval}"

    def to_dict(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Bin:
    """A tenth of the rows by predicted value: mean prediction, what was observed, how many rows."""

    predicted: float
    observed: float
    count: int

    def to_dict(self) -> dict[str, float | int]:
        return {"predicted": self.predicted, "observed": self.observed, "count": self.count}


@dataclass(frozen=True)
class Metrics:
    """Metrics by name, and calibration: of the positive class (binary), of the decided class (multiclass),
    of the predicted number (regression)."""

    task: Task
    rows: int
    values: Mapping[str, Metric]
    calibration: tuple[Bin, ...] = ()

    def __getitem__(self, name: str) -> Metric:
        return self.values[name]

    @property
    def main(self) -> str:
        """Name of the metric to judge by."""
        return MAIN[self.task]

    def to_dict(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "rows": self.rows,
            "values": {name: metric.to_dict() for name, metric in self.values.items()},
            "calibration": [each.to_dict() for each in self.calibration],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Metrics:
        return cls(
            task=stored["task"],
            rows=stored["rows"],
            values={name: Metric(**metric) for name, metric in stored["values"].items()},
            calibration=tuple(Bin(**each) for each in stored["calibration"]),
        )


def evaluate(
    task: Task,
    y: pl.Series,
    prediction: pl.Series | pl.DataFrame,
    *,
    seed: int,
    classes: Sequence[Any] | None = None,
    windows: pl.Series | None = None,
    resamples: int = RESAMPLES,
) -> Metrics:
    """Compare predictions with the truth.

    Args:
        y: the truth, one value a row, no nulls.
        prediction: the predicted columns (`prediction`, `probability`, `probability_<class>`), or a series:
            the probability of the positive class (binary), the predicted number (regression).
        classes: every class in the order of the probabilities, the positive one second; those of `y` and
            `prediction` when left out.
        windows: start of each row's window. Given, whole windows are resampled for the intervals, as rows
            of one window are not independent; else, or with a single window, rows are.

    Raises:
        DataError: different lengths, nulls or NaN, a missing column, more than two classes in a binary task.
    """
    frame = prediction.to_frame(_only_column(task)) if isinstance(prediction, pl.Series) else prediction
    _check(task, y, frame)
    if y.is_empty():
        return Metrics(task, 0, {name: Metric(None) for name in NAMES[task]})
    scores, ranking, observed, predicted = _prepared(task, y, frame, classes)
    return Metrics(
        task=task,
        rows=len(y),
        values=with_intervals(scores, windows, seed=seed, resamples=resamples),
        calibration=_calibration(ranking, predicted, observed),
    )


def with_intervals(
    scores: Scores, windows: pl.Series | None, *, seed: int, resamples: int
) -> dict[str, Metric]:
    """The scores of all rows, each with the 5 % and 95 % quantile over resamples."""
    rows = len(scores.order)
    blocks = _blocks(windows)
    ordered = None if blocks is None else blocks[scores.order]
    values = scores(np.ones(rows))
    drawn = [scores(weights) for weights in draws(rows, ordered, seed=seed, resamples=resamples)]
    return {
        name: _metric(value, np.array([each[name] for each in drawn]))
        if math.isfinite(value)
        else Metric(None)
        for name, value in values.items()
    }


def mean_with_interval(
    values: Floats, windows: pl.Series | None, *, seed: int, resamples: int = RESAMPLES
) -> Metric:
    """The mean of one number a row, with its bootstrap interval."""
    drawn = [
        float((weights * values).sum() / weights.sum())
        for weights in draws(len(values), _blocks(windows), seed=seed, resamples=resamples)
    ]
    return _metric(float(values.mean()), np.array(drawn))


def losses(task: Task, y: pl.Series, frame: pl.DataFrame, classes: Sequence[Any] | None) -> Floats:
    """The loss of each row: squared error of the probability, log loss, or absolute error."""
    if task == "regression":
        return np.abs(_numbers(frame[PREDICTION]) - _numbers(y))
    ordered = _classes(task, y, frame, classes)
    truth = _codes(y, ordered)
    if task == "binary":
        return np.asarray((_numbers(frame[PROBABILITY]) - truth) ** 2)
    probability = _probabilities(frame, ordered)[np.arange(len(truth)), truth]
    return np.asarray(-np.log(np.clip(probability, np.finfo(np.float64).eps, 1.0)))


def _prepared(
    task: Task, y: pl.Series, frame: pl.DataFrame, classes: Sequence[Any] | None
) -> tuple[Scores, Ranking, Floats, Floats]:
    if task == "regression":
        truth, number = _numbers(y), _numbers(frame[PREDICTION])
        return RegressionScores(truth, number), Ranking(number), truth, number
    ordered = _classes(task, y, frame, classes)
    codes = _codes(y, ordered)
    if task == "binary":
        probability = _numbers(frame[PROBABILITY])
        decided = (
            _codes(frame[PREDICTION], ordered) == 1 if PREDICTION in frame.columns else probability > 0.5
        )
        positive = codes == 1
        scores = BinaryScores(positive, probability, decided)
        return scores, Ranking(probability), positive.astype(np.float64), probability
    probabilities = _probabilities(frame, ordered)
    chosen = _codes(frame[PREDICTION], ordered) if PREDICTION in frame.columns else probabilities.argmax(1)
    confidence = probabilities[np.arange(len(codes)), chosen]
    right = (codes == chosen).astype(np.float64)
    return MulticlassScores(codes, probabilities, chosen), Ranking(confidence), right, confidence


def _calibration(ranking: Ranking, predicted: Floats, observed: Floats) -> tuple[Bin, ...]:
    counts = ranking.tenths(np.ones(len(predicted)))
    means = [ranking.tenths(values[ranking.order]) / counts for values in (predicted, observed)]
    bins = [Bin(float(p), float(o), int(n)) for p, o, n in zip(*means, counts, strict=True)]
    return tuple(reversed(bins))


def _metric(value: float, drawn: NDArray[np.float64]) -> Metric:
    finite = drawn[np.isfinite(drawn)]
    if not len(finite) or 2 * len(finite) < len(drawn):  # mostly undefined: an interval would mislead
        return Metric(value)
    low, high = np.quantile(finite, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Metric(value, float(low), float(high))


def _blocks(windows: pl.Series | None) -> Codes | None:
    if windows is None or windows.n_unique() < 2:
        return None
    return windows.rank("dense").to_numpy().astype(np.int64) - 1


def _check(task: Task, y: pl.Series, frame: pl.DataFrame) -> None:
    if len(y) != len(frame):
        raise DataError(
            f"{len(y):,} true values and {len(frame):,} predictions", remedy="join them by key first"
        )
    if task != "multiclass" and _only_column(task) not in frame.columns:
        raise DataError(
            f"the column {_only_column(task)!r} is missing in the predictions",
            remedy=f"the columns are {', '.join(frame.columns) or 'none'}",
        )
    for column in [y, *frame]:
        missing = column.null_count()
        if column.dtype.is_float():
            missing += int(column.is_nan().sum())
        if missing:
            raise DataError(
                f"{missing:,} of {len(y):,} values of {column.name or 'the truth'!r} are missing",
                remedy="evaluate the rows whose truth is known",
            )


def _only_column(task: Task) -> str:
    return PROBABILITY if task == "binary" else PREDICTION


def _numbers(series: pl.Series) -> Floats:
    return series.cast(pl.Float64).to_numpy()


def _probabilities(frame: pl.DataFrame, classes: Sequence[Any]) -> Floats:
    """Rows x classes; a class that the model has never seen has probability 0."""
    columns = [probability_column(label) for label in classes]
    return np.column_stack(
        [_numbers(frame[name]) if name in frame.columns else np.zeros(len(frame)) for name in columns]
    )


def _classes(task: Task, y: pl.Series, frame: pl.DataFrame, classes: Sequence[Any] | None) -> list[Any]:
    known = list(classes or [])
    seen = set(y.unique().to_list())
    if PREDICTION in frame.columns:
        seen |= set(frame[PREDICTION].unique().to_list())
    known += sorted(seen - set(known))
    if task == "multiclass":
        return known
    if len(known) == 1:  # one class in the rows: its other half is known for truth values and 0 or 1
        pair = next(
            (p for p in ([False, True], [0, 1]) if known[0] in p and type(known[0]) is type(p[0])), None
        )
        known = pair or [known[0], None]
    if len(known) > 2:
        raise DataError(
            f"a binary task has two classes, and these rows have {', '.join(map(repr, known))}",
            remedy="pass classes=[negative, positive], and evaluate the rows of those",
        )
    return known


def _codes(labels: pl.Series, classes: Sequence[Any]) -> Codes:
    """Index in `classes` of each label."""
    position = {label: code for code, label in enumerate(classes)}
    distinct = labels.unique().to_list()
    return labels.replace_strict(distinct, [position[d] for d in distinct], return_dtype=pl.Int64).to_numpy()
