"""PostgreSQL: dtypes, bound parameters, and what becomes of a query when the server goes."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from servers import Postgres

from envol import Window, sources
from envol.errors import ConfigError, DataError, Failure, ProjectError

Day = Callable[[str], Window]
INJECTION = "x'; drop table orders; --"
ORDERS = """
    create table orders (id bigint, created_at timestamptz, customer text, amount numeric(12, 2));
    insert into orders select n, timestamptz '2024-03-30 00:00:00+01' + n * interval '1 hour',
        'customer ' || n, n / 4.0 from generate_series(0, 71) n
"""
OF_DAY = "select * from orders where created_at >= :start and created_at < :end order by id"
# type, value in SQL, dtype, value in the frame
KINDS: dict[str, tuple[str, pl.DataType | type[pl.DataType], Any]] = {
    "smallint": ("2", pl.Int16, 2),
    "integer": ("3", pl.Int32, 3),
    "bigint": ("4", pl.Int64, 4),
    "real": ("1.5", pl.Float32, 1.5),
    "double precision": ("2.5", pl.Float64, 2.5),
    "numeric(10,2)": ("12.50", pl.Decimal(10, 2), Decimal("12.50")),
    "numeric": ("1.25", pl.Float64, 1.25),
    "numeric(50,2)": ("1.25", pl.Float64, 1.25),
    "boolean": ("true", pl.Boolean, True),
    "text": ("'é'", pl.String, "é"),
    "varchar(5)": ("'v'", pl.String, "v"),
    "bytea": (r"'\x00ff'", pl.Binary, b"\x00\xff"),
    "date": ("'2024-06-01'", pl.Date, date(2024, 6, 1)),
    "time": ("'13:14:15'", pl.Time, time(13, 14, 15)),
    "timestamp": ("'2024-06-01 12:00'", pl.Datetime("us"), datetime(2024, 6, 1, 12)),
    "timestamptz": ("'2024-06-01 14:00+02'", pl.Datetime("us", "UTC"), datetime(2024, 6, 1, 12, tzinfo=UTC)),
    "json": ("""'{"a": 1}'""", pl.String, '{"a": 1}'),
    "jsonb": ("""'{"a":1}'""", pl.String, '{"a": 1}'),
    "uuid": ("'6ccd780c-baba-1026-9564-5b8c656024db'", pl.String, "6ccd780c-baba-1026-9564-5b8c656024db"),
    "mood": ("'glad'", pl.String, "glad"),
    "positive": ("5", pl.Int32, 5),
    "integer[]": ("'{1,null}'", pl.List(pl.Int32), [1, None]),
    "text[]": ("'{a,b}'", pl.List(pl.String), ["a", "b"]),
    "numeric[]": ("'{1.25}'", pl.List(pl.Float64), [1.25]),
    "uuid[]": (
        "'{6ccd780c-baba-1026-9564-5b8c656024db}'",
        pl.List(pl.String),
        ["6ccd780c-baba-1026-9564-5b8c656024db"],
    ),
    "pair": ("(1, 'x')", pl.Struct({"a": pl.Int32, "b": pl.String}), {"a": 1, "b": "x"}),
}


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[str]:
    """The url of a database with orders of three days, of which the second has 23 hours."""
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    postgres.execute(ORDERS, name)
    postgres.execute(
        "create type mood as enum ('sad', 'glad'); create domain positive as int check (value > 0); "
        "create type pair as (a int, b text)",
        name,
    )
    yield url


def run(postgres: Postgres, database: str, statement: str) -> list[tuple[object, ...]]:
    return postgres.execute(statement, database.rpartition("/")[2])


def test_each_window_has_its_rows(database: str, day: Day) -> None:
    """The clocks change on the second day."""
    days = [
        sources.sql(database, OF_DAY, day(key)).collect()
        for key in ("2024-03-30", "2024-03-31", "2024-04-01")
    ]
    assert [frame.height for frame in days] == [24, 23, 24]
    assert pl.concat(days)["id"].to_list() == list(range(71))
    assert days[0].row(1) == (
        1,
        datetime(2024, 3, 30, tzinfo=UTC),
        "customer 1",
        Decimal("0.25"),
    )


def test_dtypes(database: str) -> None:
    """They are the query's also where there is no row, or all of it is null."""
    columns = ", ".join(
        f"cast({value} as {kind}) as c{n}" for n, (kind, (value, _, _)) in enumerate(KINDS.items())
    )
    frame = sources.sql(database, f"select {columns}").collect()
    assert frame.schema == {f"c{n}": dtype for n, (_, dtype, _) in enumerate(KINDS.values())}
    assert frame.row(0) == tuple(value for _, _, value in KINDS.values())
    assert sources.sql(database, f"select {columns} where false").collect().schema == frame.schema
    nulls = ", ".join(f"cast(null as {kind}) as c{n}" for n, kind in enumerate(KINDS))
    assert sources.sql(database, f"select {nulls} union all select {nulls}").collect().schema == frame.schema


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("interval '1 day'", "interval"),
        ("inet '10.0.0.1'", "inet"),
        ("money '1.50'", "money"),
        ("array[inet '10.0.0.1']", "inet"),
        ("point '(1,2)'", "point"),
    ],
)
def test_a_type_without_counterpart_is_told(database: str, value: str, kind: str) -> None:
    with pytest.raises(ProjectError, match=rf"column 'c' has the type .*({kind})(?s:.*)cast\(c as text\)"):
        sources.sql(database, f"select {value} as c").collect()


