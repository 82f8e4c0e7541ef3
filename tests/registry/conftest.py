"""A model with hard inputs: whole numbers with gaps, floats with gaps, texts, truth values."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from servers import Postgres, place
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from envol.project import nodes
from envol.project.clock import FixedClock
from envol.project.nodes import Model
from envol.registry import Registry
from envol.storage import Store
from envol.storage.place import Database, Place
from envol.training import Trained, train

START = datetime(2013, 1, 1, tzinfo=UTC)
CUTOFF = START + timedelta(days=40)
NOW = datetime(2013, 3, 1, 12, tzinfo=UTC)


def declared(function: Callable[..., Any], **settings: Any) -> Model:
    """The node of a function decorated with `model`, as the graph would find it."""
    function.__globals__.pop("__envol_nodes__", None)
    settings = {
        "features": "departures",
        "labels": "arrivals",
        "key": "id",
        "target": "late",
        "train": "30d",
        "every": "10d",
        "folds": 1,
        **settings,
    }
    node: Model = nodes.model(**settings)(function).__envol_node__  # type: ignore[attr-defined]
    return node


def delay_risk(X: pl.DataFrame, y: pl.Series) -> Pipeline:
    """Whether a flight is late."""
    texts = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["carrier", "remark"]),
        ("passthrough", ["stops", "seats", "wind", "night"]),
    )
    return make_pipeline(texts, HistGradientBoostingClassifier(max_iter=15, random_state=0)).fit(X, y)


def tables(days: int = 40, per_day: int = 15) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Departures with every kind of input, and what became of them."""
    random = np.random.default_rng(7)
    rows = days * per_day
    wind, stops = random.normal(size=rows), random.integers(0, 4, rows)
    carrier = random.choice(["AA", "B6", "UA"], rows)
    late = random.random(rows) < 1 / (1 + np.exp(-(2 * wind + stops + (carrier == "B6") - 2)))
    window = pl.Series(
        [START + timedelta(days=day) for day in range(days) for _ in range(per_day)],
        dtype=pl.Datetime("us", "UTC"),
    )
    features = pl.DataFrame(
        {
            "id": np.arange(rows),
            "stops": pl.Series(stops).set(pl.Series(random.random(rows) < 0.1), None),
            "seats": random.integers(50, 300, rows).astype(np.int32),
            "wind": pl.Series(wind).set(pl.Series(random.random(rows) < 0.1), None),
            "carrier": carrier,
            "remark": pl.Series(random.choice(["", "de-iced"], rows)).set(
                pl.Series(random.random(rows) < 0.5), None
            ),
            "night": random.random(rows) < 0.3,
            "day": [date(2013, 1, 1) + timedelta(days=day) for day in range(days) for _ in range(per_day)],
            "window_start": window,
        }
    )
    return features, pl.DataFrame({"id": np.arange(rows), "late": late, "window_start": window})


def trained_with(function: Callable[..., Any], **settings: Any) -> Trained:
    node = declared(function, exclude=("day",), **settings)
    return train(node, *tables(), cutoff=CUTOFF, parameters={})


@pytest.fixture(scope="session")
def trained() -> Trained:
    return trained_with(delay_risk)


@pytest.fixture
def metadata_in() -> str:
    """Where the metadata are: "sqlite", but for tests that override it."""
    return "sqlite"


@pytest.fixture
def store(tmp_path: Path, metadata_in: str) -> Iterator[Store]:
    with Store(place(tmp_path / "store")) as store:
        yield store


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def registry(store: Store, clock: FixedClock) -> Registry:
    return Registry(store, clock)


def simple(X: pl.DataFrame, y: pl.Series) -> DummyClassifier:
    return DummyClassifier(strategy="prior").fit(X, y)


@pytest.fixture(scope="session")
def quick(trained: Trained) -> Trained:
    """The same with a model that takes no time."""
    return replace(trained, estimator=simple(trained.X, trained.y))


def register_three(place: Path | Place, quick: Trained) -> None:
    """Three versions, cut off 40, 50 and 60 days after the start."""
    with Store(place) as store:
        registry = Registry(store, FixedClock(NOW))
        for days in (0, 10, 20):
            later = replace(quick, cutoff=CUTOFF + timedelta(days=days))
            registry.register(
                later, fingerprint=f"f{days}", lineage={"departures": {"snapshot": days}}, run="r1"
            )


@pytest.fixture(scope="session")
def three_versions(tmp_path_factory: pytest.TempPathFactory, quick: Trained) -> Path:
    """A store with three versions; only to be copied."""
    folder = tmp_path_factory.mktemp("registry") / "store"
    register_three(folder, quick)
    return folder


@pytest.fixture(scope="session")
def three_in_postgres(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, quick: Trained
) -> tuple[Path, str]:
    """The same with the metadata in PostgreSQL: the folder, and the url."""
    folder, url = tmp_path_factory.mktemp("registry") / "store", postgres.new_database()
    register_three(Place(folder, Database(url, "test")), quick)
    return folder, url


@pytest.fixture
def versions(
    request: pytest.FixtureRequest, metadata_in: str, tmp_path: Path, clock: FixedClock
) -> Iterator[Registry]:
    with ExitStack() as held:
        database = None
        if metadata_in == "sqlite":
            folder = request.getfixturevalue("three_versions")
        else:
            folder, url = request.getfixturevalue("three_in_postgres")
            postgres: Postgres = request.getfixturevalue("postgres")
            database = Database(held.enter_context(postgres.copy_of(url)), "test")
        shutil.copytree(folder, tmp_path / "versions")
        store = held.enter_context(Store(Place(tmp_path / "versions", database)))
        yield Registry(store, clock)
