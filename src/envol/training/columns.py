"""Names of the predicted columns, everywhere: batch, online, backtest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envol.project.nodes import Task

PREDICTION = "prediction"
PROBABILITY = "probability"


def probability_column(label: Any) -> str:
    """The column of a class's probability in a multiclass task."""
    return f"{PROBABILITY}_{label}"


def prediction_columns(task: Task, classes: Sequence[Any] | None) -> list[str]:
    """The predicted columns of a task: `prediction`, and `probability` or one a class."""
    if task == "regression":
        return [PREDICTION]
    if task == "binary":
        return [PREDICTION, PROBABILITY]
    return [PREDICTION, *(probability_column(label) for label in classes or ())]