def test_a_schema_says_otherwise(database: str) -> None:
    exact = {"n": pl.Decimal(20, 5), "i": pl.Int64}
    query = "select 1.25::numeric as n, 5::int as i, 'x' as other"
    frame = sources.sql(database, query, schema=exact).collect()
    assert frame.schema == {**exact, "other": pl.String}
    assert frame.row(0) == (Decimal("1.25"), 5, "x")
    with pytest.raises(DataError, match="does not fit the schema"):
        sources.sql(database, "select 300 as i", schema={"i": pl.Int8}).collect()
    with pytest.raises(DataError, match="cannot be read|does not fit"):
        sources.sql(database, "select 'nan'::numeric(10, 2) as n").collect()


@pytest.mark.parametrize("value", ["timestamptz 'infinity'", "timestamp '-infinity'", "date 'infinity'"])
def test_an_infinite_time_is_told(database: str, value: str) -> None:
    with pytest.raises(DataError, match=r"infinite time(?s:.*)nullif\(c, 'infinity'\)"):
        sources.sql(database, f"select {value} as c").collect()


def test_parameters_are_bound(postgres: Postgres, database: str) -> None:
    query = "select id from orders where customer = :customer or customer = 'customer 1'"
    assert sources.sql(database, query, customer=INJECTION).collect()["id"].to_list() == [1]
    run(postgres, database, "insert into orders (id, customer) values (-1, 'x''; drop table orders; --')")
    try:
        rows = sources.sql(database, query, customer=INJECTION).collect()
        assert sorted(rows["id"].to_list()) == [-1, 1]
    finally:
        run(postgres, database, "delete from orders where id = -1")


@pytest.mark.parametrize(
    "value",
    [1, 2.5, "é", True, date(2024, 6, 1), datetime(2024, 6, 1, 12, tzinfo=UTC), datetime(2024, 6, 1), b"\0"],
)
def test_kinds_of_parameters(database: str, value: object) -> None:
    query = """
        select :v as v, ':v'::text as colon, (array[1, 2])[1 \\: 2] as slice, -- :comment
            '{"a":true, "b": "it''s :v"}'::json ->> 'b' as ":id", $$:v$$ as dollars, /* :v */ :v as again
    """
    frame = sources.sql(database, query, v=value).collect()
    assert frame.rows() == [(value, ":v", [1, 2], "it's :v", ":v", value)]
    assert frame.columns[3] == ":id"
    frame = sources.sql(database, "select id from orders where id = any(:ids) order by id", ids=[3, 1])
    assert frame.collect()["id"].to_list() == [1, 3]


def test_rows_come_in_batches(database: str) -> None:
    batches = list(sources.sql(database, "select id from orders order by id", batch=10))
    assert [frame.height for frame in batches] == [10] * 7 + [2]
    assert pl.concat(batches)["id"].to_list() == list(range(72))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("insert into orders (id) values (1) returning id", "syntax error"),
        ("with new as (delete from orders returning id) select * from new", "data-modifying"),
        ("select 1; delete from orders", "multiple commands"),
        ("select 1) to stdout; delete from orders; --", "syntax error|multiple commands"),
        ("select nextval('numbers')", "read-only"),
        ("select wipe()", "read-only"),
        ("selec 1", 'syntax error at or near "selec"'),
        ("select * from nowhere", 'relation "nowhere" does not exist'),
        ("select created_at from orders where id = 'x'", "invalid input syntax"),
    ],
)
def test_a_wrong_query_or_one_that_writes_is_refused(
    postgres: Postgres, database: str, query: str, said: str
) -> None:
    run(postgres, database, "create sequence if not exists numbers")
    run(
        postgres,
        database,
        "create or replace function wipe() returns int language sql as 'delete from orders; select 1'",
    )
    with pytest.raises(ProjectError, match=f"refuses the query: .*({said})"):
        sources.sql(database, query).collect()
    assert run(postgres, database, "select count(*) from orders") == [(72,)]


