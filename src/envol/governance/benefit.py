"""The benefit range: what a model's decisions are worth in a year, with what is uncertain about it.

Two things are drawn at once: which weeks happened (a moving block bootstrap over windows, Kuensch 1989, as
days follow each other) and the assumptions (a triangular distribution over low, likely, high).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from envol.errors import NotFoundError
from envol.project.frames import to_kind, to_numbers
from envol.project.nodes import Value
from envol.project.parameters import Range

if TYPE_CHECKING:
    from envol.project import Project
    from envol.storage import Store

DRAWS = 200
BLOCK = 7
SECONDS_A_YEAR = 365.25 * 86_400


@dataclass(frozen=True)
class Benefit:
    """Yearly effect in `unit`: the 10 %, 50 % and 90 % quantiles over all draws.

    `windows` is how many windows with outcomes it was measured on, `assumptions` the ranges drawn from.
    """

    value: str
    unit: str
    p10: float
    p50: float
    p90: float
    windows: int
    rows: int
    assumptions: Mapping[str, Range]


def benefit_range(
    project: Project, store: Store, value: str, *, draws: int = DRAWS, seed: int = 0
) -> Benefit | None:
    """Extrapolate the worth of a model's outcomes so far to a year; None before there are outcomes.

    Raises:
        NotFoundError: the project has no such value node.
        EnvolError: the node's function fails or returns something else than numbers.
    """
    node = project.graph.nodes.get(value)
    if not isinstance(node, Value):
        known = ", ".join(one.name for one in project.graph.of(Value)) or "none"
        raise NotFoundError(f"no value is called {value!r}", remedy=f"values of this project: {known}")
    try:
        outcomes = store.lake.read(node.inputs[0])
    except NotFoundError:
        return None
    if outcomes.is_empty():
        return None
    parameters = project.parameters[value]
    random = np.random.default_rng(seed)
    starts, window = np.unique(outcomes["window_start"].to_physical().to_numpy(), return_inverse=True)
    # One window has no successor to tell its length from: the node's period does.
    period = project.graph.period_of(value)
    first = project.calendar.from_epoch(period, int(starts[0] // 1_000_000))
    last = project.calendar.from_epoch(period, int(starts[-1] // 1_000_000))
    years = (last.end - first.start).total_seconds() / SECONDS_A_YEAR
    totals = np.empty(draws)
    for draw in range(draws):
        drawn = {name: _triangular(random, span) for name, span in parameters.ranges.items()}
        worth = _worth(node, outcomes, {**parameters.values, **drawn})
        by_window = np.bincount(window, weights=worth, minlength=len(starts))
        totals[draw] = by_window[_blocks(random, len(starts))].sum() / years
    p10, p50, p90 = np.quantile(totals, [0.1, 0.5, 0.9])
    return Benefit(
        value=value,
        unit=node.unit,
        p10=float(p10),
        p50=float(p50),
        p90=float(p90),
        windows=len(starts),
        rows=outcomes.height,
        assumptions=parameters.ranges,
    )


def _worth(node: Value, outcomes: pl.DataFrame, parameters: Mapping[str, object]) -> NDArray[np.float64]:
    first = node.arguments[0]
    frame = to_kind(outcomes, first.kind if first.is_input else "polars")
    result = node.function(frame, **parameters)
    return to_numbers(result, outcomes.height, node.name).fill_null(0.0).to_numpy()


def _triangular(random: np.random.Generator, span: Range) -> float:
    if span.low == span.high:
        return span.likely
    return float(random.triangular(span.low, span.likely, span.high))


def _blocks(random: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Indexes of as many windows as there are, drawn as runs of a week that wrap around."""
    length = min(BLOCK, count)
    starts = random.integers(0, count, size=-(-count // length))
    return ((starts[:, None] + np.arange(length)) % count).ravel()[:count]
