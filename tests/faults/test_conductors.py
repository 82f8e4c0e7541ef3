"""Several conductors of one project on PostgreSQL, some of which are killed, and the database as well."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest
from conducting import Conducted, Conductor
from evidence import NOTED, calls, check_agreement, rows, until
from servers import Postgres
from small_project import SmallProject
from sqlalchemy import select

from envol.storage import tables

Make = Callable[..., SmallProject]
MODULE = (
    NOTED
    + """
    @source(every="1h")
    def hours(window: Window) -> pl.DataFrame:
        note("hours", window)
        time.sleep(0.2)
        return pl.DataFrame({"hour": [window.start.hour]})

    @table(lookback={"hours": "2h"})
    def sums(hours: pl.DataFrame, window: Window) -> pl.DataFrame:
        note("sums", window)
        return hours.select(pl.col("hour").sum())
"""
)
AWAY_SECONDS = 8.0


@pytest.fixture
def place(project: Make, on_mortal: Postgres) -> Iterator[Conducted]:
    conducted = Conducted(project(MODULE, "[run]\nworkers = 2\n"), "01 06")
    yield conducted
    conducted.kill_all()


def test_four_conductors_killed_and_cut_off_do_each_window_once_and_lose_none(
    place: Conducted, on_mortal: Postgres
) -> None:
    conductors = [place.start() for _ in range(4)]
    for hour in ("01 12", "01 18"):
        active = the_active(place, conductors)
        in_the_middle_of_a_run(place)
        place.set_clock(hour)  # windows fall due while it runs
        active.kill()
        conductors.remove(active)
    active = the_active(place, conductors)
    in_the_middle_of_a_run(place)
    on_mortal.stop()
    place.set_clock("02 00")
    time.sleep(AWAY_SECONDS)
    on_mortal.start()
    active.hears("run ended", state="done")
    [standby] = [one for one in conductors if one is not active]
    assert not standby.has_said("active"), "the active one was silent only because the server was away"
    assert any("waiting for up to" in line["message"] for line in active.lines)
    assert any("answers again" in line["message"] for line in active.lines)
    before = len(calls(place.project))
    place.set_clock("02 03")
    in_the_middle_of_a_run(place, before)
    active.kill()
    standby.hears("active")
    until(lambda: place.made("sums") == 27, standby.told)
    standby.hears("idle")
    assert standby.stop() == 0
    check_each_window_was_done_once(place.project, 27)
    check_agreement(place.project, "hours", "sums")
    assert place.states().count("crashed") == 3


def the_active(place: Conducted, conductors: list[Conductor]) -> Conductor:
    def told() -> str:
        return "\n\n".join(one.told() for one in conductors)

    [active] = until(lambda: [one for one in conductors if one.has_said("active")], told)
    return active


def in_the_middle_of_a_run(place: Conducted, calls_before: int | None = None) -> None:
    """Wait until functions are called twice more."""
    before = len(calls(place.project)) if calls_before is None else calls_before
    until(lambda: len(calls(place.project)) >= before + 2, lambda: calls(place.project)[-5:])


def check_each_window_was_done_once(small: SmallProject, windows: int) -> None:
    """Only what was under way when a run was killed was computed again, and nothing is recorded twice."""
    run, task, made = tables.run.c, tables.task.c, tables.materialization.c
    runs = {
        pid: (identity, state) for identity, pid, state in rows(small, select(run.id, run.pid, run.state))
    }
    done = rows(small, select(task.node, task.window_start, task.run).where(task.state == "done"))
    recorded = {
        (node, start): by for node, start, by in rows(small, select(made.node, made.window_start, made.run))
    }
    assert len(done) == len(recorded) == 2 * windows
    assert {(node, start): by for node, start, by in done} == recorded
    by_window = defaultdict(list)
    for call in calls(small):
        by_window[call.node, call.window].append(call)
    assert by_window.keys() == recorded.keys()
    for key, found in by_window.items():
        *lost, last = sorted(found, key=lambda call: call.at)
        assert runs[last.pid][0] == recorded[key], "after it was recorded it was not computed again"
        assert {runs[call.pid][1] for call in lost} <= {"crashed"}
        assert len({call.pid for call in found}) == len(found), "no run computes a window twice"
