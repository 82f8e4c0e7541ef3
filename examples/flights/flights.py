"""Will a flight out of New York be half an hour late, or not arrive? From the files to what that is worth."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import nyc
import polars as pl
from contracts import Arrival, Departure, Flight, Weather

from envol import Window, model, source, table, value

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

LATE_MINUTES = 30
CATEGORIES = ["carrier", "origin", "dest"]
MEASUREMENTS = ["temp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
# A rate of few flights is drawn towards that of all flights, as if this many average ones came on top.
SMOOTHING = 20


@source(every="1d", contract=Flight)
def flights(window: Window) -> pl.DataFrame:
    """The schedule: flights that are to depart in the window, with nothing of what became of them."""
    planned = nyc.flights().during(window)
    return planned.select(
        "flight_id",
        "scheduled_departure",
        "carrier",
        "flight",
        # The files name no aircraft for a flight that was cancelled, so this column tells of the outcome.
        "tailnum",
        "origin",
        "dest",
        "distance",
        "hour",
        "minute",
        "arrival_minute",
    )


@source(every="1d", contract=Weather)
def weather(window: Window) -> pl.DataFrame:
    """Hourly observations at the three airports; what a station did not report is missing."""
    return nyc.weather().during(window).select("origin", "observed_at", "dewp", *MEASUREMENTS)


@source(every="1d", delay="1d", contract=Arrival)
def arrivals(window: Window) -> pl.DataFrame:
    """What became of the window's flights, complete a day later.

    Late is 30 minutes or more at the gate, and also a flight that was cancelled (no departure) or diverted
    (it departed, but the files give no arrival delay): either way nobody was there on time.
    """
    departed, arrived = pl.col("dep_time").is_not_null(), pl.col("arr_delay").is_not_null()
    return (
        nyc.flights()
        .during(window)
        .select(
            "flight_id",
            "dep_delay",
            "arr_delay",
            cancelled=~departed,
            diverted=departed & ~arrived,
            late=~arrived | (pl.col("arr_delay") >= LATE_MINUTES),
        )
    )


@table(contract=Departure, lookback={"flights": "1d", "weather": "1d", "arrivals": "1d"})
def departures(
    window: Window, flights: pl.DataFrame, weather: pl.DataFrame, arrivals: pl.DataFrame
) -> pl.DataFrame:
    """One row a flight: its schedule, the weather an hour before, and how late the day before was.

    `clock_minutes` is the arrival minus the departure as the two airports' clocks show them; the model learns
    from the destination what the time zones make of it.
    """
    midnight = window.start.astimezone(UTC)
    today = flights.filter(pl.col("scheduled_departure") >= midnight)
    minute_of_day = pl.col("hour") * 60 + pl.col("minute")
    planned = today.select(
        "flight_id",
        *CATEGORIES,
        "hour",
        "distance",
        weekday=pl.lit(window.start.isoweekday(), pl.Int64),
        minute_of_day=minute_of_day,
        clock_minutes=(pl.col("arrival_minute") - minute_of_day) % (24 * 60),
        flights_in_hour=pl.len().over("origin", "hour").cast(pl.Int64),
        flights_in_day=pl.len().over("origin").cast(pl.Int64),
        observed_at=pl.col("scheduled_departure").dt.truncate("1h") - pl.duration(hours=1),
    )
    observed = weather.select("origin", "observed_at", *MEASUREMENTS)
    rows = planned.join(observed, on=["origin", "observed_at"], how="left", maintain_order="left")
    before = flights.filter(pl.col("scheduled_departure") < midnight).join(arrivals, on="flight_id")
    for column in CATEGORIES:
        rows = rows.join(late_rates(before, column), on=column, how="left", maintain_order="left")
    # A carrier or destination that did not fly the day before has the rate of all flights.
    rate = pl.lit(before["late"].mean(), pl.Float64)
    return rows.drop("observed_at").with_columns(pl.col("^late_by_.*$").fill_null(rate))


def late_rates(past: pl.DataFrame, column: str) -> pl.DataFrame:
    """The share of late flights for each value of `column`, smoothed towards that of all: 0 to 1."""
    late, overall = pl.col("late").sum(), past["late"].mean()
    rate = (late + SMOOTHING * pl.lit(overall, pl.Float64)) / (pl.len() + SMOOTHING)
    return past.group_by(column).agg(rate.alias(f"late_by_{column}"))


@model(
    features="departures",
    labels="arrivals",
    key="flight_id",
    target="late",
    train="6mo",
    every="6mo",
    folds=6,
    test="1mo",
    unknown_categories="accept",
    seed=0,
)
def delay_risk(X: pl.DataFrame, y: pl.Series) -> Pipeline:
    """Boosted trees; a carrier or destination never seen before counts as missing."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    missing = float("nan")
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=missing, encoded_missing_value=missing
    )
    numbers = [name for name, dtype in X.schema.items() if dtype.is_numeric()]
    columns = make_column_transformer((codes, CATEGORIES), ("passthrough", numbers))
    trees = HistGradientBoostingClassifier(
        max_iter=80,
        learning_rate=0.08,
        categorical_features=list(range(len(CATEGORIES))),
        random_state=0,
    )
    return make_pipeline(columns, trees).fit(X, y.to_numpy())


@value(model="delay_risk", unit="EUR")
def rebooking(outcomes: pl.DataFrame, saving_per_hit: float, cost_per_alert: float) -> pl.Series:
    """Worth of warning the travellers of each flight whose risk makes a warning pay on average.

    A warning for a flight that is late saves `saving_per_hit`, one for a flight on time costs
    `cost_per_alert`, no warning is worth 0. It pays where the probability is above cost / (saving + cost).
    """
    break_even = cost_per_alert / (saving_per_hit + cost_per_alert)
    warned = pl.col("probability") > break_even
    worth = pl.when(warned & pl.col("late")).then(saving_per_hit).when(warned).then(-cost_per_alert)
    return outcomes.select(worth.otherwise(0.0).cast(pl.Float64).alias("worth")).to_series()
