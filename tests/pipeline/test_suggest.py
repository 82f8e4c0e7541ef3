"""Suggested contracts: the code that is printed imports, and the rows that it was suggested from meet it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import ModuleType
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_project import SmallProject

from envol.errors import DataError, NotFoundError, ProjectError
from envol.pipeline.checking.recheck import recheck
from envol.pipeline.checking.suggest import suggest
from envol.pipeline.checking.table_figures import columns_seen
from envol.project import load_project
from envol.project.contracts import check
from envol.project.windows import Calendar, Period
from envol.storage import Lake, Store

DAYS = Calendar("UTC").windows(
    Period.DAY, datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 11, tzinfo=UTC)
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    with Store(tmp_path_factory.mktemp("lake")) as store:
        yield store.lake


def store(lake: Lake, table: str, frame: pl.DataFrame, windows: int = 1) -> None:
    """Store the rows in so many windows."""
    if table in {info.name for info in lake.tables()}:
        lake.drop(table)
    size = -(-frame.height // windows)
    for number in range(windows):
        part = frame[number * size : (number + 1) * size]
        lake.replace({table: part}, DAYS[number], node=table, fingerprint="x")


def contract_of(code: str) -> Any:
    """The contract that the code declares, imported as a module would be."""
    module = ModuleType("suggested")
    sys.modules["suggested"] = module
    exec(compile(code, "suggested", "exec"), module.__dict__)
    import dataframely as dy

    [found] = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, dy.Schema)]
    return found


def line_of(code: str, column: str) -> str:
    """The line that declares a column."""
    [line] = [line for line in code.splitlines() if line.strip().startswith(f"{column} = ")]
    return line.strip()


def test_what_is_said_of_usual_columns(lake: Lake) -> None:
    rows = 1_000
    frame = pl.DataFrame(
        {
            "flight_id": [f"F{number:07}" for number in range(rows)],
            "origin": ["EWR", "JFK", "LGA", "JFK"] * (rows // 4),
            "tail": [f"N{number % 400:03}" for number in range(rows)],
            "note": [None if number % 4 else f"text {number % 300}" for number in range(rows)],
            "delay": [float(number % 100) - 10.5 for number in range(rows)],
            "share": [number % 90 / 100 for number in range(rows)],
            "seats": [100 + number % 83 for number in range(rows)],
            "below": [-float(number % 7) for number in range(rows)],
            "fixed": [7] * rows,
            "flag": [True, False] * (rows // 2),
            "ratio": [float("nan"), float("inf"), 1.0, 2.0] * (rows // 4),
            "none": pl.Series([None] * rows, dtype=pl.Float64),
            "at": [
                datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=number // 2) for number in range(rows)
            ],
        }
    )
    store(lake, "flights", frame, windows=4)
    code = suggest(lake, "flights")
    for column, told in {
        "flight_id": 'dy.String(primary_key=True, regex="^[A-Z0-9]{8}$")  # seen: all different, 8 bytes',
        "origin": 'check={"known": lambda text: text.is_in(["EWR", "JFK", "LGA"])}',
        "tail": 'dy.String(regex="^[A-Z0-9]{4}$")',
        "note": "dy.String(nullable=True, min_length=1)",
        "delay": "dy.Float64(min=-40, max=120)  # seen: -10.5 to 88.5",
        "share": "dy.Float64(min=0, max=1.2)",
        "seats": "dy.Int64(min=70, max=210)  # seen: 100 to 182",
        "below": "dy.Float64(min=-8, max=0)",
        "fixed": "dy.Int64(min=0)",
        "flag": "dy.Bool()",
        "ratio": "dy.Float64(allow_nan=True, allow_inf=True, min=0)\n",
        "1 to 2": "    # seen: 1 to 2, 250 no number, 250 infinite\n    ratio",
        "none": "dy.Float64(nullable=True)  # seen: no value at all",
        "at": 'dy.Datetime(time_zone="UTC")',
    }.items():
        assert told in code, column
    assert "75.0 % missing" in code
    assert "# seen: 1,000 rows in 4 windows, 2024-01-01 to 2024-01-04" in code
    assert code.startswith("import dataframely as dy\n\n\nclass Flights(dy.Schema):\n")
    assert check(lake.read("flights").drop("window_start"), contract_of(code)).broken.is_empty()


def test_names_that_a_class_cannot_have(lake: Lake) -> None:
    names = [
        "weird name",
        "class",
        "dy",
        "Decimal",
        "columns",
        "filter",
        "_private",
        'quo"te',
        "übung",
        "x.y",
        "1st",
    ]
    frame = pl.DataFrame({name: [number] for number, name in enumerate(names)})
    store(lake, "odd names", frame)
    code = suggest(lake, "odd names")
    contract = contract_of(code)
    assert list(contract.columns()) == names
    assert check(frame, contract).broken.is_empty()
    assert line_of(code, "übung") == "übung = dy.Int64(min=0)  # seen: 8"


def test_only_the_windows_asked_for_count(lake: Lake) -> None:
    store(lake, "numbers", pl.DataFrame({"n": range(100)}), windows=10)
    assert "dy.Int64(primary_key=True)  # seen: all different, 0 to 99" in suggest(lake, "numbers")
    code = suggest(lake, "numbers", DAYS[2].start, DAYS[4].start)
    assert "20 to 39" in code and "20 rows in 2 windows, 2024-01-03 to 2024-01-04" in code
    with pytest.raises(DataError, match="has no rows there"):
        suggest(lake, "numbers", datetime(2025, 1, 1, tzinfo=UTC))


def test_a_table_that_is_not_there_names_the_nearest(lake: Lake) -> None:
    store(lake, "known", pl.DataFrame({"n": [1]}))
    with pytest.raises(NotFoundError) as caught:
        suggest(lake, "knwon")
    assert "'known'" in str(caught.value.remedy)


def test_values_are_counted_in_slices(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envol.pipeline.checking.table_figures.SLICE", 300)
    frame = pl.DataFrame({"key": [*range(2_000), 1_999], "id": range(2_001)})
    store(lake, "sliced", frame, windows=2)
    assert [seen.unique for seen in columns_seen(lake, "sliced")] == [False, True]
    assert [seen.unique for seen in columns_seen(lake, "sliced", DAYS[0].start, DAYS[1].start)] == [
        True,
        True,
    ]


def column(dtype: Any, values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, list[Any]]]:
    few = st.lists(st.none() | values, min_size=30, max_size=30)
    same = st.lists(values, min_size=1, max_size=3).map(lambda some: (some * 30)[:30])
    different = st.lists(values, min_size=30, max_size=30)
    return st.tuples(st.just(dtype), few | same | different)


whole = {pl.Int8: (-128, 127), pl.UInt8: (0, 255), pl.Int64: (-(2**63), 2**63 - 1), pl.UInt64: (0, 2**64 - 1)}
ALPHABET = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
COLUMNS = st.one_of(
    *(column(dtype, st.integers(*bounds) | st.integers(0, 9)) for dtype, bounds in whole.items()),
    column(pl.Float64, st.floats() | st.floats(0, 1)),
    column(pl.Float32, st.floats(width=32)),
    column(pl.String, ALPHABET | st.sampled_from(["", "a", "B", "7"]) | st.uuids().map(str)),
    column(pl.Boolean, st.booleans()),
    column(pl.Date, st.dates(date(1900, 1, 1), date(2100, 1, 1))),
    column(pl.Datetime("ms"), st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))),
    column(pl.Datetime("us", "Europe/Paris"), st.datetimes(datetime(1950, 1, 1), datetime(2030, 1, 1))),
    column(pl.Duration("ns"), st.timedeltas(timedelta(0), timedelta(days=9))),
    column(pl.Time, st.times().map(lambda one: time(one.hour, one.minute))),
    column(pl.Binary, st.binary(max_size=3)),
    column(pl.Decimal(6, 2), st.decimals(Decimal("-9999"), Decimal("9999"), places=2)),
    column(pl.List(pl.Float64), st.lists(st.none() | st.floats(), max_size=2)),
    column(
        pl.Struct({"a b": pl.String, "n": pl.Int64}),
        st.fixed_dictionaries({"a b": st.none(), "n": st.integers(0, 9)}),
    ),
)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(columns=st.lists(COLUMNS, min_size=1, max_size=9), windows=st.integers(1, 3))
def test_every_table_meets_what_is_suggested_from_it(lake: Lake, columns: list[tuple], windows: int) -> None:
    frame = pl.DataFrame(
        [
            pl.Series(
                f"c{number}", values, dtype=pl.Datetime("us") if hasattr(dtype, "time_zone") else dtype
            ).cast(dtype if not getattr(dtype, "time_zone", None) else pl.Datetime("us"))
            for number, (dtype, values) in enumerate(columns)
        ]
    ).with_columns(
        pl.col(f"c{number}").dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.time_zone)
        for number, (dtype, _) in enumerate(columns)
        if getattr(dtype, "time_zone", None)
    )
    store(lake, "any", frame, windows)
    contract = contract_of(suggest(lake, "any"))
    assert contract.columns().keys() == set(frame.columns)
    stored = lake.read("any")
    for part in [stored, *stored.partition_by("window_start")]:
        checked = check(part.drop("window_start"), contract)
        assert checked.broken.is_empty(), (suggest(lake, "any"), checked.broken)


READINGS = """
    class Reading(dy.Schema):
        key = dy.Int64(primary_key=True)
        heat = dy.Float64(min=0)

    @source(every="1d", contract=Reading)
    def readings(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"key": range(40), "heat": [float(n * window.start.day) for n in range(40)]})

    @table()
    def plain(readings: pl.DataFrame) -> pl.DataFrame:
        return readings
