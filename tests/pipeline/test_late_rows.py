"""Rows that come late, history before the window, and shares of broken rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_project import SmallProject

from envol.errors import ProjectError

Make = Callable[..., SmallProject]
pytestmark = pytest.mark.usefixtures("storage")
REREAD = """
    from pathlib import Path

    @source(every="1d", delay="6h", reread=2)
    def numbers(window: Window) -> pl.DataFrame:
        with open(Path(__file__).parent / "read.txt", "a") as file:
            file.write(window.key[-2:] + "\\n")
        late = Path(__file__).parent / f"late-{window.key}.txt"
        return pl.DataFrame({"n": [window.start.day] * (2 if late.exists() else 1)})

    @table()
    def counts(numbers: pl.DataFrame) -> pl.DataFrame:
        return numbers.select(pl.len())
"""
HISTORY = """
    @source(every="1d")
    def planned(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"day": [window.start.day]})

    @source(every="1d", delay="2d")
    def arrived(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"day": [window.start.day]})

    @table(history={"arrived": "3d"})
    def features(planned: pl.DataFrame, arrived: pl.DataFrame) -> pl.DataFrame:
        return planned.select("day", seen=pl.lit(arrived["day"].to_list(), pl.List(pl.Int64)))
"""


def read(small: SmallProject) -> list[int]:
    path = small.root / "read.txt"
    days = [int(day) for day in path.read_text().split()]
    path.unlink()
    return sorted(days)


def test_the_last_windows_are_read_again_when_one_falls_due(project: Make) -> None:
    small = project(REREAD)
    small.run("2024-01-06")  # the fifth is complete at six o'clock
    assert read(small) == [1, 2, 3, 4]
    assert small.reasons("2024-01-06") == {}
    (small.root / "late-2024-01-03.txt").touch()
    (small.root / "late-2024-01-02.txt").touch()
    assert small.reasons("2024-01-07")["numbers"] == {"due": 1, "read again for late rows": 2}
    result = small.run("2024-01-07")
    assert read(small) == [3, 4, 5]
    assert (result.done, result.unchanged) == (5, 1)  # the fourth came out as before
    assert small.table("counts")["len"].to_list() == [1, 1, 1, 1, 2]
    assert small.run("2024-01-07").state == "nothing"


def test_after_days_off_each_window_is_read_again_once(project: Make) -> None:
    small = project(REREAD)
    small.run("2024-01-06")
    read(small)
    small.run("2024-01-10")
    assert read(small) == [3, 4, 5, 6, 7, 8]
    assert small.reasons("2024-01-10") == {}


def test_history_is_what_came_before_the_window_and_need_not_wait_for_it(project: Make) -> None:
    small = project(HISTORY)
    plan = small.plan("2024-01-09")
    due = {name: len(node.slots) for name, node in plan.nodes.items()}
    assert due == {"planned": 8, "arrived": 6, "features": 7}
    assert small.run("2024-01-09").failed == 0
    small.run("2024-01-09")
    seen = dict(small.table("features").select("day", "seen").iter_rows())
    assert seen[1] == []
    assert {day: sorted(days) for day, days in seen.items() if day > 1} == {
        day: [one for one in (day - 3, day - 2, day - 1) if one >= 1] for day in range(2, 8)
    }
    small.edit('{"day": [window.start.day]})\n\n    @table'.replace("    @", "@"), '{"day": [0]})\n\n@table')
    assert small.reasons("2024-01-09")["features"] == {"inputs changed": 6}


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ('history={"planed": "1d"}', "'planed', which is no input"),
        ('history={"planned": "1d"}', "all its inputs are in history"),
        ('lookback={"planned": "1d"}, history={"planned": "1d"}', "both in lookback and in history"),
        ('history={"planned": "0d"}', "'0d' is not possible"),
    ],
)
def test_a_history_that_cannot_be_is_refused(project: Make, declared: str, problem: str) -> None:
    small = project(
        f"""
        @source(every="1d")
        def planned(window: Window) -> pl.DataFrame:
            return pl.DataFrame()

        @table({declared})
        def features(planned: pl.DataFrame) -> pl.DataFrame:
            return planned
        """
    )
    with pytest.raises(ProjectError, match=problem):
        small.plan()


def test_too_large_a_share_of_broken_rows_fails_the_window(project: Make) -> None:
    small = project(
        """
        class Positive(dy.Schema):
            n = dy.Int64(min=0)

        @source(every="1d", contract=Positive, max_broken=0.25)
        def numbers(window: Window) -> pl.DataFrame:
            return pl.DataFrame({"n": [1, 2, 3, -1] + [-1] * (window.start.day - 1)})
        """
    )
    result = small.run("2024-01-03")
    assert (result.done, result.failed) == (1, 1)
    [failure] = result.failures
    assert failure.window == "2024-01-02"
    assert "2 of 5 rows break the contract (at most 0.25 of them may): 2 x n: min" in failure.message
    assert small.table("numbers").height == 3
    assert small.table("numbers_quarantine").height == 3
