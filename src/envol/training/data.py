"""What a model learns from: features joined to labels, X and y apart, and which task it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from envol.errors import DataError, ProjectError
from envol.project.nodes import Model, Task
from envol.training.split import Instants, instant, micros, span_text

TIME = "window_start"
MOST_CLASSES = 20  # more distinct integers than this are amounts, not classes


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled rows before a cutoff, ordered by window and key.

    `starts` is the start of each row's window, `known` that of the window which brought its label
    (microseconds since 1970-01-01 UTC). `classes` is sorted, None for regression. `unlabelled` counts
    feature rows without a label, `null_targets` those dropped because their label is null or NaN.
    """

    X: pl.DataFrame
    y: pl.Series
    starts: Instants
    known: Instants
    task: Task
    classes: list[Any] | None
    unlabelled: int
    null_targets: int

    def rows(self, mask: NDArray[np.bool_]) -> tuple[pl.DataFrame, pl.Series]:
        """X and y of the masked rows."""
        keep = pl.Series(mask)
        return self.X.filter(keep), self.y.filter(keep)


def prepare(model: Model, features: pl.DataFrame, labels: pl.DataFrame, *, cutoff: datetime) -> Examples:
    """Join features to labels by the model's key and keep what was known before the cutoff.

    The features' `window_start` is a row's time. A label whose own window starts at the cutoff or later
    was not known then and is not used.

    Raises:
        DataError: key, target or time column missing, duplicate keys, a target that cannot be learned.
        ProjectError: `exclude` names no column, nothing is left for X, `task` does not fit the target, or
            the cutoff has no time zone.
    """
    if cutoff.tzinfo is None:
        raise ProjectError("the cutoff has no time zone", node=model.name, remedy="pass an aware datetime")
    _need_columns(model, model.features, features, [*model.key, TIME], "key")
    _need_columns(model, model.labels, labels, model.key, "key")
    _need_columns(model, model.labels, labels, [model.target], "target")
    start, end = model.history_start(cutoff), cutoff
    features = _timed(model, model.features, features).filter(
        (pl.col("__start") >= micros(start)) & (pl.col("__start") < micros(end))
    )
    labels = _timed(model, model.labels, labels) if TIME in labels.columns else labels
    for table, frame in ((model.features, features), (model.labels, labels)):
        _refuse_duplicates(model, table, frame)
    joined = _join(model, features, labels).filter(pl.col("__known") < micros(end))
    target = _target(model, joined["__target"])
    present = target.is_not_null()
    joined, y = joined.filter(present), target.filter(present)
    task = infer_task(model, y)
    if task == "regression":
        y = y.cast(pl.Float64)
    return Examples(
        X=joined.select(_inputs(model, features)),
        y=y,
        starts=joined["__start"].to_numpy(),
        known=joined["__known"].to_numpy(),
        task=task,
        classes=None if task == "regression" else y.unique().sort().to_list(),
        unlabelled=len(features) - len(present),
        null_targets=int((~present).sum()),
    )


def training_rows(model: Model, examples: Examples, *, cutoff: datetime) -> tuple[pl.DataFrame, pl.Series]:
    """X and y of [model.train before cutoff, cutoff).

    Raises:
        DataError: when there is no row, or only one class.
    """
    start = model.train.before(cutoff)
    X, y = examples.rows(examples.starts >= micros(start))
    if y.is_empty():
        lost = (
            f"{examples.unlabelled:,} rows have no label, "
            f"{examples.null_targets:,} have null as {model.target}"
        )
        found = (
            f"the last labelled row is of {_date(examples.starts[-1], cutoff)}" if len(examples.y) else lost
        )
        remedy = (
            f"run {model.features} and {model.labels} for that range, or check that their "
            f"{_listed(model.key)} agree"
        )
        if not len(examples.y) and examples.null_targets > examples.unlabelled:
            remedy = f"check how {model.labels} makes the column {model.target}: it is null there"
        raise DataError(
            f"no labelled rows of {model.features} in the training range {span_text(start, cutoff)}; {found}",
            node=model.name,
            remedy=remedy,
        )
    if examples.task != "regression" and y.n_unique() < 2:
        raise DataError(
            f"all {len(y):,} rows of the training range {span_text(start, cutoff)} have "
            f"{model.target} = {y[0]!r}: with one class there is nothing to learn",
            node=model.name,
            remedy=f"train on a longer history (train={str(model.train)!r} now), "
            f"or check how {model.labels}.{model.target} is made",
        )
    return X, y


def infer_task(model: Model, y: pl.Series) -> Task:
    """The node's task, or what the target looks like: two values are binary, texts and few integers
    multiclass, other numbers regression.

    Raises:
        ProjectError: when the node's task does not fit the target.
    """
    distinct = y.n_unique()
    if model.task == "regression" and not y.dtype.is_numeric():
        raise ProjectError(
            f"a regression needs a number, and {model.labels}.{model.target} is {y.dtype}",
            node=model.name,
            remedy="write another task, or make the target a number",
        )
    if model.task == "binary" and distinct > 2:
        raise ProjectError(
            f"a binary task needs two classes, and {model.labels}.{model.target} has {distinct:,}",
            node=model.name,
            remedy='write task="multiclass" or task="regression", or make the target true or false',
        )
    if model.task is not None:
        return model.task
    if distinct <= 2:
        return "binary"
    if y.dtype == pl.String or (y.dtype.is_integer() and distinct <= MOST_CLASSES):
        return "multiclass"
    return "regression"


