"""SQL over the lake: what it gives, and what it must not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from envol.errors import UserError
from envol.project.windows import Calendar, Period
from envol.storage import Lake, Place
from envol.storage.place import Database

WINDOW = Calendar("UTC").window_at(Period.DAY, datetime(2013, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module", params=["embedded", "shared"])
def lake(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake in a folder, and one in PostgreSQL and S3."""
    place = Place(tmp_path_factory.mktemp("lake"))
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "shared":
            database = Database(request.getfixturevalue("postgres").new_database(), "test")
            s3 = request.getfixturevalue("s3")
            for name, value in s3.environment.items():
                patch.setenv(name, value)
            place = Place(place.folder, database, f"{s3.new_bucket()}/test")
        lake = Lake(place)
    frame = pl.DataFrame({"carrier": ["AA", "UA", "AA"], "delay": [1, 2, 3]})
    lake.replace({"flights": frame}, WINDOW, node="flights", fingerprint="f")
    yield lake
    lake.close()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "secret.csv").write_text("word\nplum\n")
    with closing(sqlite3.connect(tmp_path / "secret.sqlite")) as connection:
        connection.executescript("CREATE TABLE secret (word); INSERT INTO secret VALUES ('plum')")
    return tmp_path


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SELECT carrier, sum(delay) FROM flights GROUP BY 1 ORDER BY 1", [("AA", 4), ("UA", 2)]),
        ("FROM flights SELECT count(*);", [(3,)]),
        ("SELECT window_start FROM flights LIMIT 1", [(WINDOW.start,)]),
        ("WITH late AS (FROM flights WHERE delay > 1) SELECT count(*) FROM late", [(2,)]),
        ("SELECT count(*) FROM flights AT (VERSION => 1)", [(3,)]),
        ("SHOW TABLES", [("flights",)]),
        ("SELECT n FROM range(2) numbers(n)", [(0,), (1,)]),
        ("SELECT 1 AS a, 2 AS a, NULL AS b, INTERVAL 36 HOUR AS i", [(1, 2, None, "36:00:00")]),
        ("SELECT sum(n) FROM (VALUES (170141183460469231731687303715884105727::HUGEINT)) t(n)", None),
    ],
)
def test_queries_read(lake: Lake, query: str, rows: list[tuple[object, ...]] | None) -> None:
    frame = lake.sql(query)
    assert rows is None or frame.rows() == rows


def test_names_that_come_twice_are_told_apart(lake: Lake) -> None:
    assert lake.sql("SELECT 1 AS a, 2 AS a, 3 AS a_2").columns == ["a", "a_2", "a_2_2"]
    assert {"column_name", "column_type"} <= set(lake.sql("DESCRIBE flights").columns)
    assert lake.sql("SUMMARIZE flights").height == 3
    assert "flights" in str(lake.sql("EXPLAIN SELECT * FROM flights").rows())


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM flights",
        "INSERT INTO flights SELECT * FROM flights",
        "CREATE TABLE t (a INTEGER)",
        "CREATE TEMP TABLE t (a INTEGER)",
        "DROP TABLE flights",
        "ATTACH '{secret}/secret.sqlite' AS s (TYPE sqlite)",
        "COPY flights TO '{secret}/out.csv'",
        "COPY flights TO '{lake}/tables/out.csv'",
        "EXPLAIN ANALYZE COPY flights TO '{lake}/tables/out.csv'",
        "SET threads = 1",
        "RESET lock_configuration",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "USE memory",
        "CALL lake.set_option('target_file_size', '1MB')",
        "FROM ducklake_set_option('lake', 'target_file_size', '1MB')",
        "FROM ducklake_expire_snapshots('lake', versions => [0])",
        "FROM ducklake_cleanup_old_files('lake', cleanup_all => true)",
        "FROM '{secret}/secret.csv'",
        "FROM read_csv('{secret}/secret.csv')",
        "SELECT (SELECT content FROM read_text('{secret}/secret.csv'))",
        "WITH a AS (FROM sqlite_scan('{secret}/secret.sqlite', 'secret')) FROM a",
        "FROM sqlite_query('__ducklake_metadata_lake', 'SELECT 1')",
        "FROM sqlite_attach('{secret}/secret.sqlite')",
        "FROM postgres_query('__ducklake_metadata_lake', 'SELECT 1')",
        "CALL postgres_execute('__ducklake_metadata_lake', 'DROP TABLE ducklake_snapshot')",
        "FROM postgres_scan('', 'lake_test', 'ducklake_snapshot')",
        "FROM __ducklake_metadata_lake.pg_catalog.pg_authid",
        "FROM duckdb_secrets()",
        "FROM read_blob('s3://other/secret')",
        "FROM 's3://other/secret.parquet'",
        "FROM read_blob('{lake}/tables/../lake.sqlite')",
        "FROM '{lake}/tables/../lake.sqlite'",
        "FROM glob('/etc/*')",
        "DESCRIBE (FROM read_csv('{secret}/secret.csv'))",
        "FROM query('SELECT 1')",
        "SELECT 1; SELECT 2",
        "",
        "SELECT 1; DELETE FROM flights",
    ],
)
def test_queries_neither_write_nor_look_around(lake: Lake, secret: Path, query: str) -> None:
    before = sorted(secret.iterdir())
    with pytest.raises(UserError) as caught:
        lake.sql(query.format(secret=secret, lake=lake.path))
    assert caught.value.remedy
    assert "plum" not in str(caught.value)
    assert sorted(secret.iterdir()) == before
    assert not list(lake.path.rglob("*.csv"))
    assert lake.sql("SELECT count(*) FROM flights").item() == 3


def test_variables_of_the_caller_are_not_tables(lake: Lake) -> None:
    frame = pl.DataFrame({"a": [1]})
    with pytest.raises(UserError, match="frame"):
        lake.sql("SELECT * FROM frame")
    assert frame.height == 1


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("SELCT 1", 'syntax error at or near "SELCT"'),
        ("SELECT delays FROM flights", 'Candidate bindings: "delay"'),
        ("SELECT * FROM flight", "Did you mean"),
        ("SELECT CAST('x' AS INTEGER)", "Could not convert string 'x'"),
    ],
)
def test_wrong_queries_come_with_the_hint(lake: Lake, query: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        lake.sql(query)


def test_threads_query_while_another_writes(lake: Lake) -> None:
    frame = pl.DataFrame({"n": [1, 2]})

    def query(number: int) -> int:
        if number % 4 == 0:
            lake.replace({"other": frame}, WINDOW, node="other", fingerprint="f")
        return int(lake.sql("SELECT sum(delay) FROM flights").item())

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(query, range(16))) == {6}
