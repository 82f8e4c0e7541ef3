"""A project with registered models, and services that run on it."""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from envol.project import load_project
from envol.project.clock import SystemClock
from envol.registry import Registry
from envol.serving import ServerProcess
from envol.storage import Store
from envol.training import train

PATIENCE = 60
DAYS, ROWS = 30, 12
START = datetime(2013, 1, 1, tzinfo=UTC)
GOOD = {"distance": 700, "carrier": "UA", "passengers": 120, "wind": 3.5, "domestic": True}

TOML = """
[project]
name = "airport"
start = "2013-01-01"
"""

MODULE = '''
"""Flights that may be late; invented."""
import os
import time

import pandas as pd
import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.impute import SimpleImputer

import envol

COMMON = dict(features="flights", labels="arrivals", key="flight_id", train="20d", every="5d", folds=1)


@envol.source(every="1d")
def flights(window: envol.Window) -> pl.DataFrame: ...


@envol.source(every="1d")
def arrivals(window: envol.Window) -> pl.DataFrame: ...


def linear(final):
    numbers = make_pipeline(SimpleImputer(), StandardScaler(), final)
    columns = make_column_transformer((OneHotEncoder(), ["carrier"]), remainder="passthrough")
    return make_pipeline(columns, numbers)


@envol.model(target="late", **COMMON)
def delay_risk(X: pd.DataFrame, y: pd.Series):
    return linear(LogisticRegression()).fit(X, y)


@envol.model(target="delay", **COMMON)
def delay(X: pd.DataFrame, y: pd.Series):
    return linear(Ridge()).fit(X, y)


class Moody(DummyRegressor):
    """Waits for the file GATE when a distance is 1000, and fails when it is 1313."""

    def predict(self, X):
        if (X["distance"] == 1313).any():
            raise RuntimeError("a secret of the model's author")
        if (X["distance"] == 1000).any() and "GATE" in os.environ:
            print("waiting at the gate", flush=True)
            while not os.path.exists(os.environ["GATE"]):
                time.sleep(0.01)
        return super().predict(X)


@envol.model(target="delay", **COMMON)
def moody(X: pd.DataFrame, y: pd.Series):
    return Moody().fit(X, y)


@envol.model(target="late", **COMMON)
def idle(X: pd.DataFrame, y: pd.Series):
    return linear(LogisticRegression()).fit(X, y)
'''


def tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Features and labels of 30 days: passengers and wind are missing at times."""
    numbers = range(DAYS * ROWS)
    starts = [START + timedelta(days=number // ROWS) for number in numbers]
    features = pl.DataFrame(
        {
            "flight_id": [f"f{number}" for number in numbers],
            "distance": [200 + number * 37 % 900 for number in numbers],
            "carrier": [("AA", "UA", "B6")[number % 3] for number in numbers],
            "passengers": [None if number % 11 == 0 else 50 + number * 13 % 120 for number in numbers],
            "wind": [None if number % 7 == 0 else number * 17 % 40 / 4 for number in numbers],
            "domestic": [number % 2 == 0 for number in numbers],
            "window_start": starts,
        }
    )
    labels = pl.DataFrame(
        {
            "flight_id": features["flight_id"],
            "late": [number * 17 % 40 > 22 or number % 3 == 1 for number in numbers],
            "delay": [float(number * 17 % 40 + number % 3) for number in numbers],
            "window_start": starts,
        }
    )
    return features, labels


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project: delay_risk, delay and moody in two versions, the first the champion; idle has none."""
    root = tmp_path_factory.mktemp("airport")
    (root / "envol.toml").write_text(TOML)
    (root / "airport.py").write_text(textwrap.dedent(MODULE))
    project = load_project(root)
    features, labels = tables()
    with Store(project.store_path) as store:
        registry = Registry(store, SystemClock())
        champions = ("delay_risk", "delay", "moody")
        for name, days in [*((name, days) for name in champions for days in (25, 30)), ("idle", 30)]:
            cutoff = START + timedelta(days=days)
            node = project.graph.nodes[name]
            trained = train(node, features, labels, cutoff=cutoff, parameters={})
            registry.register(trained, fingerprint=f"{name}-{days}", lineage={"flights": 1}, run="test")
        for name in champions:
            registry.promote(name, 1, by="test", reason="first")
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    """A copy of the project that a test may change."""
    return Path(shutil.copytree(template, tmp_path / "airport"))


@pytest.fixture(scope="session")
def shared(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service for tests that leave it as it is: bodies up to 20,000 bytes, one prediction at a time."""
    copy = Path(shutil.copytree(template, tmp_path_factory.mktemp("shared") / "airport"))
    environment = {"GATE": str(copy / "gate"), "ENVOL_SERVE_BODY_LIMIT": "20000"}
    environment |= {"ENVOL_SERVE_THREADS": "1", "ENVOL_SERVE_QUEUE": "2"}
    with ServerProcess(copy, environment=environment, log=copy / "serve.log") as server:
        yield server


def until(true: Callable[[], Any]) -> None:
    """Wait until it is true; fails when that takes a minute."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.02)


@pytest.fixture
def client(shared: ServerProcess) -> Iterator[httpx.Client]:
    """A client of the shared service."""
    with httpx.Client(base_url=shared.url, timeout=PATIENCE) as client:
        yield client