"""
Make = Callable[..., SmallProject]


def rechecked(small: SmallProject, table: str, *bounds: Any) -> list[tuple[str, int, dict[str, int]]]:
    with Store(small.store_path) as store:
        found = list(recheck(load_project(small.root), store.lake, table, *bounds))
    assert all(one.of == 40 for one in found)
    return [(one.window, one.rows, one.rules) for one in found]


def test_stored_rows_are_checked_against_the_contract_as_it_is_now(project: Make, monkeypatch: Any) -> None:
    monkeypatch.setattr("envol.pipeline.checking.recheck.PART_ROWS", 100)
    small = project(READINGS)
    small.run("2024-01-05")
    assert [rows for _, rows, _ in rechecked(small, "readings")] == [0, 0, 0, 0]
    small.edit("heat = dy.Float64(min=0)", "heat = dy.Float64(min=0, max=100)")
    assert rechecked(small, "readings") == [
        ("2024-01-01", 0, {}),
        ("2024-01-02", 0, {}),
        ("2024-01-03", 6, {"heat: max": 6}),
        ("2024-01-04", 14, {"heat: max": 14}),
    ]
    only = rechecked(small, "readings", datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 4, tzinfo=UTC))
    assert [(window, rows) for window, rows, _ in only] == [("2024-01-02", 0), ("2024-01-03", 6)]


def test_what_cannot_be_checked(project: Make) -> None:
    small = project(READINGS)
    small.run("2024-01-02")
    with pytest.raises(ProjectError, match="has no contract") as caught:
        rechecked(small, "plain")
    assert "envol contract suggest plain" in str(caught.value.remedy)
    with pytest.raises(NotFoundError, match="no table 'reading'"):
        rechecked(small, "reading")
    small.edit("heat = dy.Float64(min=0)", "heat = dy.Float64(min=0); more = dy.Int64()")
    with pytest.raises(DataError, match="column 'more' of the contract Reading missing"):
        rechecked(small, "readings")


def test_a_suggested_contract_changes_nothing_in_a_project(project: Make) -> None:
    small = project(READINGS)
    small.run("2024-01-05")
    before = small.tables(["readings", "plain"])
    with Store(small.store_path) as store:
        code = suggest(store.lake, "readings")
    small.edit("@source(", f"{code}\n\n@source(")
    small.edit("contract=Reading)", "contract=Readings)")
    result = small.run("2024-01-05")
    assert (result.state, result.done) == ("done", 4)
    for name, frame in before.items():
        assert small.table(name).equals(frame)
    with Store(small.store_path) as store:
        assert "readings_quarantine" not in {info.name for info in store.lake.tables()}
