"""Servers that die, stop or drop connections in the middle of work: it waits, goes on, and loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import polars as pl
import pytest
from servers import S3, Postgres, place, postgres_programs
from sqlalchemy import Connection, delete, func, insert, select

from envol.project.windows import Window
from envol.storage import Lake, Store, UnreachableError, tables

Day = Callable[[int], Window]
HOLDERS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
PRELUDE = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
import polars as pl
from sqlalchemy import delete, insert
from envol.project.windows import Calendar, Period
from envol.storage import Store, tables
from servers import place
calendar = Calendar("Europe/Paris")
def day(number):
    first = datetime(2013, 3, 29, 12, tzinfo=calendar.zone)
    return calendar.window_at(Period.DAY, first + timedelta(days=number))
store = Store(place(Path(sys.argv[1])))
"""
ADD_UNTIL_KILLED = (
    PRELUDE
    + """
number = 0
while True:
    number += 1
    def add(connection):
        connection.execute(delete(tables.alias).where(tables.alias.c.version == number))
        row = {"model": str(number), "alias": "a", "version": number, "since": 0}
        connection.execute(insert(tables.alias), row)
    store.metadata.write(add)
    print(number, flush=True)
"""
)
REPLACE = (
    PRELUDE
    + """
me = int(sys.argv[2])
for round in range(1, int(sys.argv[3]) + 1):
    for number in range(3):
        made = 10 * round + me
        frame = pl.DataFrame({"made": [made] * made})
        store.lake.replace({"same": frame, f"own_{me}": frame}, day(number), node="n", fingerprint="f")
        print(round, number, flush=True)
"""
)