def _join(model: Model, features: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    known = pl.col("__start") if "__start" in labels.columns else pl.lit(None, pl.Int64)
    right = labels.select(*model.key, pl.col(model.target).alias("__target"), known.alias("__label_start"))
    for name in model.key:
        left_type, right_type = features.schema[name], right.schema[name]
        if left_type.is_integer() and right_type.is_integer():
            right = right.with_columns(pl.col(name).cast(left_type, strict=False))
        elif left_type != right_type:
            raise DataError(
                f"the key {name} is {left_type} in {model.features} and {right_type} in {model.labels}",
                node=model.name,
                remedy="give it the same type in both tables",
            )
    return (
        features.join(right, on=list(model.key), how="inner")
        .with_columns(pl.max_horizontal("__start", "__label_start").alias("__known"))
        .sort("__start", *model.key)
    )


def _inputs(model: Model, features: pl.DataFrame) -> list[str]:
    _exist(model, features, model.exclude)
    dropped = {*model.key, model.target, TIME, "__start", *model.exclude}
    inputs = [name for name in features.columns if name not in dropped]
    if not inputs:
        raise ProjectError(
            f"{model.features} has no column to learn from beside key, target and exclude",
            node=model.name,
            remedy="add a column that is known when a prediction is made",
        )
    return inputs


def _exist(model: Model, features: pl.DataFrame, excluded: Sequence[str]) -> None:
    for name in excluded:
        if name not in features.columns:
            raise ProjectError(
                f"exclude names {name!r}, which {model.features} does not have",
                node=model.name,
                remedy=_nearest(name, features.columns),
            )


def _need_columns(model: Model, table: str, frame: pl.DataFrame, needed: Sequence[str], role: str) -> None:
    for name in needed:
        if name not in frame.columns:
            role_here = "time" if name == TIME and name not in model.key else role
            raise DataError(
                f"the {role_here} column {name!r} is missing in {table}",
                node=model.name,
                remedy=_nearest(name, frame.columns),
            )


def _nearest(name: str, existing: Sequence[str]) -> str:
    listed = f"the columns are {', '.join(c for c in existing if not c.startswith('__')) or 'none'}"
    near = get_close_matches(name, existing, n=1)
    return f"did you mean {near[0]!r}? {listed}" if near else listed


def _timed(model: Model, table: str, frame: pl.DataFrame) -> pl.DataFrame:
    dtype = frame.schema[TIME]
    if not isinstance(dtype, pl.Datetime) or dtype.time_zone is None:
        raise DataError(
            f"{table}.{TIME} is {dtype}, not a time with a zone",
            node=model.name,
            remedy=f'for example pl.col("{TIME}").dt.replace_time_zone("UTC")',
        )
    return frame.with_columns(pl.col(TIME).dt.epoch("us").alias("__start"))


def _refuse_duplicates(model: Model, table: str, frame: pl.DataFrame) -> None:
    key = list(model.key)
    keys = frame.select(key).drop_nulls()
    if keys.n_unique() == len(keys):
        return
    repeated = keys.group_by(key).len("rows").filter(pl.col("rows") > 1)
    example = repeated.sort(key).row(0, named=True)
    times_seen = example.pop("rows")
    raise DataError(
        f"{len(repeated):,} keys of {table} occur more than once, for example "
        f"{_listed(f'{name} = {value!r}' for name, value in example.items())} {times_seen} times",
        node=model.name,
        remedy=f"keep one row for each {_listed(key)}, or add the column that tells them apart to the key",
    )


def _target(model: Model, target: pl.Series) -> pl.Series:
    """The target as Boolean, Int64, Float64 or String; NaN is null."""
    dtype = target.dtype
    if dtype == pl.Boolean or dtype == pl.String:
        return target.alias(model.target)
    if dtype in (pl.Categorical, pl.Enum):
        return target.cast(pl.String).alias(model.target)
    if dtype.is_integer():
        return target.cast(pl.Int64).alias(model.target)
    if not dtype.is_numeric() and dtype != pl.Null:
        raise DataError(
            f"the target {model.labels}.{model.target} is {dtype}, which cannot be predicted",
            node=model.name,
            remedy="make it true or false, a text, or a number",
        )
    numbers = target.cast(pl.Float64).fill_nan(None)
    infinite = int(numbers.is_infinite().sum())
    if infinite:
        raise DataError(
            f"the target {model.labels}.{model.target} is infinite in {infinite:,} rows",
            node=model.name,
            remedy=f"make those rows null or a number in {model.labels}",
        )
    return numbers.alias(model.target)


def _listed(texts: Any) -> str:
    return ", ".join(texts)


def _date(at: Any, like: datetime) -> str:
    return f"{instant(int(at), like):%Y-%m-%d}"
