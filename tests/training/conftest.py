"""Projects in small: models declared as users declare them, on rows made to be learnable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from envol.project import nodes
from envol.project.nodes import Model

START = datetime(2013, 1, 1, tzinfo=UTC)


def declare(function: Callable[..., Any], **settings: Any) -> Model:
    """The node of a function decorated with `model`, as the graph would find it."""
    function.__globals__.pop("__envol_nodes__", None)
    settings = {
        "features": "departures",
        "labels": "arrivals",
        "key": "id",
        "target": "late",
        "train": "60d",
        "every": "10d",
        **settings,
    }
    node: Model = nodes.model(**settings)(function).__envol_node__  # type: ignore[attr-defined]
    return node


def make_tables(days: int = 100, per_day: int = 20, seed: int = 1) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Departures (id, hour, wind with gaps, carrier) and arrivals (id, late, minutes, cause)."""
    random = np.random.default_rng(seed)
    rows = days * per_day
    day = np.repeat(np.arange(days), per_day)
    storm = np.repeat(random.normal(size=days), per_day)
    hour, wind = random.integers(5, 23, rows), storm + random.normal(size=rows)
    carrier = random.choice(["AA", "B6", "UA"], rows)
    score = 0.15 * (hour - 14) + wind + (carrier == "B6") - 1.2
    late = random.random(rows) < 1 / (1 + np.exp(-score))
    minutes = 10 * score + random.normal(size=rows) * 8
    cause = np.where(~late, "none", np.where(wind > 0.5, "weather", "carrier"))
    window = pl.Series(
        "window_start", [START + timedelta(days=int(d)) for d in day], pl.Datetime("us", "UTC")
    )
    departures = pl.DataFrame(
        {
            "id": np.arange(rows),
            "hour": hour,
            "wind": pl.Series(wind).set(pl.Series(random.random(rows) < 0.05), None),
            "carrier": carrier,
            "window_start": window,
        }
    )
    arrivals = pl.DataFrame(
        {"id": np.arange(rows), "late": late, "minutes": minutes, "cause": cause, "window_start": window}
    )
    return departures, arrivals


Tables = tuple[pl.DataFrame, pl.DataFrame]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """OpenMP threads of several processes on few cores would spin rather than work."""
    import sklearn.ensemble  # noqa: F401  the limit reaches only libraries that are loaded
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


@pytest.fixture(scope="session")
def declared() -> Callable[..., Model]:
    return declare


@pytest.fixture(scope="session")
def tables() -> Callable[..., Tables]:
    return make_tables


@pytest.fixture(scope="session")
def flights() -> Tables:
    """A hundred days of twenty departures, from `START` to `cutoff`."""
    return make_tables()


@pytest.fixture(scope="session")
def cutoff() -> datetime:
    return START + timedelta(days=100)
