"""What a row of each table must be. Rows that are not go to quarantine, with the rule that they break.

Units are those of the files. Limits are drawn close to what New York can bring, so that a change of unit
shows: a winter day in degrees Celsius is below the minimum of `temp`, Honolulu in kilometres is beyond the
maximum of `distance`. One observation of 2013 breaks its contract: a wind of 1048 miles an hour.
"""

from __future__ import annotations

import dataframely as dy
import polars as pl

ORIGIN = r"^(EWR|JFK|LGA)$"
CARRIER = r"^[A-Z0-9]{2}$"
AIRPORT = r"^[A-Z]{3}$"


class Flight(dy.Schema):
    """A flight as planned, known before it departs."""

    flight_id = dy.String(primary_key=True)
    scheduled_departure = dy.Datetime(time_zone="UTC")
    carrier = dy.String(regex=CARRIER)
    flight = dy.Int64(min=1, max=9999)
    tailnum = dy.String(nullable=True, max_length=6)  # missing only where a flight was cancelled
    origin = dy.String(regex=ORIGIN)
    dest = dy.String(regex=AIRPORT)
    distance = dy.Int64(min=10, max=5000)  # miles
    hour = dy.Int64(min=0, max=23)  # on the clock at the origin, as `minute`
    minute = dy.Int64(min=0, max=59)
    arrival_minute = dy.Int64(min=0, max=1439)  # minute of the day on the clock at the destination

    @dy.rule()
    def goes_elsewhere(cls) -> pl.Expr:
        return pl.col("origin") != pl.col("dest")


class Measured(dy.Schema):
    """The measurements of one hour at one airport, missing where the station did not report."""

    temp = dy.Float64(nullable=True, min=5, max=110)  # degrees Fahrenheit
    humid = dy.Float64(nullable=True, min=5, max=100)  # relative, per cent
    wind_dir = dy.Float64(nullable=True, min=0, max=360)  # degrees
    wind_speed = dy.Float64(nullable=True, min=0, max=100)  # miles an hour
    wind_gust = dy.Float64(nullable=True, min=10, max=150)  # miles an hour, missing when there is none
    precip = dy.Float64(nullable=True, min=0, max=3)  # inches
    pressure = dy.Float64(nullable=True, min=940, max=1060)  # millibars at sea level
    visib = dy.Float64(nullable=True, min=0, max=10)  # miles


class Weather(Measured):
    """One hourly observation at an airport."""

    origin = dy.String(primary_key=True, regex=ORIGIN)
    observed_at = dy.Datetime(primary_key=True, time_zone="UTC", resolution="1h")
    dewp = dy.Float64(nullable=True, min=-30, max=90)  # degrees Fahrenheit

    @dy.rule()
    def dew_point_not_above_temperature(cls) -> pl.Expr:
        return (pl.col("dewp") <= pl.col("temp")).fill_null(True)


class Arrival(dy.Schema):
    """What became of a flight."""

    flight_id = dy.String(primary_key=True)
    dep_delay = dy.Int64(nullable=True, min=-120, max=2880)  # minutes, as `arr_delay`
    arr_delay = dy.Int64(nullable=True, min=-180, max=2880)
    cancelled = dy.Bool()
    diverted = dy.Bool()
    late = dy.Bool()

    @dy.rule()
    def cancelled_or_departed(cls) -> pl.Expr:
        return pl.col("cancelled") == pl.col("dep_delay").is_null()

    @dy.rule()
    def arrived_unless_cancelled_or_diverted(cls) -> pl.Expr:
        return pl.col("arr_delay").is_null() == (pl.col("cancelled") | pl.col("diverted"))


class Departure(Measured):
    """What is known of a flight an hour before it is to depart."""

    flight_id = dy.String(primary_key=True)
    carrier = dy.String(regex=CARRIER)
    origin = dy.String(regex=ORIGIN)
    dest = dy.String(regex=AIRPORT)
    weekday = dy.Int64(min=1, max=7)  # Monday is 1
    hour = dy.Int64(min=0, max=23)
    minute_of_day = dy.Int64(min=0, max=1439)
    distance = dy.Int64(min=10, max=5000)  # miles
    clock_minutes = dy.Int64(min=30, max=600)
    flights_in_hour = dy.Int64(min=1, max=100)
    flights_in_day = dy.Int64(min=1, max=600)
    late_by_origin = dy.Float64(nullable=True, min=0, max=1)
    late_by_carrier = dy.Float64(nullable=True, min=0, max=1)
    late_by_dest = dy.Float64(nullable=True, min=0, max=1)
