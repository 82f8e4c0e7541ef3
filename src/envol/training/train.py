"""Train a model for a cutoff: backtest it, then fit it on everything before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from envol.errors import EnvolError
from envol.project.nodes import FrameKind, Model, Task
from envol.training.backtest import Backtest, Progress, quiet, run_folds
from envol.training.data import prepare, training_rows
from envol.training.fit import fit, frame_kind
from envol.training.predict import predict_frame
from envol.training.repeatable import limited
from envol.training.split import span_text

TRIED_ROWS = 100


@dataclass(frozen=True, eq=False)
class Trained:
    """A fitted model with what it learned from and how it did in the backtest.

    `X` and `y` are the rows of [start, cutoff) it was fitted on, `classes` the sorted labels in `y` (None for
    regression), `frame_kind` what the estimator takes as X. `unlabelled` counts feature rows without a label,
    `null_targets` rows dropped as their label is null, both over backtest and training.
    """

    node: Model
    estimator: Any
    task: Task
    classes: list[Any] | None
    frame_kind: FrameKind
    X: pl.DataFrame
    y: pl.Series
    cutoff: datetime
    start: datetime
    backtest: Backtest
    unlabelled: int = 0
    null_targets: int = 0


def train(
    model: Model,
    features: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    cutoff: datetime,
    parameters: Mapping[str, Any],
    progress: Progress = quiet,
    threads: int | None = None,
) -> Trained:
    """Backtest the model before the cutoff, then fit it on [model.train before cutoff, cutoff).

    Args:
        features, labels: with `window_start`; those from `model.history_start(cutoff)` on are used, and no
            label whose window starts at the cutoff or later.
        cutoff: aware, in the project's zone.
        parameters: values of the function's parameters beside X and y.
        progress: receives short lines.
        threads: native threads that a fit may use; any number when None.

    Raises:
        DataError: the rows cannot be joined or learned from.
        ProjectError: the node or what its function returned is wrong.
        Failure: the user's code raised.
    """
    try:
        with limited(threads):
            return _train(model, features, labels, cutoff, parameters, progress)
    except EnvolError as error:
        raise error.located(node=model.name, window=_label(cutoff)) from error.__cause__


def _train(
    model: Model,
    features: pl.DataFrame,
    labels: pl.DataFrame,
    cutoff: datetime,
    parameters: Mapping[str, Any],
    progress: Progress,
) -> Trained:
    examples = prepare(model, features, labels, cutoff=cutoff)
    X, y = training_rows(model, examples, cutoff=cutoff)  # refuses hopeless rows before any fold is fitted
    progress(
        f"{len(examples.y):,} labelled rows; {examples.unlabelled:,} without a label, "
        f"{examples.null_targets:,} with null as {model.target}"
    )
    tested = run_folds(model, examples, cutoff=cutoff, parameters=parameters, progress=progress)
    start = model.train.before(cutoff)
    estimator = fit(model, X, y, examples.task, parameters)
    classes = None if examples.task == "regression" else y.unique().sort().to_list()
    kind = frame_kind(model)
    predict_frame(estimator, examples.task, classes, X.head(TRIED_ROWS), kind, node=model.name)
    progress(f"fitted on {len(y):,} rows of {span_text(start, cutoff)}; {tested.verdict}")
    return Trained(
        node=model,
        estimator=estimator,
        task=examples.task,
        classes=classes,
        frame_kind=kind,
        X=X,
        y=y,
        cutoff=cutoff,
        start=start,
        backtest=tested,
        unlabelled=examples.unlabelled,
        null_targets=examples.null_targets,
    )


def _label(cutoff: datetime) -> str:
    midnight = cutoff.hour == cutoff.minute == 0
    return f"{cutoff:%Y-%m-%d}" if midnight else cutoff.isoformat(timespec="minutes")
