"""A lake in PostgreSQL and S3: objects come and go with what needs them, and no project touches another's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from servers import S3, Postgres

from envol.errors import StorageError, UserError
from envol.project.windows import Window
from envol.storage import Lake, Place
from envol.storage.place import Database

Day = Callable[[int], Window]


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    with postgres.empty_database() as url:
        yield url


@pytest.fixture
def lake(tmp_path: Path, url: str, bucket: str) -> Iterator[Lake]:
    with closing(Lake(Place(tmp_path, Database(url, "one"), f"{bucket}/one"))) as lake:
        yield lake


def put(lake: Lake, window: Window, number: int) -> None:
    frame = pl.DataFrame({"number": [number]})
    lake.replace({"t": frame}, window, node="t", fingerprint="f")


def test_objects_stay_for_the_grace_and_go_when_nothing_needs_them(
    lake: Lake, day: Day, bucket: str, s3: S3
) -> None:
    for number in range(10):
        put(lake, day(number), number)
    orphan = s3.folder / bucket.removeprefix("s3://") / "one/tables/main/t/left-behind.parquet"
    orphan.write_bytes(b"of a transaction that was killed")
    assert lake.compact(grace=timedelta(days=1)).files_after == 1
    assert len(s3.objects(bucket)) == 12
    scan = lake.scan("t", snapshot=5)
    removed = lake.compact(grace=timedelta(0)).files_removed
    assert removed == 11
    assert len(s3.objects(bucket)) == 1
    assert scan.collect().height == 5  # earlier snapshots read what was merged
    put(lake, day(0), 100)
    now = datetime.now(UTC) + timedelta(days=1)
    assert lake.expire(timedelta(0), now, grace=timedelta(0)) > 0
    lake.compact(grace=timedelta(0))
    assert len(s3.objects(bucket)) == 3  # ten rows, which of them is deleted, and the new one
    assert lake.read("t")["number"].to_list() == [100, *range(1, 10)]


def test_projects_in_one_database_and_bucket_touch_nothing_of_each_other(
    lake: Lake, day: Day, tmp_path: Path, url: str, bucket: str
) -> None:
    put(lake, day(0), 1)
    with closing(Lake(Place(tmp_path, Database(url, "two"), f"{bucket}/two"))) as other:
        put(other, day(0), 2)
        for number in range(3):
            put(other, day(0), number)
        other.expire(timedelta(0), datetime.now(UTC) + timedelta(days=1), grace=timedelta(0))
        other.compact(grace=timedelta(0))
        assert other.read("t")["number"].to_list() == [2]
    assert lake.read("t")["number"].to_list() == [1]
    assert [info.name for info in lake.tables()] == ["t"]


def test_a_new_catalog_takes_no_place_with_files_of_another(
    lake: Lake, day: Day, tmp_path: Path, postgres: Postgres, bucket: str
) -> None:
    put(lake, day(0), 1)
    elsewhere = Database(postgres.new_database(), "one")
    with pytest.raises(StorageError, match="holds files already") as caught:
        Lake(Place(tmp_path, elsewhere, f"{bucket}/one"))
    assert "`data` under [storage]" in str(caught.value)
    assert lake.read("t")["number"].to_list() == [1]


def test_an_object_that_is_gone_is_named(lake: Lake, day: Day, bucket: str, s3: S3) -> None:
    put(lake, day(0), 1)
    [name] = s3.objects(bucket)
    (s3.folder / bucket.removeprefix("s3://") / name).unlink()
    with pytest.raises(StorageError, match="one of its files is gone") as caught:
        lake.read("t")
    assert "restore the bucket" in str(caught.value)


def test_any_duckdb_reads_it_without_envol(lake: Lake, day: Day, url: str, s3: S3, bucket: str) -> None:
    put(lake, day(0), 7)
    with closing(duckdb.connect()) as database:
        for name in ("postgres_scanner", "httpfs", "ducklake"):
            package = __import__(f"duckdb_extension_{name}")
            [file] = Path(package.__path__[0]).rglob("*.duckdb_extension")
            database.load_extension(str(file))
        endpoint = s3.environment["AWS_ENDPOINT_URL_S3"].removeprefix("http://")
        database.execute(
            "CREATE SECRET (TYPE s3, KEY_ID 'test', SECRET 'x', REGION 'us-east-1', URL_STYLE 'path',"
            f" USE_SSL false, ENDPOINT '{endpoint}')"
        )
        database.execute(f"ATTACH 'ducklake:postgres:{url}' AS one (READ_ONLY, METADATA_SCHEMA 'lake_one')")
        assert database.sql("SELECT number FROM one.t").fetchall() == [(7,)]


@pytest.mark.parametrize(("missing", "extra"), [("psycopg", "postgres"), ("obstore", "s3")])
def test_what_is_not_installed_is_named(tmp_path: Path, bucket: str, missing: str, extra: str) -> None:
    script = f"""
import sys
from pathlib import Path
from envol.errors import UserError
from envol.storage import Place, Store
from envol.storage.place import Database
sys.modules[{missing!r}] = None  # as where it is not installed
database = Database("postgresql://envol@127.0.0.1/base", "one") if {missing == "psycopg"} else None
store = Store(Place(Path(sys.argv[1]), database, None if database else {bucket!r}))
for what in ("artifacts", "lake") if database is None else ("metadata", "lake"):
    try:
        getattr(store, what)
    except UserError as error:
        print(error.remedy)
"""
    found = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True, env=os.environ
    )
    assert found.stdout.splitlines() == [f"pip install 'envol[{extra}]'"] * 2


def test_a_lake_without_credentials_says_where_they_go(
    tmp_path: Path, url: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(UserError, match="no credentials"):
        Lake(Place(tmp_path, Database(url, "one"), f"{bucket}/one"))
