"""Stale windows kept as they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_project import SmallProject
from sqlalchemy import select

from envol.errors import BusyError, ProjectError
from envol.pipeline import accepting, run_lease
from envol.project import load_project
from envol.project.clock import FixedClock
from envol.storage import Store, tables

CHAIN = """
    @source(every="1d")
    def numbers(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"n": [window.start.day]})

    @table()
    def doubled(numbers: pl.DataFrame) -> pl.DataFrame:
        return numbers * 2

    @table(every="1w")
    def weekly(doubled: pl.DataFrame) -> pl.DataFrame:
        return doubled.select(pl.col("n").sum())
"""
Make = Callable[..., SmallProject]
pytestmark = pytest.mark.usefixtures("storage")


def accept(small: SmallProject, **options) -> dict[str, int]:
    project = load_project(small.root)
    with Store.of(project) as store:
        told = accepting.accept(
            project, store, FixedClock(small.now), by="ada", reason="the same numbers", **options
        )
    return {one.node: one.windows for one in told}


def test_accepted_windows_are_not_made_again_and_it_is_on_record(project: Make) -> None:
    small = project(CHAIN)
    small.run()
    before = small.table("doubled")
    small.edit("numbers * 2", "2 * numbers")
    assert small.reasons() == {"doubled": {"code changed": 10}, "weekly": {"inputs changed": 1}}
    assert accept(small) == {"doubled": 10}
    assert small.reasons() == {}
    assert small.run().state == "nothing"
    assert small.table("doubled").equals(before)
    with Store.of(load_project(small.root)) as store, store.metadata.connect() as connection:
        [row] = connection.execute(select(tables.acceptance)).mappings()
        made = connection.execute(select(tables.materialization).limit(1)).mappings().one()
    assert (row["node"], row["windows"], row["by"], row["reason"]) == (
        "doubled",
        10,
        "ada",
        "the same numbers",
    )
    assert made["definition"] != row["definition"]


def test_only_a_range_is_accepted_and_the_rest_is_made(project: Make) -> None:
    small = project(CHAIN)
    small.run()
    small.edit("numbers * 2", "numbers * 3")
    assert accept(small, end=small.now.replace(day=6)) == {"doubled": 5}
    assert small.run().done == 6  # five days, and the week that reads them
    assert small.table("doubled")["n"].to_list() == sorted([2, 4, 6, 8, 10, 18, 21, 24, 27, 30])


def test_what_an_input_made_stale_is_accepted_once_the_input_is_up_to_date(project: Make) -> None:
    small = project(CHAIN)
    small.run()
    small.edit("[window.start.day]", "[window.start.day + 1]")
    assert accept(small, nodes=["doubled"]) == {}  # its input is to be made first
    small.run(nodes=["numbers"])
    assert accept(small, nodes=["doubled"]) == {"doubled": 10}
    assert small.reasons() == {}
    assert small.table("doubled")["n"].min() == 2


def test_a_later_change_makes_accepted_windows_stale_again(project: Make) -> None:
    small = project(CHAIN)
    small.run()
    small.edit("numbers * 2", "numbers * 3")
    accept(small)
    small.edit("numbers * 3", "numbers * 4")
    assert small.reasons()["doubled"] == {"code changed": 10}


def test_it_refuses_an_unknown_node_and_waits_for_no_run(project: Make) -> None:
    small = project(CHAIN)
    small.run()
    with pytest.raises(ProjectError, match="'dobled'"):
        accept(small, nodes=["dobled"])
    with Store.of(load_project(small.root)) as store, run_lease(store.metadata).held():
        with pytest.raises(BusyError):
            accept(small)
