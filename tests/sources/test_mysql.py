"""MariaDB, by the way that MySQL goes too."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from sources.mariadb import MariaDb

from envol import Window, sources
from envol.errors import DataError, Failure, ProjectError

Day = Callable[[str], Window]
ORDERS = """
    create table if not exists
        orders (id bigint, created_at timestamp null, customer text, amount decimal(12, 2));
    delete from orders; set time_zone = '+00:00';
    insert into orders select seq, timestamp '2024-03-29 23:00:00' + interval seq hour,
        concat('customer ', seq), seq / 4 from seq_0_to_71
"""
OF_DAY = "select * from orders where created_at >= :start and created_at < :end order by id"
KINDS: dict[str, tuple[str, pl.DataType | type[pl.DataType], Any]] = {
    "tinyint": ("2", pl.Int8, 2),
    "smallint": ("2", pl.Int16, 2),
    "int": ("3", pl.Int32, 3),
    "bigint": ("4", pl.Int64, 4),
    "bigint unsigned": ("18446744073709551615", pl.UInt64, 2**64 - 1),
    "float": ("1.5", pl.Float32, 1.5),
    "double": ("2.5", pl.Float64, 2.5),
    "decimal(10,2)": ("12.5", pl.Decimal(10, 2), Decimal("12.50")),
    "boolean": ("true", pl.Boolean, True),
    "text": ("'é'", pl.String, "é"),
    "varchar(5) character set latin1": ("'ü'", pl.String, "ü"),
    "enum('a','b')": ("'a'", pl.String, "a"),
    "varbinary(5)": ("x'00ff'", pl.Binary, b"\x00\xff"),
    "date": ("'2024-06-01'", pl.Date, date(2024, 6, 1)),
    "time": ("'13:14:15'", pl.String, "13:14:15"),
    "datetime(6)": ("'2024-06-01 12:00:00.5'", pl.Datetime("us"), datetime(2024, 6, 1, 12, 0, 0, 500_000)),
    "timestamp null": ("'2024-06-01 12:00:00'", pl.Datetime("us"), datetime(2024, 6, 1, 12)),
    "year": ("2024", pl.Int32, 2024),
    "json": ("""'{"a":1}'""", pl.Binary, b'{"a":1}'),
}


@pytest.fixture(scope="module")
def shop(mariadb: MariaDb) -> str:
    mariadb.execute(ORDERS)
    return mariadb.url


def test_each_window_has_its_rows(shop: str, day: Day) -> None:
    """The clocks change on the second day."""
    days = [
        sources.sql(shop, OF_DAY, day(key)).collect() for key in ("2024-03-30", "2024-03-31", "2024-04-01")
    ]
    assert [frame.height for frame in days] == [24, 23, 24]
    assert pl.concat(days)["id"].to_list() == list(range(71))
    assert days[0].row(1) == (1, datetime(2024, 3, 30), "customer 1", Decimal("0.25"))


def test_dtypes(shop: str, mariadb: MariaDb) -> None:
    """They are the query's also where there is no row, or all of it is null; times are in UTC."""
    columns = ", ".join(f"c{number} {kind}" for number, kind in enumerate(KINDS))
    values = ", ".join(value for value, _, _ in KINDS.values())
    mariadb.execute(
        f"create or replace table kinds ({columns}); set time_zone = '+00:00'; "
        f"insert into kinds values ({values}); create or replace table nulls ({columns}); "
        f"insert into nulls values ({', '.join(['null'] * len(KINDS))})"
    )
    frame = sources.sql(shop, "select * from kinds").collect()
    assert frame.schema == {f"c{n}": dtype for n, (_, dtype, _) in enumerate(KINDS.values())}
    assert frame.row(0) == tuple(value for _, _, value in KINDS.values())
    assert sources.sql(shop, "select * from kinds where false").collect().schema == frame.schema
    assert sources.sql(shop, "select * from nulls").collect().schema == frame.schema


def test_text_that_the_driver_takes_for_bytes(shop: str) -> None:
    query = """select '{"a": "é"}' collate utf8mb4_bin as j"""
    assert sources.sql(shop, query).collect().schema == {"j": pl.Binary}
    frame = sources.sql(shop, query, schema={"j": pl.String}).collect()
    assert frame.rows() == [('{"a": "é"}',)]


def test_parameters_are_bound(shop: str) -> None:
    query = r"select id from orders where customer = :customer or id = :id or customer = 'it\'s :id'"
    injection = "x' or '1'='1"
    assert sources.sql(shop, query, customer=injection, id=3).collect()["id"].to_list() == [3]
    frame = sources.sql(shop, "select id from orders where customer like '%7%' and id < :id", id=20)
    assert sorted(frame.collect()["id"].to_list()) == [7, 17]


@pytest.mark.parametrize("value", [1, 2.5, "é", True, date(2024, 6, 1), datetime(2024, 6, 1)])
def test_kinds_of_parameters(shop: str, value: object) -> None:
    frame = sources.sql(shop, "select :v = :v as same, ':v' as colon", v=value).collect()
    assert frame.rows() == [(1, ":v")]


def test_rows_come_in_batches(shop: str) -> None:
    batches = list(sources.sql(shop, "select id from orders order by id", batch=10))
    assert [frame.height for frame in batches] == [10] * 7 + [2]
    assert pl.concat(batches)["id"].to_list() == list(range(72))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("insert into orders (id) values (1)", ""),
        ("insert into orders (id) values (1) returning id", ""),
        ("delete from orders", ""),
        ("select 1; delete from orders", "syntax"),
        ("select 1 into outfile '/tmp/x'", ""),
        ("selec 1", "syntax"),
        ("select * from nowhere", "Table 'shop.nowhere' doesn't exist"),
        ("select nothing from orders", "Unknown column 'nothing'"),
    ],
)
def test_a_wrong_query_or_one_that_writes_is_refused(
    shop: str, mariadb: MariaDb, query: str, said: str
) -> None:
    with pytest.raises(ProjectError, match=f"mariadb at 127.0.0.1 refuses the query: .*{said}"):
        sources.sql(shop, query).collect()
    assert mariadb.execute("select count(*) from orders").strip() == "72"


def test_a_value_that_does_not_fit(shop: str) -> None:
    with pytest.raises(DataError, match="does not fit the schema"):
        sources.sql(shop, "select customer from orders", schema={"customer": pl.Int64}).collect()


def test_a_connection_that_breaks_off(shop: str, mariadb: MariaDb) -> None:
    batches = sources.sql(shop, "select seq, repeat('x', 200) from seq_1_to_300000", batch=1000)
    next(batches)
    mariadb.kill_clients()
    with pytest.raises(Failure, match="broke off: (?s:.*)retries"):
        batches.collect()


def test_a_server_that_is_not_there_is_told_without_the_password(
    shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = MariaDb.password
    for url in (
        f"mysql://app:{secret}@127.0.0.1:1/shop",
        f"mysql://app:{secret}@nowhere.invalid/shop",
        shop.replace(secret, f"not-{secret}"),
        shop + "_not",
        f"{shop}?no_such_option={secret}",
    ):
        monkeypatch.setenv("SHOP_URL", url)
        for given in (url, "env:SHOP_URL"):
            with pytest.raises(Failure, match="cannot be reached(?s:.*)host, port") as caught:
                sources.sql(given, "select 1").collect()
            assert secret not in "".join(traceback.format_exception(caught.value))
