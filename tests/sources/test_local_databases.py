"""Files of SQLite and DuckDB."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest

from envol import Window, sources
from envol.errors import ConfigError, DataError, Failure, ProjectError

Day = Callable[[str], Window]
OF_DAY = "select id, created_at from orders where created_at >= :start and created_at < :end order by id"
SQLITE_KINDS = {
    "integer": (3, pl.Int64, 3),
    "real": (1.5, pl.Float64, 1.5),
    "text": ("é", pl.String, "é"),
    "varchar(5)": ("v", pl.String, "v"),
    "decimal(10,2)": (12.5, pl.Float64, 12.5),
    "boolean": (1, pl.Int64, 1),
    "blob": (b"\x00\xff", pl.Binary, b"\x00\xff"),
    "date": ("2024-06-01", pl.Date, date(2024, 6, 1)),
    "datetime": ("2024-06-01T12:00:00Z", pl.Datetime("us"), datetime(2024, 6, 1, 12)),
    "timestamp": ("2024-06-01 12:00:00", pl.Datetime("us"), datetime(2024, 6, 1, 12)),
}


@pytest.fixture
def sqlite(folder: Path) -> Path:
    """Orders every hour from the start of 2024-03-30 in Paris on; the clocks change on the day after."""
    path = folder / "shop.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("create table orders (id integer primary key, created_at datetime, customer text)")
        connection.execute(
            "with recursive n(i) as (select 0 union all select i + 1 from n where i < 71) insert into orders "
            "select i, datetime('2024-03-29 23:00:00', i || ' hours'), 'customer ' || i from n"
        )
    connection.close()
    return path


@pytest.fixture
def duck(folder: Path) -> Path:
    path = folder / "shop.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "create table orders as select i as id, 'customer ' || i as customer, "
            "timestamp '2024-03-29 23:00:00' + to_hours(i::int) as created_at from range(72) r(i)"
        )
    return path


@pytest.fixture(params=["sqlite", "duckdb"])
def url(request: pytest.FixtureRequest) -> str:
    """The url of either, relative to the project's folder."""
    request.getfixturevalue("sqlite" if request.param == "sqlite" else "duck")
    return f"{request.param}:///shop.{request.param}"


def test_each_window_has_its_rows(url: str, day: Day) -> None:
    days = [
        sources.sql(url, OF_DAY, day(key)).collect() for key in ("2024-03-30", "2024-03-31", "2024-04-01")
    ]
    assert [frame.height for frame in days] == [24, 23, 24]
    assert pl.concat(days)["id"].to_list() == list(range(71))
    assert days[0].schema == {"id": pl.Int64, "created_at": pl.Datetime("us")}
    assert days[0].row(1) == (1, datetime(2024, 3, 30))


def test_parameters_are_bound(url: str) -> None:
    query = "select id from orders where customer = :customer or id = :id or customer = ':id'"
    frame = sources.sql(url, query, customer="x' or '1'='1", id=3).collect()
    assert frame["id"].to_list() == [3]


def test_rows_come_in_batches(url: str) -> None:
    batches = list(sources.sql(url, "select id from orders order by id;", batch=10))
    assert [frame.height for frame in batches] == [10] * 7 + [2]
    empty = sources.sql(url, "select id, created_at, customer from orders where false").collect()
    assert empty.is_empty() and empty.schema["created_at"] == pl.Datetime("us")


@pytest.mark.parametrize(
    "query",
    [
        "delete from orders",
        "insert into orders (id) values (99) returning id",
        "select 1; delete from orders",
        "copy orders to 'stolen.csv'",
        "attach 'other.db'",
        "selec 1",
        "select * from nowhere",
    ],
)
def test_a_wrong_query_or_one_that_writes_is_refused(url: str, folder: Path, query: str) -> None:
    before = sorted(folder.iterdir())
    with pytest.raises(ProjectError, match="refuses the query|not one SELECT"):
        sources.sql(url, query).collect()
    assert sources.sql(url, "select count(*) from orders").collect().item() == 72
    assert sorted(folder.iterdir()) == before


