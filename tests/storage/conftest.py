"""A lake, and the windows of a calendar whose days change length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from servers import place

from envol.project.windows import Calendar, Period, Window
from envol.storage import Lake

CALENDAR = Calendar("Europe/Paris")
FIRST = datetime(2013, 3, 29, 12, tzinfo=CALENDAR.zone)


@pytest.fixture
def lake(tmp_path: Path, storage: str) -> Iterator[Lake]:
    lake = Lake(place(tmp_path))
    yield lake
    lake.close()


@pytest.fixture
def day() -> Callable[[int], Window]:
    """The daily window so many days after the first, across a change to summer time."""
    return lambda number: CALENDAR.window_at(Period.DAY, FIRST + timedelta(days=number))
