"""Days on which clocks change: each hour is made once, each sum is right, and each is waited for in time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from evidence import check_agreement
from small_project import SmallProject

from envol.pipeline import make_plan, next_due, next_of_all, run
from envol.project import load_project
from envol.project.clock import FixedClock

Make = Callable[..., SmallProject]
HOUR = timedelta(hours=1)
HOURS = """
    @source(every="1h")
    def hours(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"at": [window.epoch], "load": [window.epoch // 3600 % 1009]})

    @table(every="1d", lookback={"hours": "6h"})
    def days(window: Window, hours: pl.DataFrame) -> pl.DataFrame:
        own = hours.filter(pl.col("at") >= window.epoch)
        before = hours.height - own.height
        return pl.DataFrame({"load": own["load"].sum(), "hours": own.height, "before": before})
"""
WEEKS = """
    @source(every="1d", delay="1d")
    def days(window: Window) -> pl.DataFrame:
        hours = (window.end.timestamp() - window.start.timestamp()) / 3600
        return pl.DataFrame({"at": [window.epoch], "hours": [hours]})

    @table(every="1w", lookback={"days": "2d"})
    def weeks(window: Window, days: pl.DataFrame) -> pl.DataFrame:
        own = days.filter(pl.col("at") >= window.epoch)
        return own.select(pl.col("hours").sum(), before=days.height - own.height)
"""
CHANGES = [
    ("Europe/Paris", date(2024, 3, 31), 23),
    ("Europe/Paris", date(2024, 10, 27), 25),
    ("America/New_York", date(2024, 3, 10), 23),
    ("America/New_York", date(2024, 11, 3), 25),
    ("America/Sao_Paulo", date(2018, 11, 4), 23),  # begins at one o'clock
    ("Africa/Cairo", date(2023, 10, 26), 25),  # its last hour comes twice
]


@pytest.mark.parametrize(("zone", "day", "length"), CHANGES)
def test_the_hours_and_the_days_around_a_change(project: Make, zone: str, day: date, length: int) -> None:
    place = ZoneInfo(zone)
    first, begin, end, last = (midnight(place, day + timedelta(days=number)) for number in (-1, 0, 1, 2))
    assert (end - begin) / HOUR == length
    small = placed(project(HOURS), zone, day - timedelta(days=1))
    done = sum(
        run_at(small, now).done for now in (begin + HOUR / 2, begin + 5 * HOUR / 2, end - HOUR / 2, last)
    )
    assert done == 48 + length + 3
    assert len(plan_at(small, last)) == 0

    hours = small.table("hours")
    assert hours["at"].to_list() == list(range(int(first.timestamp()), int(last.timestamp()), 3600))
    assert hours["at"].to_list() == hours["window_start"].dt.epoch("s").to_list()
    days = small.table("days").sort("window_start")
    assert days["window_start"].to_list() == [first, begin, end]
    assert days["hours"].to_list() == [24, length, 24]
    assert days["before"].to_list() == [0, 6, 6]
    for load, start, until in zip(days["load"], (first, begin, end), (begin, end, last), strict=True):
        assert load == sum(
            at // 3600 % 1009 for at in range(int(start.timestamp()), int(until.timestamp()), 3600)
        )
    check_agreement(small, "hours", "days")
    for now in (begin - HOUR, begin, begin + 3 * HOUR / 2, begin + 2 * HOUR, end - HOUR, end):
        loaded, plan = load_project(small.root), plan_at(small, now)
        following = now.timestamp() // 3600 * 3600 + 3600
        assert next_due(loaded, plan, "hours").at.timestamp() == following
        assert next_of_all(loaded, plan)[1].at.timestamp() == following
        tomorrow = midnight(place, now.astimezone(place).date() + timedelta(days=1))
        assert next_due(loaded, plan, "days").at.timestamp() == tomorrow.timestamp()


@pytest.mark.parametrize(("zone", "day", "length"), CHANGES)
def test_the_week_of_a_change(project: Make, zone: str, day: date, length: int) -> None:
    place, before = ZoneInfo(zone), day - timedelta(days=day.weekday() + 7)
    small = placed(project(WEEKS), zone, before)
    complete = [end_of(place, before + timedelta(days=number)) + timedelta(days=1) for number in range(14)]
    for number, at in enumerate(complete):
        early = at.astimezone(UTC) - timedelta(seconds=1)
        loaded, plan = load_project(small.root), plan_at(small, early)
        assert len(plan.nodes["days"].slots) == number
        assert next_of_all(loaded, plan)[1].at.timestamp() == at.timestamp()
    assert run_at(small, complete[-1]).done == 14 + 2
    assert len(plan_at(small, complete[-1])) == 0
    assert small.table("days").sort("window_start")["hours"].sum() == 14 * 24 + length - 24
    weeks = small.table("weeks").sort("window_start")
    assert weeks["hours"].to_list() == [168, 168 + length - 24] and weeks["before"].to_list() == [0, 2]
    check_agreement(small, "days", "weeks")


def placed(small: SmallProject, zone: str, start: date) -> SmallProject:
    """The project, in that zone and from that day on."""
    config = small.root / "envol.toml"
    config.write_text(config.read_text().replace("UTC", zone).replace("2024-01-01", str(start)))
    return small


def end_of(place: ZoneInfo, day: date) -> datetime:
    """The end of a day, in its zone."""
    return midnight(place, day + timedelta(days=1)).astimezone(place)


def midnight(place: ZoneInfo, day: date) -> datetime:
    """The first instant of a day, in UTC; where the clocks skip midnight it is the one that they skip to."""
    return datetime(day.year, day.month, day.day, tzinfo=place).astimezone(UTC)


def run_at(small: SmallProject, now: datetime):
    with small.store() as store:
        return run(load_project(small.root), store, FixedClock(now))


def plan_at(small: SmallProject, now: datetime):
    with small.store() as store:
        return make_plan(load_project(small.root), store, FixedClock(now))


def test_of_two_instants_of_one_wall_time_the_conductor_waits_for_the_first(project: Make) -> None:
    module = """
        @source(every="1d", delay="2h")
        def days(window: Window) -> pl.DataFrame:
            return pl.DataFrame({"n": [1]})

        @source(every="1h")
        def hours(window: Window) -> pl.DataFrame:
            return pl.DataFrame({"n": [1]})

        @table(every="1d")
        def both(days: pl.DataFrame, hours: pl.DataFrame) -> pl.DataFrame:
            return days
    """
    small = placed(project(module), "America/New_York", date(2024, 11, 2))
    half_past_midnight = datetime(2024, 11, 3, 4, 30, tzinfo=UTC)
    loaded, plan = load_project(small.root), plan_at(small, half_past_midnight)
    first, second = (int(datetime(2024, 11, 3, hour, tzinfo=UTC).timestamp()) for hour in (5, 6))
    source, following = next_of_all(loaded, plan)
    assert (source, int(following.at.timestamp())) == ("hours", first)
    assert int(next_due(loaded, plan, "days").at.timestamp()) == second