def child(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """A server that these tests may stop and kill."""
    if postgres_programs() is None:
        request.getfixturevalue("postgres")  # which skips, or fails
    server = Postgres(durable=True)
    server.start()
    yield server
    server.close()


@pytest.fixture
def database(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    url = server.new_database()
    monkeypatch.setenv("ENVOL_STORAGE_URL", url)
    return url.rpartition("/")[2]


@pytest.fixture
def store(tmp_path: Path, database: str) -> Iterator[Store]:
    with Store(place(tmp_path)) as store:
        yield store


@contextmanager
def away(server: Postgres | S3, seconds: float, how: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """The server stops, and is started again after a while."""
    server.stop(how) if isinstance(server, Postgres) else server.stop()
    starting = threading.Timer(seconds, server.start)
    starting.start()
    try:
        yield
    finally:
        starting.join()


def add(connection: Connection) -> None:
    row = {"model": "m", "alias": "a", "at": 1.0, "by": "me", "reason": ""}
    connection.execute(insert(tables.alias_event), row)


def count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(tables.alias_event)).scalar_one()


def test_metadata_waits_for_a_server_that_is_away(store: Store, server: Postgres) -> None:
    metadata = store.metadata
    with away(server, 1.0):
        metadata.write(add)
    with away(server, 0.2, signal.SIGKILL):
        assert metadata.read(count) == 1
    with away(server, 0.2), metadata.begin() as connection:
        add(connection)
    server.stop()
    server.start()
    with metadata.connect() as connection:
        assert count(connection) == 2


def test_work_whose_connection_drops_is_done_again_from_its_start(
    store: Store, server: Postgres, database: str
) -> None:
    dropped = []

    def work(connection: Connection) -> int:
        connection.execute(delete(tables.alias_event))
        add(connection)
        if len(dropped) < 2:
            dropped.extend(server.execute(f"SELECT pg_terminate_backend(pid) FROM ({HOLDERS}) AS holder"))
        return count(connection)

    assert store.metadata.write(work) == 1
    assert len(dropped) == 2
    assert store.metadata.read(count) == 1


def test_a_block_whose_connection_drops_says_so_and_writes_nothing(store: Store, server: Postgres) -> None:
    with (
        pytest.raises(UnreachableError, match="terminating connection"),
        store.metadata.begin() as connection,
    ):
        add(connection)
        server.execute(f"SELECT pg_terminate_backend(pid) FROM ({HOLDERS}) AS holder")
        add(connection)
    assert store.metadata.read(count) == 0


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
    store: Store, server: Postgres, tmp_path: Path
) -> None:
    store.metadata.close()
    writer = child(ADD_UNTIL_KILLED, tmp_path)
    assert writer.stdout is not None
    acknowledged = 0
    for _ in range(3):
        for _ in range(5):
            acknowledged = int(writer.stdout.readline())
        server.stop(signal.SIGKILL)
        server.start()
    for _ in range(5):
        acknowledged = int(writer.stdout.readline())
    writer.kill()
    rest, errors = writer.communicate()
    assert "Error" not in errors
    acknowledged = max([acknowledged, *map(int, rest.split())])
    numbers = store.metadata.read(lambda found: found.execute(select(tables.alias.c.version)).scalars().all())
    assert sorted(numbers) in (list(range(1, acknowledged + 1)), list(range(1, acknowledged + 2)))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_windows_are_committed_across_outages(
    store: Store, server: Postgres, tmp_path: Path, how: signal.Signals
) -> None:
    """Two processes replace windows, and the server dies twice under them."""
    writers = [child(REPLACE, tmp_path, me, 3) for me in (1, 2)]
    for lines in (2, 3):
        for writer in writers:
            assert writer.stdout is not None
            for _ in range(lines):
                writer.stdout.readline()
        server.stop(how)
        time.sleep(0.3)
        server.start()
    said = [writer.communicate() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], said
    for table, last in (("same", {31, 32}), ("own_1", {31}), ("own_2", {32})):
        windows = store.lake.read(table).partition_by("window_start")
        assert len(windows) == 3
        for rows in windows:
            [made] = rows["made"].unique()
            assert made in last and rows.height == made


def test_four_processes_replace_the_same_windows(store: Store, tmp_path: Path) -> None:
    writers = [child(REPLACE, tmp_path, me, 3) for me in range(4)]
    said = [writer.communicate() for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4, said
    for table, last in (("same", {30, 31, 32, 33}), *((f"own_{me}", {30 + me}) for me in range(4))):
        windows = store.lake.read(table).partition_by("window_start")
        assert len(windows) == 3
        for rows in windows:
            [made] = rows["made"].unique()
            assert made in last and rows.height == made
    told = store.lake.snapshots().drop_nulls("node")
    assert told.height == 4 * 3 * 3


def test_a_pen_that_is_lost_in_the_middle_of_a_commit_leaves_no_row_twice(
    store: Store, server: Postgres, day: Day, tmp_path: Path
) -> None:
    """Both only add rows, which DuckLake does not take for a conflict."""
    store.lake.replace({"t": pl.DataFrame({"n": [0.5]})}, day(0), node="t", fingerprint="f")
    large = pl.DataFrame({"n": pl.int_range(4_000_000, eager=True).cast(pl.Float64).sqrt()})
    with closing(Lake(place(tmp_path))) as other, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(store.lake.replace, {"t": large}, day(1), node="t", fingerprint="slow")
        while not server.execute(HOLDERS):
            time.sleep(0.001)
        server.execute(f"SELECT pg_terminate_backend(pid) FROM ({HOLDERS}) AS holder")
        quick = other.replace({"t": pl.DataFrame({"n": [1.5]})}, day(1), node="t", fingerprint="quick")
        assert slow.result().snapshot > quick.snapshot
    assert store.lake.read("t")["n"].to_list()[:2] == [0.5, 0.0]
    assert store.lake.read("t").height == 1 + large.height


def test_a_holder_of_the_pen_that_is_killed_lets_go(
    store: Store, server: Postgres, day: Day, tmp_path: Path
) -> None:
    writer = child(REPLACE, tmp_path, 1, 10_000)
    assert writer.stdout is not None
    writer.stdout.readline()
    while not server.execute(HOLDERS):
        time.sleep(0.001)
    writer.kill()
    store.lake.replace({"t": pl.DataFrame({"n": [1]})}, day(0), node="t", fingerprint="f")
    assert store.lake.read("t")["n"].to_list() == [1]
    writer.communicate()


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """A server of objects that the test may stop."""
    server = S3()
    server.start()
    for name, value in {**server.environment, "ENVOL_STORAGE_DATA": server.new_bucket()}.items():
        monkeypatch.setenv(name, value)
    yield server
    server.close()


def test_the_lake_waits_for_objects_that_are_away(
    database: str, objects: S3, day: Day, tmp_path: Path
) -> None:
    with closing(Lake(place(tmp_path))) as lake:
        lake.replace({"t": pl.DataFrame({"n": [1]})}, day(0), node="t", fingerprint="f")
        with away(objects, 2.0):
            lake.replace({"t": pl.DataFrame({"n": [2]})}, day(1), node="t", fingerprint="f")
        with away(objects, 2.0):
            assert lake.read("t")["n"].to_list() == [1, 2]
        with away(objects, 2.0):
            assert lake.sql("SELECT sum(n) FROM t").item() == 3
        assert lake.compact().files_after == 1
