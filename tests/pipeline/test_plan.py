"""What a plan holds, and why."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest
from small_project import SmallProject

from envol.errors import ProjectError
from envol.pipeline.schedule import Schedule
from envol.project import load_project

CHAIN = """
    FACTOR = 2

    class Numbers(dy.Schema):
        n = dy.Int64(min=0)

    @source(every="1d", contract=Numbers)
    def numbers(window: Window, rows: int = 3) -> pl.DataFrame:
        first = int(window.start.timestamp()) // 86400
        return pl.DataFrame({"n": range(first, first + rows)})

    @table(lookback={"numbers": "2d"})
    def doubled(numbers: pl.DataFrame, window: Window) -> pl.DataFrame:
        return numbers.select(total=pl.col("n").sum() * FACTOR)

    @table(every="1w")
    def weekly(doubled: pl.LazyFrame) -> pl.LazyFrame:
        return doubled.select(pl.col("total").max())
"""
Make = Callable[..., SmallProject]
pytestmark = pytest.mark.usefixtures("storage")


def test_a_new_project_has_everything_missing(project: Make) -> None:
    assert project(CHAIN).reasons() == {
        "numbers": {"missing": 10},
        "doubled": {"missing": 10},
        "weekly": {"missing": 1},
    }


def test_after_a_run_nothing_is_to_do_until_a_window_falls_due(project: Make) -> None:
    small = project(CHAIN)
    assert small.run().state == "done"
    assert small.reasons() == {}
    assert small.run().state == "nothing"
    assert small.reasons("2024-01-13") == {"numbers": {"due": 2}, "doubled": {"due": 2}}


def test_a_code_change_makes_the_node_and_its_readers_stale(project: Make) -> None:
    small = project(CHAIN)
    small.run()
    small.edit('pl.col("n").sum()', 'pl.col("n").mean()')
    assert small.reasons() == {"doubled": {"code changed": 10}, "weekly": {"inputs changed": 1}}


def test_a_constant_that_the_code_names_counts_and_a_comment_does_not(project: Make) -> None:
    small = project(CHAIN)
    small.run()
    small.edit("FACTOR = 2", "FACTOR = 2  # twice")
    assert small.reasons() == {}
    small.edit("FACTOR = 2", "FACTOR = 3")
    assert set(small.reasons()) == {"doubled", "weekly"}


def test_parameters_and_contracts_are_reasons_of_their_own(project: Make) -> None:
    small = project(CHAIN)
    small.run()
    small.edit("n = dy.Int64(min=0)", "n = dy.Int64(min=1)")
    assert small.reasons()["numbers"] == {"contract changed": 10}
    small.edit("n = dy.Int64(min=1)", "n = dy.Int64(min=0)")
    (small.root / "envol.toml").write_text(
        (small.root / "envol.toml").read_text() + "[parameters.numbers]\nrows = 5\n"
    )
    assert small.reasons()["numbers"] == {"parameters changed": 10}


def test_a_remade_input_that_comes_out_the_same_stops_there(project: Make) -> None:
    small = project(CHAIN)
    small.run()
    before = small.table("doubled")
    result = small.run(nodes=["numbers"], rerun=True)
    assert (result.done, result.state) == (10, "done")
    assert small.reasons() == {}
    small.edit("range(first, first + rows)", "list(range(first, first + rows))")
    result = small.run()
    assert (result.done, result.unchanged) == (10, 11)
    assert small.table("doubled").equals(before)


def test_named_nodes_bring_what_they_are_made_from_and_no_more(project: Make) -> None:
    small = project(CHAIN)
    assert set(small.reasons(nodes=["doubled"])) == {"numbers", "doubled"}
    with pytest.raises(ProjectError, match="'dubled'.*\n.*'doubled'"):
        small.plan(nodes=["dubled"])


def test_a_delay_and_a_lookback_move_what_is_due(project: Make) -> None:
    small = project(
        """
        @source(every="1d", delay="36h")
        def late(window: Window) -> pl.DataFrame:
            return pl.DataFrame({"n": [1]})

        @source(every="1h")
        def hourly(window: Window) -> pl.DataFrame:
            return pl.DataFrame({"h": [window.start.hour]})

        @table(every="1d", lookback={"hourly": "6h"})
        def both(late: pl.DataFrame, hourly: pl.DataFrame) -> pl.DataFrame:
            return hourly.select(pl.len())
        """
    )
    plan = small.plan("2024-01-05")
    assert len(plan.nodes["late"].slots) == 2
    assert len(plan.nodes["hourly"].slots) == 96
    assert len(plan.nodes["both"].slots) == 2
    node = plan.nodes["both"].node
    assert [end - start for _, start, end in plan.schedule.input_ranges(node, 1)] == [24 * 3600, 30 * 3600]
    # The first window looks back to where the project begins, and no further.
    assert [end - start for _, start, end in plan.schedule.input_ranges(node, 0)] == [24 * 3600, 24 * 3600]


def test_a_project_that_ends_has_no_window_after(project: Make) -> None:
    small = project(CHAIN)
    config = small.root / "envol.toml"
    config.write_text(config.read_text() + 'end = "2024-01-04"\n')
    assert small.reasons() == {"numbers": {"missing": 3}, "doubled": {"missing": 3}}


def test_a_project_that_has_not_begun_plans_nothing(project: Make) -> None:
    small = project(CHAIN)
    assert small.reasons("2023-12-01") == {}
    assert small.run("2023-12-01").state == "nothing"


def test_windows_follow_the_clock_changes(project: Make) -> None:
    small = project(CHAIN)
    config = small.root / "envol.toml"
    config.write_text(
        config.read_text().replace('"UTC"', '"Europe/Paris"').replace("2024-01-01", "2024-03-30")
    )
    loaded = load_project(small.root)
    slots = Schedule(loaded, datetime.fromisoformat("2024-04-02T00:00:00+02:00")).slots["numbers"]
    assert [(end - start) // 3600 for start, end in zip(slots.starts, slots.ends, strict=True)] == [
        24,
        23,
        24,
    ]


def test_models_are_due_at_their_cutoffs(project: Make) -> None:
    small = project(
        CHAIN
        + """
    @source(every="1d", delay="2d")
    def truth(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"n": [1], "y": [True]})

    @model(
        features="numbers", labels="truth", key="n", target="y", train="3d", every="4d", folds=1, test="1d"
    )
    def guess(X: pl.DataFrame, y: pl.Series):
        raise NotImplementedError
    """
    )
    plan = small.plan("2024-01-12")
    # Labels of the day before the cutoff arrive two days after it has ended.
    assert [plan.schedule.label(plan.nodes["guess"].node, i) for i in plan.nodes["guess"].planned] == [
        "2024-01-04",
        "2024-01-08",
    ]
    starts = plan.nodes["guess_predictions"].slots.starts
    assert starts[0] == plan.nodes["guess"].slots.keys[0]
    assert len(starts) == 8
    assert len(plan.nodes["guess_outcomes"].slots) == 6
    assert small.plan("2024-01-05").nodes["guess_predictions"].obstacles() == {"no champion yet": 1}
