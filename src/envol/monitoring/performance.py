"""How good a model's stored predictions were, now that the truth has arrived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from envol.errors import NotFoundError
from envol.project.nodes import Model, Task
from envol.training import PREDICTION, PROBABILITY, Metrics, evaluate, probability_column

if TYPE_CHECKING:
    from envol.project import Project
    from envol.storage import Store

MONTH = "month"


@dataclass(frozen=True)
class Performance:
    """Metrics over all outcomes so far, and by calendar month ("2013-07") in the project's time zone."""

    model: str
    windows: int
    overall: Metrics
    months: dict[str, Metrics]


def performance(project: Project, store: Store, model: str) -> Performance | None:
    """Compare the outcomes of a model with what it had predicted; None before there are any.

    Raises:
        NotFoundError: the project has no such model.
    """
    node = project.graph.nodes.get(model)
    if not isinstance(node, Model):
        known = ", ".join(one.name for one in project.graph.of(Model)) or "none"
        raise NotFoundError(f"no model is called {model!r}", remedy=f"models of this project: {known}")
    try:
        outcomes = store.lake.read(node.outcomes)
    except NotFoundError:
        return None
    outcomes = outcomes.drop_nulls(node.target)
    if outcomes.is_empty():
        return None
    return _measure(node, outcomes, project.config.project.timezone)


def _measure(node: Model, outcomes: pl.DataFrame, timezone: str) -> Performance:
    task = _task(node, outcomes)
    predicted = pl.col(f"^{PREDICTION}$|^{PROBABILITY}(_.*)?$")

    def metrics(rows: pl.DataFrame) -> Metrics:
        return evaluate(
            task,
            rows[node.target],
            rows.select(predicted),
            seed=node.seed,
            windows=rows["window_start"],
        )

    month = outcomes["window_start"].dt.convert_time_zone(timezone).dt.strftime("%Y-%m").alias(MONTH)
    groups = outcomes.with_columns(month).partition_by(MONTH, as_dict=True, maintain_order=True)
    return Performance(
        model=node.name,
        windows=outcomes["window_start"].n_unique(),
        overall=metrics(outcomes),
        months={str(key): metrics(rows) for (key,), rows in groups.items()},
    )


def _task(node: Model, outcomes: pl.DataFrame) -> Task:
    if node.task is not None:
        return node.task
    if PROBABILITY in outcomes.columns:
        return "binary"
    classes = outcomes[node.target].unique().to_list()
    named = any(probability_column(label) in outcomes.columns for label in classes)
    return "multiclass" if named else "regression"
