"""Windows cover time without gap or overlap, in every zone; spans follow the calendar."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envol.errors import ConfigError, NotFoundError, ProjectError
from envol.project.windows import Calendar, Period, Span, Window, position

ODD_ZONES = [
    "America/New_York",
    "Europe/Paris",
    "Australia/Lord_Howe",  # clocks go half an hour forth and back
    "Asia/Kathmandu",  # 5:45 ahead
    "Pacific/Apia",  # skipped 2011-12-30
    "Pacific/Kiritimati",  # skipped 1994-12-31
    "Pacific/Kwajalein",  # skipped 1993-08-21
    "America/Sao_Paulo",  # midnight did not exist when daylight saving started
    "America/St_Johns",  # clocks went back at 00:01
    "America/Havana",
    "Antarctica/Casey",  # clocks jumped by three hours
    "Antarctica/Troll",
    "Africa/Casablanca",
    "Asia/Pyongyang",
    "America/Caracas",
    "UTC",
]
zones = st.sampled_from(ODD_ZONES) | st.sampled_from(sorted(available_timezones()))
instants = st.integers(min_value=0, max_value=2_000_000_000_000).map(
    lambda milliseconds: datetime.fromtimestamp(milliseconds / 1000, UTC)
)
CHANGES = [  # (zone, an instant beside the change)
    ("America/New_York", "2013-11-03T05:30:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
    ("Australia/Lord_Howe", "2013-04-06T15:00:00Z"),
    ("America/St_Johns", "2010-11-07T02:31:00Z"),
    ("Antarctica/Casey", "2010-03-04T15:00:00Z"),
]
near_changes = st.builds(
    lambda change, minutes: (
        change[0],
        datetime.fromisoformat(change[1]) + timedelta(minutes=minutes),
    ),
    st.sampled_from(CHANGES),
    st.integers(-3000, 3000),
)
moments = st.tuples(zones, instants) | near_changes
periods = st.sampled_from(list(Period))
REACH = {Period.HOUR: 2, Period.DAY: 5, Period.WEEK: 20, Period.MONTH: 70}


def at(text: str, zone: str = "UTC") -> datetime:
    return Calendar(zone).instant(text)


def around(calendar: Calendar, period: Period, instant: datetime) -> list[Window]:
    reach = timedelta(days=REACH[period])
    return calendar.windows(period, instant - reach, instant + reach)


@given(moments, periods)
@settings(max_examples=300, deadline=None)
def test_windows_tile_time(moment: tuple[str, datetime], period: Period) -> None:
    windows = around(Calendar(moment[0]), period, moment[1])
    assert windows
    for window in windows:
        assert window.start.timestamp() < window.end.timestamp()
    for one, following in pairwise(windows):
        assert one.end.timestamp() == following.start.timestamp()


@given(moments, periods)
@settings(max_examples=300, deadline=None)
def test_the_window_at_an_instant_holds_it(moment: tuple[str, datetime], period: Period) -> None:
    zone, instant = moment
    window = Calendar(zone).window_at(period, instant)
    assert window.start.timestamp() <= instant.timestamp() < window.end.timestamp()
    assert window in around(Calendar(zone), period, instant)
    assert Calendar(zone).from_epoch(period, window.epoch) == window


@given(moments, periods)
@settings(max_examples=200, deadline=None)
def test_keys_are_unique_and_parse_back(moment: tuple[str, datetime], period: Period) -> None:
    calendar = Calendar(moment[0])
    windows = around(calendar, period, moment[1])
    assert len({window.key for window in windows}) == len(set(windows)) == len(windows)
    for window in windows:
        assert calendar.parse(period, window.key) == window


@given(moments, periods, st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_windows_are_whole_and_inside(moment: tuple[str, datetime], period: Period, hours: int) -> None:
    calendar, start = Calendar(moment[0]), moment[1]
    end = start + timedelta(hours=hours % 5000 if period is not Period.HOUR else hours % 100)
    windows = calendar.windows(period, start, end)
    assert all(
        start.timestamp() <= w.start.timestamp() and w.end.timestamp() <= end.timestamp() for w in windows
    )
    # None is left out: the windows that hold the two ends are the neighbours of those inside.
    before, after = (calendar.window_at(period, edge) for edge in (start, end))
    whole = before.start.timestamp() == start.timestamp()
    expected = (before.start if whole else before.end).timestamp()
    if windows:
        assert windows[0].start.timestamp() == expected
        assert windows[-1].end.timestamp() == after.start.timestamp()
    else:
        assert after.start.timestamp() <= expected


@pytest.mark.parametrize(
    ("zone", "key", "hours"),
    [
        ("America/New_York", "2013-03-10", 23),
        ("America/New_York", "2013-11-03", 25),
        ("America/New_York", "2013-07-01", 24),
        ("Australia/Lord_Howe", "2013-10-06", 23.5),
        ("Australia/Lord_Howe", "2013-04-07", 24.5),
        ("America/Sao_Paulo", "2018-11-04", 23),
        ("America/Sao_Paulo", "2018-02-17", 25),
    ],
)
def test_a_day_is_as_long_as_the_clocks_make_it(zone: str, key: str, hours: float) -> None:
    window = Calendar(zone).parse(Period.DAY, key)
    assert (window.end.timestamp() - window.epoch) / 3600 == hours


def test_a_day_starts_after_a_midnight_that_did_not_exist() -> None:
    window = Calendar("America/Sao_Paulo").parse(Period.DAY, "2018-11-04")
    assert window.start.isoformat() == "2018-11-04T01:00:00-02:00"


def test_a_skipped_day_has_no_window() -> None:
    calendar = Calendar("Pacific/Apia")
    keys = [w.key for w in calendar.windows(Period.DAY, at("2011-12-28T12"), at("2012-01-01T12"))]
    assert keys == ["2011-12-29", "2011-12-31", "2012-01-01"]
    with pytest.raises(NotFoundError, match="2011-12-30"):
        calendar.parse(Period.DAY, "2011-12-30")


def test_hours_that_the_clock_shows_twice_are_two_windows() -> None:
    calendar = Calendar("America/New_York")
    keys = [w.key for w in calendar.windows(Period.HOUR, at("2013-11-03T04"), at("2013-11-03T08"))]
    assert keys == [
        "2013-11-03T00:00-04:00",
        "2013-11-03T01:00-04:00",
        "2013-11-03T01:00-05:00",
        "2013-11-03T02:00-05:00",
    ]


def test_windows_with_equal_wall_times_are_not_equal() -> None:
    calendar = Calendar("Antarctica/Casey")  # three hours came twice
    first = calendar.window_at(Period.HOUR, datetime.fromisoformat("2010-03-04T12:00:00Z"))
    second = calendar.window_at(Period.HOUR, datetime.fromisoformat("2010-03-04T15:00:00Z"))
    assert first.start.replace(tzinfo=None) == second.start.replace(tzinfo=None)
    assert first != second


def test_a_window_survives_pickling() -> None:
    window = Calendar("Europe/Paris").parse(Period.WEEK, "2013-W01")
    assert pickle.loads(pickle.dumps(window)) == window


def test_windows_before_time_zones_have_keys_that_parse_back() -> None:
    calendar = Calendar("America/New_York")  # 4:56:02 behind until 1883
    window = calendar.window_at(Period.HOUR, datetime(1850, 1, 1, tzinfo=UTC))
    assert calendar.parse(Period.HOUR, window.key) == window


@pytest.mark.parametrize(
    ("period", "key"),
    [
        (Period.DAY, "2013-02-29"),
        (Period.DAY, "20130105"),
        (Period.DAY, "yesterday"),
        (Period.DAY, ""),
        (Period.DAY, "9999-12-31"),
        (Period.WEEK, "2013-W54"),
        (Period.WEEK, "2013-W1"),
        (Period.MONTH, "2013-13"),
        (Period.MONTH, "2013-1"),
        (Period.HOUR, "2013-01-05"),
        (Period.HOUR, "2013-01-05T13:30+00:00"),
        (Period.HOUR, "0001-01-01T00:00+14:00"),
    ],
)
def test_other_keys_are_refused(period: Period, key: str) -> None:
    with pytest.raises(NotFoundError, match="is not a window of"):
        Calendar("UTC").parse(period, key)


def test_nothing_is_inside_an_empty_or_reversed_range() -> None:
    calendar = Calendar("UTC")
    assert calendar.windows(Period.DAY, at("2013-01-05"), at("2013-01-05")) == []
    assert calendar.windows(Period.DAY, at("2013-01-05"), at("2013-01-01")) == []
    assert calendar.bounds(Period.DAY, at("2013-01-05T01"), at("2013-01-06T23")) == []


@pytest.mark.parametrize(
    ("zone", "start", "span", "end"),
    [
        ("UTC", "2024-01-31", "1mo", "2024-02-29"),
        ("UTC", "2023-01-31", "1mo", "2023-02-28"),
        ("UTC", "2023-01-31", "13mo", "2024-02-29"),
        ("UTC", "2023-12-01", "1mo", "2024-01-01"),
        ("UTC", "2024-02-28", "2d", "2024-03-01"),
        ("UTC", "2024-02-28", "1w", "2024-03-06"),
        ("America/New_York", "2013-03-09T12:00", "1d", "2013-03-10T12:00"),
        ("America/New_York", "2013-03-09T12:00", "24h", "2013-03-10T13:00"),
        ("America/New_York", "2013-03-09T02:30", "1d", "2013-03-10T03:30"),  # 2:30 did not exist
        ("America/New_York", "2013-11-02T12:00", "1d", "2013-11-03T12:00"),
        ("America/New_York", "2013-11-02T12:00", "24h", "2013-11-03T11:00"),
    ],
)
def test_a_span_after_an_instant(zone: str, start: str, span: str, end: str) -> None:
    assert Span.parse(span).after(at(start, zone)).isoformat() == at(end, zone).isoformat()


@pytest.mark.parametrize(
    ("end", "span", "start"),
    [
        ("2024-03-31", "1mo", "2024-02-29"),
        ("2024-01-31", "2mo", "2023-11-30"),
        ("2024-01-01", "12mo", "2023-01-01"),
        ("2024-03-01", "1d", "2024-02-29"),
        ("2024-01-01", "1h", "2023-12-31T23:00"),
    ],
)
def test_a_span_before_an_instant(end: str, span: str, start: str) -> None:
    assert Span.parse(span).before(at(end)) == at(start)


@given(moments, st.integers(0, 5000), st.sampled_from(["h", "d", "w", "mo"]))
@settings(deadline=None)
def test_after_never_goes_back(moment: tuple[str, datetime], count: int, unit: str) -> None:
    instant = moment[1].astimezone(Calendar(moment[0]).zone)
    span = Span.parse(f"{count % 300}{unit}")
    assert span.after(instant).timestamp() >= instant.timestamp()
    assert span.before(instant).timestamp() <= instant.timestamp()


@given(moments, st.sampled_from(["h", "d", "w", "mo"]))
@settings(deadline=None)
def test_no_time_later_is_the_same_instant(moment: tuple[str, datetime], unit: str) -> None:
    instant = moment[1].astimezone(Calendar(moment[0]).zone)
    assert Span.parse(f"0{unit}").after(instant).timestamp() == instant.timestamp()


def test_a_span_some_times() -> None:
    assert Span.parse("10d").times(3) == Span(30, "d")
    assert str(Span.parse("2mo").times(2)) == "4mo"


@pytest.mark.parametrize("text", ["", "d", "7", "7 d", "-7d", "7D", "1.5d", "7days", 7, None])
def test_other_texts_are_no_span(text: object) -> None:
    with pytest.raises(ProjectError, match="not a span of time"):
        Span.parse(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["2d", "1y", "day", "", 1, None])
def test_other_texts_are_no_period(text: object) -> None:
    with pytest.raises(ProjectError, match="not a period"):
        Period.parse(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Mars/Base", "", "Europe", "../etc/passwd", "/etc/localtime"])
def test_unknown_time_zones_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="not a known time zone"):
        Calendar(name)


def test_the_nearest_time_zone_is_named() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'Europe/Paris'\?"):
        Calendar("Europe/Pariss")


def test_dates_are_local_unless_they_say_otherwise() -> None:
    assert at("2013-01-31", "America/New_York").isoformat() == "2013-01-31T00:00:00-05:00"
    assert at("2013-01-31T00:00:00Z", "America/New_York").isoformat() == "2013-01-30T19:00:00-05:00"


@pytest.mark.parametrize("text", ["soon", "2013-02-30", "", "0001-01-01T00:00:00+14:00"])
def test_other_dates_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a date"):
        at(text)


def test_the_position_of_an_epoch_among_windows() -> None:
    assert [position([10, 20, 30], epoch) for epoch in (9, 10, 19, 20, 35)] == [-1, 0, 0, 1, 2]
