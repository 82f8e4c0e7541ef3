"""`envol.connect()` on a real project."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from small_project import SmallProject

import envol
from envol.errors import ConfigError, NotFoundError, UserError

MODULE = """
@source(every="1d")
def readings(window: Window) -> pl.DataFrame:
    heat = [float(window.start.day + row) for row in range(20)]
    return pl.DataFrame({"key": [f"{window.key}-{row}" for row in range(20)], "heat": heat})


@source(every="1d")
def faults(window: Window) -> pl.DataFrame:
    return readings(window).select("key", failed=pl.col("heat") % 3)


@model(features="readings", labels="faults", key="key", target="failed", train="4d", every="9d", folds=1,
       test="1d", task="regression", promote="manual")
def risk(X: pl.DataFrame, y: pl.Series):
    from sklearn.dummy import DummyRegressor

    return DummyRegressor().fit(X, y)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = SmallProject(tmp_path_factory.mktemp("connection") / "small")
    project.write(MODULE)
    toml = project.root / "envol.toml"
    toml.write_text(toml.read_text().replace('"UTC"', '"Europe/Paris"'))
    assert project.run("2024-01-08").state == "done"
    return project.root


def test_tables_are_listed_and_read(root: Path) -> None:
    with envol.connect(root) as connection:
        tables = connection.tables()
        assert tables["table"].to_list() == ["faults", "readings"]
        assert tables.filter(table="readings")["rows"].item() == 140
        assert "heat Float64" in tables.filter(table="readings")["columns"].item().to_list()
        frame = connection.table("readings")
        assert frame.shape == (140, 3) and frame.columns[-1] == "window_start"
        assert connection.scan("readings").filter(pl.col("heat") > 20).collect().height == 21
        assert connection.sql("select count(*) as n from readings").item() == 140


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2024-01-02", "2024-01-04"),
        (date(2024, 1, 2), date(2024, 1, 4)),
        (datetime(2024, 1, 2), datetime(2024, 1, 4)),
        (datetime(2024, 1, 1, 23, tzinfo=UTC), datetime(2024, 1, 3, 23, tzinfo=UTC)),
        ("2024-01-01T23:00+00:00", "2024-01-03T23:00Z"),
    ],
)
def test_a_range_is_in_the_time_zone_of_the_project(
    root: Path, start: envol.connection.Instant, end: envol.connection.Instant
) -> None:
    with envol.connect(str(root)) as connection:
        frame = connection.table("readings", start, end)
        assert connection.scan("readings", start, end).collect().equals(frame)
    assert frame["window_start"].unique().sort().to_list() == [
        datetime(2024, 1, 1, 23, tzinfo=UTC) + timedelta(days=day) for day in range(2)
    ]


def test_models_are_listed_and_loaded(root: Path) -> None:
    with envol.connect(root) as connection:
        models = connection.models()
        assert models.select("model", "version", "metric").row(0) == ("risk", 1, "mae")
        assert str(models["cutoff"][0]) == "2024-01-05 00:00:00+01:00"
        package = connection.model("risk", 1)
        answer = package.predict(pl.DataFrame({"heat": [1.0, 2.0]}))
        assert answer.columns == ["prediction"] and answer.height == 2
        with pytest.raises(NotFoundError, match="champion"):
            connection.model("risk")
        with pytest.raises(NotFoundError, match="did you mean 'risk'"):
            connection.model("rik", 1)


def test_nothing_can_be_written(root: Path) -> None:
    connection = envol.connect(root)
    for query in ("delete from readings", "create table x (a int)", "drop table faults"):
        with pytest.raises(UserError):
            connection.sql(query)
    connection.close()
    assert connection.sql("select count(*) from readings").item() == 140, "it opens again"
    connection.close()


def test_wrong_names_and_dates(root: Path, tmp_path: Path) -> None:
    with envol.connect(root) as connection:
        with pytest.raises(NotFoundError, match="readings"):
            connection.table("reading")
        with pytest.raises(ConfigError, match="yesterday"):
            connection.table("readings", start="yesterday")
    with pytest.raises(ConfigError, match="no envol.toml"):
        envol.connect(tmp_path)


def test_a_project_that_was_never_run_stays_untouched(tmp_path: Path) -> None:
    project = SmallProject(tmp_path / "fresh").write(MODULE)
    with envol.connect(project.root) as connection:
        assert connection.tables().is_empty() and connection.models().is_empty()
        with pytest.raises(NotFoundError, match="no tables yet"):
            connection.table("readings")
        with pytest.raises(NotFoundError, match="no models yet"):
            connection.model("risk")
    assert not project.store_path.exists()
