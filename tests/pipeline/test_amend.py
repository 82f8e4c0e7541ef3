"""What the conductor changes about a plan: windows held back, trainings besides."""

from __future__ import annotations

from collections.abc import Callable

from small_project import SmallProject

from envol.pipeline import Plan, Records
from envol.pipeline.amend import hold_back, leave_stale, newest_cutoff, with_training
from envol.project import load_project
from envol.project.nodes import Model
from envol.storage import Store

Make = Callable[..., SmallProject]
DAY = 86400
MODULE = """
    @source(every="1d")
    def cases(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"id": [f"{window.key} {n}" for n in range(40)], "x": range(40)})

    @source(every="1d")
    def other(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"y": [1.0]})

    @table(lookback={"cases": "1d"})
    def features(window: Window, cases: pl.DataFrame) -> pl.DataFrame:
        return cases.filter(pl.col("id").str.starts_with(window.key)).select("id", "x")

    @source(every="1d")
    def truth(window: Window) -> pl.DataFrame:
        return cases(window).select("id", large=pl.col("x") > 20)

    @model(features="features", labels="truth", key="id", target="large",
           train="3d", every="3d", folds=1, test="1d")
    def large(X: pl.DataFrame, y: pl.Series):
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression().fit(X, y)
"""


def _planned(plan: Plan) -> dict[str, list[str]]:
    return {
        name: [plan.schedule.label(node.node, index)[-2:] for index in node.planned.tolist()]
        for name, node in plan.nodes.items()
        if len(node.planned)
    }


def _start(plan: Plan, node: str, index: int) -> int:
    return int(plan.nodes[node].slots.keys[index])


def test_what_is_made_from_a_window_that_is_held_back_waits_too(project: Make) -> None:
    plan = project(MODULE).plan("2024-01-04")
    hold_back(plan, {"cases": [_start(plan, "cases", 1)]}, {})
    assert _planned(plan) == {
        "cases": ["01", "03"],
        "other": ["01", "02", "03"],
        "features": ["01"],
        "truth": ["01", "02", "03"],
    }


def test_the_champion_goes_on_while_a_training_is_held_back(project: Make) -> None:
    small = project(MODULE)
    plan = small.plan("2024-01-06")
    hold_back(plan, {"large": [_start(plan, "large", 0)]}, {})
    assert "large" not in _planned(plan) and "large_predictions" not in _planned(plan), "there is none yet"

    assert small.run("2024-01-06").failures == []
    plan = small.plan("2024-01-08")
    assert _planned(plan)["large"] == ["07"]
    with Store.of(load_project(small.root)) as store:
        promoted = Records(store.metadata).promoted_cutoffs()
    hold_back(plan, {"large": [_start(plan, "large", 1)]}, promoted)
    assert "large" not in _planned(plan)
    assert _planned(plan)["large_predictions"] == ["06", "07"]


def test_one_more_training_lies_at_the_newest_cutoff(project: Make) -> None:
    small = project(MODULE)
    found = load_project(small.root)
    too_early = small.plan("2024-01-03")
    assert with_training(found, too_early, "large") is None

    plan = small.plan("2024-01-06")
    node = plan.nodes["large"].node
    assert isinstance(node, Model)
    assert newest_cutoff(plan, node) == _start(plan, "cases", 0) + 5 * DAY
    extended = with_training(found, plan, "large")
    assert extended is not None and _planned(extended)["large"] == ["04", "06"]
    assert len(extended) == len(plan) + 1
    name, first, last = extended.input_slots("large", 1)[0]
    assert (name, first, last) == ("features", 1, 5), "4 days: 3 to train on, 1 to test"
    assert with_training(found, extended, "large") is extended


def test_stale_windows_are_left_while_what_is_due_goes_on(project: Make) -> None:
    small = project(MODULE)
    small.run("2024-01-04")
    small.edit("range(40)})", "range(0, 40)})")
    plan = small.plan("2024-01-05")
    assert len(_planned(plan)["cases"]) == 4
    assert leave_stale(plan) == 6  # three days of cases, and of truth, which names it
    assert _planned(plan)["cases"] == ["04"]
    assert _planned(plan)["features"] == ["04"]


def test_a_window_whose_input_came_out_otherwise_is_not_stale_by_an_edit(project: Make) -> None:
    small = project(MODULE)
    small.run("2024-01-04")
    small.edit("range(40)})", "range(1, 41)})")
    small.run("2024-01-04", nodes=["cases"])
    plan = small.plan("2024-01-04")
    leave_stale(plan)
    assert _planned(plan)["features"] == ["01", "02", "03"]