def test_parameters_that_are_missing_or_not_used(database: str, day: Day) -> None:
    with pytest.raises(ProjectError, match=":shop has no value"):
        sources.sql(database, "select :shop").collect()
    with pytest.raises(ProjectError, match="does not use the parameter 'shop'"):
        sources.sql(database, "select 1", shop=1).collect()
    with pytest.raises(ProjectError, match=":start has no value(?s:.*)pass the window"):
        sources.sql(database, OF_DAY).collect()
    with pytest.raises(ProjectError, match="every window would get the same rows"):
        sources.sql(database, "select 1", day("2024-03-30")).collect()


def test_a_query_that_fails_on_its_rows(database: str) -> None:
    batches = sources.sql(database, "select 1 / (50 - g) from generate_series(1, 90) g", batch=10)
    assert next(batches).height == 10
    with pytest.raises(DataError, match="division by zero"):
        batches.collect()


def test_a_connection_that_breaks_off(postgres: Postgres, database: str) -> None:
    batches = sources.sql(database, "select g from generate_series(1, 1000000) g", batch=1000)
    next(batches)
    kill = "select pg_terminate_backend(pid) from pg_stat_activity where query like 'fetch forward%'"
    assert run(postgres, database, kill) == [(True,)]
    with pytest.raises(Failure, match="broke off: terminating connection(?s:.*)retries"):
        batches.collect()


def test_what_is_given_up_is_closed(postgres: Postgres, database: str) -> None:
    batches = sources.sql(database, "select g from generate_series(1, 1000000) g", batch=1000)
    next(batches)
    open_ones = "select count(*) from pg_stat_activity where query like 'fetch forward%'"
    assert run(postgres, database, open_ones) == [(1,)]
    batches.close()
    while run(postgres, database, open_ones) != [(0,)]:
        pass


def test_a_server_that_is_not_there_is_told_without_the_password(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for url in (
            f"postgresql://app:pa55word@127.0.0.1:{port}/shop?connect_timeout=2",
            "postgresql://app:pa55word@127.0.0.1:1/shop",
            "postgresql://app:pa55word@nowhere.invalid/shop",
            database.replace("envol@", "envol:pa55word@") + "_not",
            "postgresql://app:pa55word@127.0.0.1:1/shop?sslmode=pa55word",
        ):
            monkeypatch.setenv("SHOP_URL", url)
            for given in ("env:SHOP_URL",) if str(port) in url else (url, "env:SHOP_URL"):
                with pytest.raises(Failure, match="cannot be reached(?s:.*)host, port") as caught:
                    sources.sql(given, "select 1").collect()
                assert "pa55word" not in "".join(traceback.format_exception(caught.value))


def test_secrets_of_the_url(database: str, folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_URL", database)
    (folder / "secret").write_text(f"{database}\n")
    port = database.partition("127.0.0.1:")[2].partition("/")[0]
    monkeypatch.setenv("SHOP_PORT", port)
    for url in ("env:SHOP_URL", "file:secret", database.replace(port, "{env:SHOP_PORT}")):
        assert sources.sql(url, "select 1 as one").collect().item() == 1
    with pytest.raises(ConfigError, match="'SHOP' is not set"):
        sources.sql("env:SHOP", "select 1").collect()
    with pytest.raises(ConfigError, match="the secret's file nowhere cannot be read"):
        sources.sql("file:nowhere", "select 1").collect()


def test_a_type_that_the_driver_does_not_read(database: str) -> None:
    with pytest.raises(ProjectError, match=r"cannot be read(?s:.*)cast"):
        sources.sql(database, "select row(1, 2.5::numeric) as c").collect()


@pytest.mark.parametrize("url", ["oracle://a/b", "shop.db", "postgresql:/x", ""])
def test_a_wrong_url(url: str) -> None:
    with pytest.raises((ConfigError, Failure)):
        sources.sql(url, "select 1").collect()
