"""Where "now" comes from, so that a test or a replay of the past can set it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from envol.errors import ConfigError

CLOCK = "ENVOL_CLOCK"
"""The variable that names the file of a `FileClock`, for all processes that it is set for."""


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """The current instant, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class FixedClock:
    """A clock that stands still until it is set."""

    def __init__(self, instant: datetime) -> None:
        self.instant = instant

    def now(self) -> datetime:
        return self.instant.astimezone(UTC)


class FileClock:
    """A clock that stands at the instant that a file tells: many processes go by it.

    Args:
        path: a file with an ISO instant and its offset, such as "2024-01-11T00:00:00+00:00"; it is replaced
            as a whole to set the clock.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def now(self) -> datetime:
        """The instant in the file.

        Raises:
            ConfigError: there is no such file, or no instant in it.
        """
        try:
            instant = datetime.fromisoformat(self._path.read_text().strip())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{CLOCK}: {error}", remedy="let it name a file with an ISO instant") from None
        if instant.tzinfo is None:
            raise ConfigError(f"{CLOCK}: {instant} has no offset", remedy="write it with one, such as +00:00")
        return instant.astimezone(UTC)


def the_clock() -> Clock:
    """The machine's clock, or the one that ENVOL_CLOCK names."""
    path = os.environ.get(CLOCK)
    return FileClock(Path(path)) if path else SystemClock()
