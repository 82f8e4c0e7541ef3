"""Windows: half-open intervals of an hour, a day, a week or a month in the project's time zone.

Days, weeks and months follow the local calendar, so a day is 23 or 25 hours long where daylight saving
changes. Hours follow absolute time. Together the windows of one period cover time without gap or overlap.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from enum import Enum
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from envol.errors import ConfigError, NotFoundError, ProjectError

Unit = Literal["h", "d", "w", "mo"]
HOUR_SECONDS = 3600


class Period(Enum):
    """How long a window is."""

    HOUR = "1h"
    DAY = "1d"
    WEEK = "1w"
    MONTH = "1mo"

    @classmethod
    def parse(cls, text: str | Period) -> Period:
        """The period written as "1h", "1d", "1w" or "1mo".

        Raises:
            ProjectError: for any other text.
        """
        if isinstance(text, Period):
            return text
        try:
            return cls(text)
        except ValueError:
            raise ProjectError(
                f"{text!r} is not a period", remedy='write one of "1h", "1d", "1w", "1mo"'
            ) from None

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Span:
    """A length of time such as "120d" or "1mo"; days and longer follow the calendar."""

    count: int
    unit: Unit

    @classmethod
    def parse(cls, text: str | Span) -> Span:
        """The span written as a whole number and a unit: h, d, w or mo.

        Raises:
            ProjectError: when the text is anything else.
        """
        if isinstance(text, Span):
            return text
        match = re.fullmatch(r"(\d+)(h|d|w|mo)", text) if isinstance(text, str) else None
        if not match:
            raise ProjectError(
                f"{text!r} is not a span of time", remedy='write for example "6h", "2d", "1mo"'
            )
        return cls(int(match[1]), match[2])  # type: ignore[arg-type]

    def after(self, instant: datetime) -> datetime:
        """The instant this much later, in the zone of `instant`."""
        return self._shift(instant, self.count)

    def before(self, instant: datetime) -> datetime:
        """The instant this much earlier, in the zone of `instant`."""
        return self._shift(instant, -self.count)

    def times(self, factor: int) -> Span:
        """The span so many times as long."""
        return Span(self.count * factor, self.unit)

    def _shift(self, instant: datetime, count: int) -> datetime:
        if count == 0:
            return instant
        if self.unit == "h":
            return (instant.astimezone(UTC) + timedelta(hours=count)).astimezone(instant.tzinfo)
        if self.unit == "mo":
            months = instant.year * 12 + instant.month - 1 + count
            year, month = divmod(months, 12)
            last = (date(year + (month == 11), (month + 1) % 12 + 1, 1) - timedelta(days=1)).day
            moved = instant.replace(year=year, month=month + 1, day=min(instant.day, last), fold=0)
        else:
            moved = instant + timedelta(days=count * (7 if self.unit == "w" else 1))
        return _settled(moved)

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"


@dataclass(frozen=True, eq=False)
class Window:
    """One half-open interval [start, end), both aware datetimes in the project's time zone.

    Datetimes of one zone compare by wall time, which repeats when clocks go back: compare epochs instead.
    """

    start: datetime
    end: datetime
    period: Period

    @property
    def key(self) -> str:
        """What people call the window: "2013-01-05", "2013-01-05T13:00-05:00", "2013-W01", "2013-01"."""
        if self.period is Period.HOUR:
            # Before time zones were agreed on, clocks were off by odd seconds.
            return self.start.isoformat(timespec="seconds" if self.start.second else "minutes")
        if self.period is Period.WEEK:
            year, week, _ = self.start.isocalendar()
            return f"{year:04}-W{week:02}"
        return self.start.strftime("%Y-%m" if self.period is Period.MONTH else "%Y-%m-%d")

    @property
    def epoch(self) -> int:
        """Start of the window in seconds since 1970-01-01 UTC."""
        return int(self.start.timestamp())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Window):
            return NotImplemented
        return (self.epoch, self.period) == (other.epoch, other.period) and (
            self.end.timestamp() == other.end.timestamp()
        )

    def __hash__(self) -> int:
        return hash((self.epoch, self.period))

    def __str__(self) -> str:
        return self.key


class Calendar:
    """Divides time into windows in one time zone.

    Args:
        timezone: an IANA name such as "Europe/Paris".

    Raises:
        ConfigError: when the time zone is not known.
    """

    def __init__(self, timezone: str) -> None:
        try:
            self.zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            near = get_close_matches(timezone, available_timezones(), n=1)
            raise ConfigError(
                f"{timezone!r} is not a known time zone",
                remedy=f"did you mean {near[0]!r}?" if near else 'write an IANA name such as "Europe/Paris"',
            ) from None
        self.name = timezone
        # Zones half an hour off have their own whole hours; a fixed shift keeps hours absolute.
        offset = datetime(2000, 1, 1, tzinfo=self.zone).utcoffset() or timedelta()
        self._hour_shift = int(offset.total_seconds()) % HOUR_SECONDS

    def window_at(self, period: Period, instant: datetime) -> Window:
        """The window that holds an aware instant."""
        if period is Period.HOUR:
            seconds = int(instant.timestamp() // 1) + self._hour_shift
            start = seconds - seconds % HOUR_SECONDS - self._hour_shift
            return self._window(period, start, start + HOUR_SECONDS)
        day = _first_day(period, instant.astimezone(self.zone).date())
        while self._midnight(day) > instant.timestamp():  # a midnight that the clocks jumped over
            day = _first_day(period, day - timedelta(days=1))
        following = _next_day(period, day)
        while self._midnight(following) <= instant.timestamp():
            day, following = following, _next_day(period, following)
        return self._window(period, self._midnight(day), self._midnight(following))

    def windows(self, period: Period, start: datetime, end: datetime) -> list[Window]:
        """The whole windows inside [start, end), oldest first."""
        bounds = self.bounds(period, start, end)
        return [self._window(period, a, b) for a, b in zip(bounds, bounds[1:], strict=False)]

    def bounds(self, period: Period, start: datetime, end: datetime) -> list[int]:
        """Epochs of the starts of the whole windows inside [start, end), and of the last one's end."""
        first, last = start.timestamp(), end.timestamp()
        if last <= first:
            return []
        if period is Period.HOUR:
            begin = self.window_at(period, start).epoch
            begin += HOUR_SECONDS * (begin < first)
            found = list(range(begin, int(last // 1) + 1, HOUR_SECONDS))
            return found if len(found) > 1 else []
        found = []
        for epoch in self._starts(period, start):
            if epoch > last:
                break
            if epoch >= first:
                found.append(epoch)
        return found if len(found) > 1 else []

    def from_epoch(self, period: Period, epoch: int) -> Window:
        """The window that holds the epoch (seconds since 1970-01-01 UTC)."""
        return self.window_at(period, datetime.fromtimestamp(epoch, UTC))

    def parse(self, period: Period, key: str) -> Window:
        """The window of a key as written by `Window.key`.

        Raises:
            NotFoundError: when no window of the period has that key.
        """
        try:
            if period is Period.WEEK:
                day = datetime.strptime(key + "-1", "%G-W%V-%u")
            elif period is Period.MONTH:
                day = datetime.strptime(key, "%Y-%m")
            else:
                day = datetime.fromisoformat(key)
            window = self.window_at(period, day if day.tzinfo else _settled(day.replace(tzinfo=self.zone)))
        except (ValueError, OverflowError):
            window = None
        if window is None or window.key != key:
            raise NotFoundError(
                f"{key!r} is not a window of {period}",
                remedy="write a window as in "
                + self.window_at(period, datetime(2013, 1, 5, 12, tzinfo=UTC)).key,
            )
        return window

    def instant(self, text: str) -> datetime:
        """An ISO date or time as an aware instant, in this calendar's zone unless it names its own.

        Raises:
            ConfigError: when the text is no ISO date.
        """
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is not None:
                return moment.astimezone(self.zone)
            return _settled(moment.replace(tzinfo=self.zone))
        except (ValueError, OverflowError):
            raise ConfigError(f"{text!r} is not a date", remedy='write for example "2013-01-31"') from None

    def _window(self, period: Period, start: int, end: int) -> Window:
        return Window(
            datetime.fromtimestamp(start, self.zone), datetime.fromtimestamp(end, self.zone), period
        )

    def _starts(self, period: Period, start: datetime) -> Iterator[int]:
        epoch = self.window_at(period, start).epoch
        day = _first_day(period, datetime.fromtimestamp(epoch, self.zone).date())
        previous = None
        while True:
            epoch = self._midnight(day)
            if epoch != previous:  # equal where the calendar skipped a whole day
                yield epoch
            previous, day = epoch, _next_day(period, day)

    def _midnight(self, day: date) -> int:
        return _midnight_epoch(self.zone, day)


@lru_cache(maxsize=200_000)
def _midnight_epoch(zone: ZoneInfo, day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def _first_day(period: Period, day: date) -> date:
    if period is Period.MONTH:
        return day.replace(day=1)
    return day - timedelta(days=day.weekday()) if period is Period.WEEK else day


def _next_day(period: Period, day: date) -> date:
    if period is Period.MONTH:
        return date(day.year + day.month // 12, day.month % 12 + 1, 1)
    return day + timedelta(days=7 if period is Period.WEEK else 1)


def _settled(moment: datetime) -> datetime:
    """The same instant with a wall time that exists (clocks skip some when daylight saving starts)."""
    return moment.astimezone(UTC).astimezone(moment.tzinfo)


def position(bounds: list[int], epoch: int) -> int:
    """Index of the window, in sorted window starts, that holds the epoch; -1 before the first."""
    return bisect_right(bounds, epoch) - 1
