"""A clock that is set back, between runs and in the middle of one: no window is lost or made twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime

import pytest
from evidence import NOTED, calls, check_agreement, rows
from small_project import SmallProject
from sqlalchemy import select

from envol.cli.history import last_runs
from envol.pipeline import Control, RunResult, make_plan, run
from envol.project import load_project
from envol.project.clock import FileClock
from envol.storage import tables

Make = Callable[..., SmallProject]
pytestmark = pytest.mark.usefixtures("storage")
MODULE = (
    NOTED
    + """
    @source(every="1d", delay="6h", reread=2)
    def days(window: Window) -> pl.DataFrame:
        note("days", window)
        back = HERE / f"back-at-{window.start.day}"
        if back.exists():
            back.rename(HERE.parent / "clock")
        return pl.DataFrame({"day": [window.start.day]})

    @table()
    def doubled(days: pl.DataFrame) -> pl.DataFrame:
        return days * 2
"""
)


class Timed:
    """A small project whose runs go by a clock in a file."""

    def __init__(self, small: SmallProject) -> None:
        self.small = small
        self._file = small.root.parent / "clock"
        self.clock = FileClock(self._file)

    def at(self, day: str) -> Timed:
        self._file.write_text(f"2024-01-{day}:00:00+00:00")
        return self

    def run(self) -> RunResult:
        project = load_project(self.small.root)
        with self.small.store() as store:
            return run(project, store, self.clock, workers=1)

    def reasons(self) -> dict[str, dict[str, int]]:
        with self.small.store() as store:
            plan = make_plan(load_project(self.small.root), store, self.clock)
        return {name: dict(node.reasons()) for name, node in plan.nodes.items() if node.reasons()}

    def times_read(self) -> list[int]:
        """How often each day was read, from the first on."""
        counts = Counter(call.window for call in calls(self.small))
        return [count for _, count in sorted(counts.items())]


@pytest.fixture
def timed(project: Make) -> Timed:
    return Timed(project(MODULE))


def test_set_back_between_runs(timed: Timed) -> None:
    assert timed.at("06T06").run().done == 10
    assert timed.times_read() == [1] * 5
    assert timed.at("03T00").reasons() == {}
    assert timed.run().state == "nothing"
    timed.at("06T06")
    assert timed.run().state == "nothing"
    timed.at("07T06")
    assert timed.reasons()["days"] == {"due": 1, "read again for late rows": 2}
    assert timed.run().done == 4, "what was read again came out as before"
    assert timed.times_read() == [1, 1, 1, 2, 2, 1]
    check_agreement(timed.small, "days", "doubled")
    assert timed.small.table("days")["day"].to_list() == [1, 2, 3, 4, 5, 6]


def test_set_back_in_the_middle_of_a_run(timed: Timed) -> None:
    (timed.small.root / "back-at-3").write_text("2024-01-02T00:00:00+00:00")
    assert timed.at("06T06").run().done == 10
    assert timed.clock.now() == datetime.fromisoformat("2024-01-02T00:00:00+00:00")
    assert timed.run().state == "nothing"
    run, made = tables.run.c, tables.materialization.c
    [(began, ended)] = rows(timed.small, select(run.started_at, run.ended_at))
    assert ended >= began
    assert {at >= began for (at,) in rows(timed.small, select(made.made_at))} == {True}
    timed.at("06T07")
    assert timed.reasons() == {}, "nothing was read before it was complete, so nothing is read again"
    timed.at("07T06").run()
    assert timed.times_read() == [1, 1, 1, 2, 2, 1]
    check_agreement(timed.small, "days", "doubled")


def test_runs_of_one_second_and_of_an_earlier_hour_are_told_apart_and_in_their_order(timed: Timed) -> None:
    for day in ("03T06", "03T06", "05T06", "02T06", "04T06"):
        timed.at(day)
        timed.small.edit("return days * 2", "return days * 2 + 0")
        assert timed.run().state == "done"
    with timed.small.store() as store:
        listed = last_runs(store, 10)
    assert len({one["run"] for one in listed}) == 5
    assert [one["started_at"].day for one in reversed(listed)] == [3, 3, 5, 2, 4]
    check_agreement(timed.small, "days", "doubled")


def test_what_is_asked_for_again_at_an_earlier_hour_is_not_taken_for_what_was_done(timed: Timed) -> None:
    with timed.small.store() as store:
        control = Control(store.metadata, timed.at("05T06").clock)
        control.retrain("large", "ann", "it drifts")
        done = control.wishes().retrain["large"]
        timed.at("05T05")
        control.retrain("large", "ben", "it drifts still")
        control.retrained("large", done)
        assert control.wishes().retrain["large"].by == "ben"
