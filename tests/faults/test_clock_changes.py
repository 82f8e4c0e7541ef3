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
MODULE = """
    @source(every="1h")
    def hours(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"at": [window.epoch], "load": [window.epoch // 3600 % 1009]})

    @source(every="1d", delay="1d")
    def later(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"hours": [(window.end.timestamp() - window.start.timestamp()) / 3600]})

    @table(every="1d", lookback={"hours": "6h"})
    def days(window: Window, hours: pl.DataFrame) -> pl.DataFrame:
        own = hours.filter(pl.col("at") >= window.epoch)
        before = hours.height - own.height
        return pl.DataFrame({"load": own["load"].sum(), "hours": own.height, "before": before})

    @table(every="1w")
    def weeks(days: pl.DataFrame, later: pl.DataFrame) -> pl.DataFrame:
        sums = days.select(pl.col("load", "hours").sum())
        return sums.with_columns(later=later["hours"].sum())
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
def test_a_week_with_a_change(project: Make, zone: str, day: date, length: int) -> None:
    place = ZoneInfo(zone)
    monday = day - timedelta(days=day.weekday())
    first, begin, end, last = (
        midnight(place, one) for one in (monday, day, day + timedelta(days=1), monday + timedelta(days=7))
    )
    assert (end - begin) / HOUR == length
    small = project(MODULE)
    config = small.root / "envol.toml"
    config.write_text(config.read_text().replace("UTC", zone).replace("2024-01-01", str(monday)))
    done = 0
    for now in (begin + HOUR / 2, begin + 5 * HOUR / 2, end - HOUR / 2, last + 24 * HOUR):
        result = run_at(small, now)
        assert result.failures == []
        done += result.done
    for now in (begin - HOUR, begin, begin + 3 * HOUR / 2, begin + 2 * HOUR, end - HOUR, end):
        check_next(small, place, now)
    every_hour = int((last - first) / HOUR) + 24
    assert done == every_hour + 7 + 8 + 1
    assert len(plan_at(small, last + 24 * HOUR)) == 0

    hours = small.table("hours")
    assert hours["at"].to_list() == [int(first.timestamp()) + 3600 * hour for hour in range(every_hour)]
    assert hours["at"].to_list() == hours["window_start"].dt.epoch("s").to_list()
    days = small.table("days").sort("window_start")
    starts = [midnight(place, monday + timedelta(days=number)) for number in range(9)]
    assert days["window_start"].to_list() == starts[:8]
    for row, start, until in zip(days.iter_rows(named=True), starts, starts[1:], strict=False):
        own = range(int(start.timestamp()), int(until.timestamp()), 3600)
        assert (row["hours"], row["load"]) == (len(own), sum(at // 3600 % 1009 for at in own))
        assert row["before"] == (6 if start > first else 0)
    assert days["hours"].to_list() == [length if start == begin else 24 for start in starts[:8]]
    [week] = small.table("weeks").iter_rows(named=True)
    assert week["hours"] == week["later"] == 7 * 24 + length - 24
    assert week["load"] == days.head(7)["load"].sum()
    check_agreement(small, "hours", "days", "weeks", "later")


def check_next(small: SmallProject, place: ZoneInfo, now: datetime) -> None:
    """What the conductor waits for: the next full hour, the next midnight, a day after an earlier one."""
    loaded, plan = load_project(small.root), plan_at(small, now)
    hour = now.timestamp() // 3600 * 3600 + 3600
    today = now.astimezone(place).date()
    ends = [midnight(place, today + timedelta(days=number)).astimezone(place) for number in (-1, 0, 1)]
    later = [(end + timedelta(days=1)).timestamp() for end in ends]
    assert next_due(loaded, plan, "hours").at.timestamp() == hour
    assert next_due(loaded, plan, "days").at.timestamp() == ends[2].timestamp()
    assert next_due(loaded, plan, "later").at.timestamp() == min(at for at in later if at > now.timestamp())
    assert next_of_all(loaded, plan)[1].at.timestamp() == hour


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
    small = project(
        """
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
    )
    config = small.root / "envol.toml"
    config.write_text(
        config.read_text().replace("UTC", "America/New_York").replace("2024-01-01", "2024-11-02")
    )
    half_past_midnight = datetime(2024, 11, 3, 4, 30, tzinfo=UTC)
    loaded, plan = load_project(small.root), plan_at(small, half_past_midnight)
    first, second = (int(datetime(2024, 11, 3, hour, tzinfo=UTC).timestamp()) for hour in (5, 6))
    source, following = next_of_all(loaded, plan)
    assert (source, int(following.at.timestamp())) == ("hours", first)
    assert int(next_due(loaded, plan, "days").at.timestamp()) == second
