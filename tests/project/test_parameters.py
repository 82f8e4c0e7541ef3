"""Parameters: a node's own section, then the shared ones, then the function's default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from envol.errors import ConfigError
from envol.project import Project
from envol.project.parameters import Parameters, Range

NODES = """
@source()
def flights(window: Window, limit: int, half=0.5) -> pl.DataFrame:
    return pl.DataFrame()

@table()
def late(flights: pl.DataFrame, limit: int = 7, text: str = "x") -> pl.DataFrame:
    return flights

@model(features="flights", labels="late", key="id", target="late", train="60d", every="7d")
def risk(X: pl.DataFrame, y: pl.Series, depth: int = 3):
    return None

@value(model="risk", unit="EUR")
def worth(outcomes: pl.DataFrame, saving: float = 1.0) -> pl.Series:
    return outcomes["prediction"]
"""
Load = Callable[..., Project]


def values(project: Project) -> dict[str, dict[str, Any]]:
    return {name: dict(found.values) for name, found in project.parameters.items() if found.values}


def refused(load: Load, config: str, *parts: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _ = load(NODES, config).parameters
    for part in parts:
        assert part in str(caught.value)


def test_a_nodes_own_come_before_the_shared_ones_before_the_default(load: Load) -> None:
    project = load(NODES, "[parameters]\nlimit = 1\n[parameters.late]\nlimit = 2\ntext = 'y'\n")
    assert values(project) == {
        "flights": {"limit": 1, "half": 0.5},
        "late": {"limit": 2, "text": "y"},
        "risk": {"depth": 3},
        "worth": {"saving": 1.0},
    }


def test_defaults_count_when_nothing_is_said(load: Load) -> None:
    project = load(NODES, "[parameters.flights]\nlimit = 1\n")
    assert values(project)["late"] == {"limit": 7, "text": "x"}
    assert project.parameters["risk_predictions"] == Parameters({}, {})


def test_a_missing_value(load: Load) -> None:
    refused(load, "", "node flights: the parameter 'limit' has no value", "under [parameters.flights]")


@pytest.mark.parametrize(
    ("config", "problem", "remedy"),
    [
        ("[parameters]\nlimt = 1", "envol.toml:5: [parameters] has 'limt'", "did you mean 'limit'?"),
        (
            "[parameters.flights]\nlimit = 1\n[parameters.late]\nlimt = 1",
            "envol.toml:7: [parameters.late] has 'limt'",
            "did you mean 'limit'?",
        ),
        (
            "[parameters]\nlimit = 1\n[parameters.lates]\nlimit = 1",
            "envol.toml:6: [parameters] has 'lates'",
            "did you mean 'late'?",
        ),
        ("[parameters]\nflights = 3", "envol.toml:5: [parameters] has 'flights'", "[parameters.flights]"),
        ("[parameters.flights]\nflights = 3", "envol.toml:5: [parameters.flights] has 'flights'", "limit"),
        ("[parameters.risk]\nwindow = 3", "envol.toml:5: [parameters.risk] has 'window'", "depth"),
    ],
)
def test_a_name_that_no_node_asks_for(load: Load, config: str, problem: str, remedy: str) -> None:
    refused(load, config, problem, remedy)


def test_a_range_counts_as_its_likely_value(load: Load) -> None:
    project = load(
        NODES, "[parameters]\nlimit = 1\n[parameters.worth]\nsaving = { low = 1, likely = 2, high = 3.5 }\n"
    )
    assert project.parameters["worth"].values == {"saving": 2.0}
    assert project.parameters["worth"].ranges == {"saving": Range(1.0, 2.0, 3.5)}


def test_a_table_gets_a_mapping_as_it_is(load: Load) -> None:
    project = load(NODES, "[parameters]\nlimit = { low = 3, high = 1 }\n")
    assert project.parameters["flights"].values["limit"] == {"low": 3, "high": 1}
    assert project.parameters["flights"].ranges == {}


@pytest.mark.parametrize(
    "given",
    [
        "{ low = 3, likely = 2, high = 4 }",
        "{ low = 1, likely = 2 }",
        "{ low = 1, likely = 2, high = 3, unit = 'EUR' }",
        "{ low = 1, likely = 2, high = 'much' }",
        "{ low = false, likely = 2, high = 3 }",
        "{ low = nan, likely = 2, high = 3 }",
        "{ low = 1, likely = 2, high = inf }",
    ],
)
def test_a_range_that_is_none(load: Load, given: str) -> None:
    config = f"[parameters]\nlimit = 1\n[parameters.worth]\nsaving = {given}\n"
    refused(load, config, "envol.toml:7: parameters.worth.saving: a range has low, likely and high")
