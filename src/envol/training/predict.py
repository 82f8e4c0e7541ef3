"""From a fitted estimator's output to the predicted columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from envol.errors import DataError, ProjectError
from envol.project.frames import to_kind
from envol.project.nodes import FrameKind, Task
from envol.project.usercode import user_code
from envol.training.columns import PREDICTION, PROBABILITY, prediction_columns, probability_column


def predict_frame(
    estimator: Any,
    task: Task,
    classes: Sequence[Any] | None,
    X: pl.DataFrame,
    kind: FrameKind,
    *,
    node: str | None = None,
) -> pl.DataFrame:
    """The predicted columns for the rows of X.

    `prediction` has the type of the labels (Boolean, Int64, Float64, String). In a binary task `probability`
    is that of `classes[1]`; in a multiclass task there is `probability_<class>` for each of `classes`, 0 for
    one that the estimator has not seen.

    Args:
        classes: sorted labels, None for regression.
        kind: what the estimator takes as X.

    Raises:
        ProjectError: the estimator has no predict_proba, or answers with the wrong shape or labels.
        DataError: it answers with NaN or probabilities outside 0 to 1.
        Failure: it raises.
    """
    labels = list(classes or [])
    if X.is_empty():
        return _empty(task, labels)
    inputs = to_model_kind(X, kind)
    with user_code("predict", node):
        raw = np.asarray(estimator.predict(inputs))
    answers = _flat(raw, len(X), node)
    if task == "regression":
        return pl.DataFrame({PREDICTION: _finite(answers, "prediction", node)})
    predicted = pl.Series(PREDICTION, labels)[_codes(answers, labels, node)]
    if not hasattr(estimator, "predict_proba"):
        raise no_probability(estimator, node)
    with user_code("predict_proba", node):
        raw = np.asarray(estimator.predict_proba(inputs))
    probability = _by_class(estimator, raw, labels, len(X), node)
    if task == "binary":
        return pl.DataFrame([predicted, pl.Series(PROBABILITY, np.ascontiguousarray(probability[:, 1]))])
    columns = {
        probability_column(label): np.ascontiguousarray(probability[:, code])
        for code, label in enumerate(labels)
    }
    return pl.DataFrame([predicted, *(pl.Series(name, values) for name, values in columns.items())])


def to_model_kind(X: pl.DataFrame, kind: FrameKind) -> Any:
    """X as an estimator takes it: "polars", "pandas", "arrow" or "numpy"."""
    return X.to_numpy() if kind == "numpy" else to_kind(X, kind)


def no_probability(estimator: Any, node: str | None) -> ProjectError:
    """The error for a classifier that only decides."""
    return ProjectError(
        f"the returned {type(estimator).__name__} has no predict_proba, so there is no probability",
        node=node,
        remedy="return a classifier with predict_proba, or wrap it in CalibratedClassifierCV",
    )


def _empty(task: Task, labels: list[Any]) -> pl.DataFrame:
    decided = pl.Float64() if task == "regression" else pl.Series(labels).dtype
    return pl.DataFrame(
        schema={
            name: decided if name == PREDICTION else pl.Float64() for name in prediction_columns(task, labels)
        }
    )


def _flat(raw: NDArray[Any], rows: int, node: str | None) -> NDArray[Any]:
    if raw.shape not in ((rows,), (rows, 1)):
        raise ProjectError(
            f"predict answered with the shape {raw.shape} for {rows} rows",
            node=node,
            remedy="return an estimator that predicts one value a row",
        )
    return raw.reshape(rows)


def _finite(values: NDArray[Any], what: str, node: str | None) -> NDArray[np.float64]:
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        raise ProjectError(
            f"a {what} is {values.flat[0]!r}, not a number", node=node, remedy="return a regressor"
        ) from None
    broken = int((~np.isfinite(numbers)).sum())
    if broken:
        raise DataError(
            f"{broken:,} of {numbers.size:,} values of {what} are NaN or infinite",
            node=node,
            remedy="look for missing or huge values in the features, and have the model handle them",
        )
    return numbers


def _codes(answers: NDArray[Any], labels: list[Any], node: str | None) -> NDArray[np.int64]:
    """Index in `labels` of each answer."""
    position = {label: code for code, label in enumerate(labels)}
    distinct, inverse = np.unique(answers, return_inverse=True)
    unknown = [value for value in distinct.tolist() if value not in position]
    if unknown:
        raise ProjectError(
            f"predicted {unknown[0]!r}, and the labels are {', '.join(map(repr, labels))}",
            node=node,
            remedy="fit a classifier on y as it is given",
        )
    codes = np.array([position[value] for value in distinct.tolist()], dtype=np.int64)
    return np.asarray(codes[inverse])


def _by_class(
    estimator: Any, raw: NDArray[Any], labels: list[Any], rows: int, node: str | None
) -> NDArray[np.float64]:
    """Rows x labels, whatever order and subset of the labels the estimator knows."""
    own = getattr(estimator, "classes_", None)
    known = labels if own is None else np.asarray(own).tolist()
    if raw.shape != (rows, len(known)):
        raise ProjectError(
            f"predict_proba answered with the shape {raw.shape}, not {rows} rows x {len(known)} classes",
            node=node,
            remedy="return one probability for each class",
        )
    probability = _finite(raw, "probability", node)
    if probability.min() < 0 or probability.max() > 1 + 1e-9:
        raise DataError(
            f"predict_proba answered with {probability.min():.3g} to {probability.max():.3g}",
            node=node,
            remedy="return probabilities between 0 and 1",
        )
    found = np.zeros((rows, len(labels)))
    found[:, _codes(np.asarray(known), labels, node)] = probability
    return found
