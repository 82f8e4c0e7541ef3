"""Which pumps will break down today? From readings to what an inspection is worth, as one project."""

from __future__ import annotations

from typing import Any

import dataframely as dy
import numpy as np
import polars as pl

from envol import Window, model, source, table, value

SITES = ["harbour", "north", "south"]
PUMPS = 200


class Reading(dy.Schema):
    """A pump as measured at the start of a day. Rows that break a rule go to quarantine."""

    reading_id = dy.String(primary_key=True)
    day = dy.Date()
    pump = dy.Int64(min=0)
    site = dy.String(regex="^(harbour|north|south)$")
    temperature = dy.Float64(nullable=True, min=0, max=120)  # degrees Celsius
    vibration = dy.Float64(min=0, max=50)  # millimetres a second
    load = dy.Float64(min=0, max=1)  # share of the rated power


class Condition(dy.Schema):
    """What is known of a pump when the day begins."""

    reading_id = dy.String(primary_key=True)
    site = dy.String()
    temperature = dy.Float64(nullable=True)
    vibration = dy.Float64(min=0)
    load = dy.Float64(min=0, max=1)
    vibration_rise = dy.Float64(nullable=True)  # since the day before, missing on the first day


@source(every="1d", contract=Reading)
def readings(window: Window) -> pl.DataFrame:
    """One reading of every pump on the day of the window."""
    return made_up(window).drop("failed")


@source(every="1d", delay="1d")
def breakdowns(window: Window) -> pl.DataFrame:
    """Whether each pump broke down on that day: the truth, which is complete a day later."""
    return made_up(window).select("reading_id", "failed")


@table(contract=Condition, lookback={"readings": "1d"})
def conditions(window: Window, readings: pl.DataFrame) -> pl.DataFrame:
    """The features: today's reading, and how much the vibration rose since yesterday."""
    today = pl.col("day") == window.start.date()
    yesterday = readings.filter(~today).select("pump", before="vibration")
    return (
        readings.filter(today)
        .join(yesterday, on="pump", how="left")
        .select(
            "reading_id",
            "site",
            "temperature",
            "vibration",
            "load",
            vibration_rise=pl.col("vibration") - pl.col("before"),
        )
    )


@model(
    features="conditions",
    labels="breakdowns",
    key="reading_id",
    target="failed",
    train="21d",
    every="14d",
    folds=2,
    test="7d",
)
def breakdown_risk(X: pl.DataFrame, y: pl.Series) -> Any:
    """The risk that a pump breaks down on the day: any fitted estimator of scikit-learn's kind."""
    # Imported here, heavy libraries do not slow down `envol plan`.
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["site"]),
        remainder=make_pipeline(SimpleImputer(), StandardScaler()),
    )
    return make_pipeline(columns, LogisticRegression()).fit(X, y.to_numpy())


@value(model="breakdown_risk", unit="EUR")
def inspection(outcomes: pl.DataFrame, saving_per_hit: float, cost_per_inspection: float) -> pl.Series:
    """Worth of inspecting each pump whose risk makes that pay on average; no inspection is worth 0."""
    inspected = pl.col("probability") > cost_per_inspection / saving_per_hit
    saved = pl.when("failed").then(saving_per_hit).otherwise(0.0)
    worth = pl.when(inspected).then(saved - cost_per_inspection).otherwise(0.0)
    return outcomes.select(worth.alias("worth")).to_series()


def made_up(window: Window) -> pl.DataFrame:
    """INVENTED data, the same each time for a window. Replace it by your extraction: SQL, files, an API."""
    fixed, random = np.random.default_rng(0), np.random.default_rng(window.start.toordinal())
    site = fixed.choice(SITES, PUMPS)
    life, age = fixed.uniform(40, 160, PUMPS), fixed.uniform(0, 160, PUMPS)  # days
    wear = (age + window.start.toordinal()) % life / life
    load = random.beta(4, 2, PUMPS)
    vibration = 2 + 6 * wear**3 + random.gamma(2, 0.3, PUMPS)
    temperature = 40 + 25 * load + 10 * wear + random.normal(0, 3, PUMPS)
    temperature[random.random(PUMPS) < 0.02] = np.nan  # a sensor that did not report
    risk = 1 / (1 + np.exp(7.5 - 6 * wear**3 - 2.5 * load - 0.5 * (site == "harbour")))
    day = window.start.date()
    return pl.DataFrame(
        {
            "reading_id": [f"{day}-{pump:03}" for pump in range(PUMPS)],
            "day": [day] * PUMPS,
            "pump": range(PUMPS),
            "site": site,
            "temperature": temperature,
            "vibration": vibration,
            "load": load,
            "failed": random.random(PUMPS) < risk,
        },
        nan_to_null=True,
    )
