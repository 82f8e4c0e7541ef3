"""Rows of features through a version of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from envol.errors import DataError

if TYPE_CHECKING:
    from envol.project.nodes import Model
    from envol.registry import Package, Problem

MODEL_VERSION = "model_version"


def predict(model: Model, package: Package, features: pl.DataFrame) -> tuple[pl.DataFrame, dict[int, str]]:
    """The predictions of the rows that the model can read, and by number why it cannot read the others.

    Raises:
        DataError: it can read none, as a column is missing or has another type.
    """
    fields = [field.name for field in package.signature.fields]
    inputs, problems = package.signature.conform(
        features.select(name for name in fields if name in features.columns), most=None
    )
    refused = _reasons(model, problems)
    good = ~pl.int_range(features.height, eager=True).is_in(list(refused))
    predicted = package.predict(inputs.filter(good), checked=True)
    frame = pl.concat([features.select(*model.key).filter(good), predicted], how="horizontal")
    return frame.with_columns(pl.lit(package.version, pl.Int64).alias(MODEL_VERSION)), refused


def _reasons(model: Model, problems: Sequence[Problem]) -> dict[int, str]:
    from envol.registry import ALL_ROWS, described

    if whole := [problem for problem in problems if problem.row == ALL_ROWS]:
        raise DataError(
            f"the model cannot read {model.features}: {described(whole)}",
            remedy=f"train it again on the table as it is: envol run --node {model.name} --rerun",
        )
    reasons: dict[int, str] = {}
    for problem in problems:
        told = f"{problem.field}: {problem.problem}"
        reasons[problem.row] = f"{reasons[problem.row]}, {told}" if problem.row in reasons else told
    return reasons