def test_dtypes_of_sqlite_are_those_declared(sqlite: Path) -> None:
    columns = ", ".join(f"c{number} {kind}" for number, kind in enumerate(SQLITE_KINDS))
    with sqlite3.connect(sqlite) as connection:
        connection.execute(f"create table kinds ({columns})")
        marks = ", ".join("?" * len(SQLITE_KINDS))
        connection.execute(
            f"insert into kinds values ({marks})", [value for value, _, _ in SQLITE_KINDS.values()]
        )
    connection.close()
    url = "sqlite:///shop.sqlite"
    frame = sources.sql(url, "select * from kinds").collect()
    assert frame.schema == {f"c{n}": dtype for n, (_, dtype, _) in enumerate(SQLITE_KINDS.values())}
    assert frame.row(0) == tuple(value for _, _, value in SQLITE_KINDS.values())
    assert sources.sql(url, "select * from kinds where false").collect().schema == frame.schema
    exact = sources.sql(url, "select c4 from kinds", schema={"c4": pl.Decimal(10, 2)}).collect()
    assert exact.item() == Decimal("12.5")


def test_a_value_that_sqlite_should_not_hold(sqlite: Path) -> None:
    with sqlite3.connect(sqlite) as connection:
        connection.execute("create table loose (id integer)")
        connection.execute("insert into loose values ('oops')")
    connection.close()
    with pytest.raises(DataError, match='column "id".*integer, found "oops"'):
        sources.sql("sqlite:///shop.sqlite", "select id from loose").collect()


def test_dtypes_of_duckdb(duck: Path) -> None:
    query = """
        select uuid '6ccd780c-baba-1026-9564-5b8c656024db' as u, 'a'::enum('a', 'b') as e,
        [1, 2]::bigint[] as l, {'a': 1} as s, timestamptz '2024-06-01 12:00:00+02' as t,
        1.5::decimal(10, 2) as d, '{}'::json as j
    """
    frame = sources.sql("duckdb:///shop.duckdb", query).collect()
    assert frame.schema == {
        "u": pl.String,
        "e": pl.String,
        "l": pl.List(pl.Int64),
        "s": pl.Struct({"a": pl.Int32}),
        "t": pl.Datetime("us", "UTC"),
        "d": pl.Decimal(10, 2),
        "j": pl.String,
    }
    with pytest.raises(ProjectError, match="column 'i' has the type .*interval"):
        sources.sql("duckdb:///shop.duckdb", "select interval 1 day as i").collect()


def test_a_file_that_is_not_there_or_no_database(url: str, folder: Path) -> None:
    kind = url.partition(":")[0]
    with pytest.raises(Failure, match="there is no file .*nowhere.db"):
        sources.sql(f"{kind}:///nowhere.db", "select 1").collect()
    assert not (folder / "nowhere.db").exists()
    (folder / "text.db").write_text("not a database " * 1000)
    with pytest.raises((Failure, ProjectError), match="text.db"):
        sources.sql(f"{kind}:///text.db", "select * from orders").collect()
    with pytest.raises(ConfigError, match="names no file"):
        sources.sql(f"{kind}://", "select 1").collect()


def test_a_duckdb_file_that_another_process_holds(duck: Path) -> None:
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(duck)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(Failure, match="cannot be reached(?s:.*)no other process holds it"):
            sources.sql("duckdb:///shop.duckdb", "select 1").collect()
        holder.communicate("")


def test_sqlite_is_read_while_another_writes(sqlite: Path) -> None:
    writer = sqlite3.connect(sqlite)
    writer.execute("pragma journal_mode = wal")
    writer.execute("begin immediate")
    writer.execute("insert into orders (id) values (99)")
    try:
        assert sources.sql("sqlite:///shop.sqlite", "select count(*) from orders").collect().item() == 72
    finally:
        writer.close()
