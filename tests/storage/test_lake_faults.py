"""Threads, processes, kill -9, full and forbidden disks: what was committed stays, whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from servers import place

from envol.errors import StorageError
from envol.project.windows import Window
from envol.storage import Lake

Day = Callable[[int], Window]
PRELUDE = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
import polars as pl
from envol.project.windows import Calendar, Period
from envol.storage import Lake
from servers import place
calendar = Calendar("Europe/Paris")
def day(number):
    first = datetime(2013, 3, 29, 12, tzinfo=calendar.zone)
    return calendar.window_at(Period.DAY, first + timedelta(days=number))
lake = Lake(place(Path(sys.argv[1])), merge_every=7)
"""
WRITE_UNTIL_KILLED = (
    PRELUDE
    + """
round = int(sys.argv[2])
while True:
    round += 1
    for number in range(3):
        frame = pl.DataFrame({"round": [round] * (500 + round % 7), "row": range(500 + round % 7)})
        lake.replace({"a": frame, "b": frame.head(10)}, day(number), node="a", fingerprint=str(round))
        print(round, number, flush=True)
"""
)
WRITE_SOME = (
    PRELUDE
    + """
table, count = sys.argv[2], int(sys.argv[3])
for number in range(count):
    lake.replace({table: pl.DataFrame({"n": [number]})}, day(number), node=table, fingerprint="f")
"""
)


def run(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_threads_replace_tables_side_by_side(lake: Lake, day: Day) -> None:
    def write(task: int) -> None:
        frame = pl.DataFrame({"n": [task] * (1 + task % 3)})
        lake.replace({f"t{task % 5}": frame}, day(task // 10), node="t", fingerprint="f")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(30)))
    for table in range(5):
        frame = lake.read(f"t{table}")
        assert frame["window_start"].n_unique() == 3
        for (start,), rows in frame.group_by("window_start"):
            task = rows["n"][0]
            assert rows["n"].to_list() == [task] * (1 + task % 3)
            assert day(task // 10).start == start


def test_processes_write_one_lake_at_once_from_its_first_moment(
    tmp_path: Path, day: Day, storage: str
) -> None:
    children = [run(WRITE_SOME, tmp_path, table, 8) for table in ("same", "same", "other")]
    for child in children:
        _, errors = child.communicate()
        assert (child.returncode, errors) == (0, "")
    with closing(Lake(place(tmp_path))) as lake:
        for table in ("same", "other"):
            assert lake.read(table)["n"].to_list() == list(range(8))


def test_readers_see_whole_commits_while_a_process_writes(lake: Lake, day: Day) -> None:
    child = run(WRITE_UNTIL_KILLED, lake.path, 0)
    assert child.stdout
    child.stdout.readline()
    try:
        for _ in range(5):
            check_whole(lake.read("a"), dict.fromkeys(range(3), 0))
            check_whole(lake.scan("a").collect(), dict.fromkeys(range(3), 0))
    finally:
        child.kill()
        child.communicate()


def test_a_killed_writer_leaves_each_window_old_or_new(tmp_path: Path, storage: str) -> None:
    rounds = random.Random(7)
    acknowledged = dict.fromkeys(range(3), 0)
    newest = 0
    for _ in range(4):
        child = run(WRITE_UNTIL_KILLED, tmp_path, newest)
        assert child.stdout
        first = child.stdout.readline()
        time.sleep(rounds.uniform(0, 0.4))
        os.kill(child.pid, signal.SIGKILL)
        output, errors = child.communicate()
        assert errors == ""
        for line in (first + output).splitlines():
            made, number = map(int, line.split())
            acknowledged[number], newest = made, max(newest, made)
        with closing(Lake(place(tmp_path))) as lake:
            check_whole(lake.read("a"), acknowledged)
            assert lake.read("b").height == 10 * lake.read("a")["window_start"].n_unique()
            newest = max(newest, lake.read("a")["round"].max())  # type: ignore[type-var,assignment]
    with closing(Lake(place(tmp_path))) as lake:
        before = lake.read("a")
        lake.compact()
        assert lake.read("a").equals(before)


def check_whole(frame: pl.DataFrame, acknowledged: dict[int, int]) -> None:
    """Every window holds the rows of one round completely, and no round older than acknowledged."""
    windows = frame.partition_by("window_start")
    assert windows
    for number, rows in enumerate(windows):
        made = rows["round"][0]
        assert made >= acknowledged[number]
        assert rows["round"].to_list() == [made] * (500 + made % 7)
        assert rows["row"].to_list() == list(range(500 + made % 7))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def big(seed: int) -> pl.DataFrame:
    noise = random.Random(seed)
    return pl.DataFrame({"noise": [noise.random() for _ in range(40_000)]})


def test_a_full_disk_is_named_and_nothing_stored_is_lost(small_disk: Path, day: Day) -> None:
    with closing(Lake(small_disk)) as lake:
        written = []
        with pytest.raises(StorageError) as caught:
            for number in range(20):
                lake.replace({"t": big(number)}, day(number), node="t", fingerprint="f")
                written.append(number)
        assert str(small_disk) in str(caught.value)
        assert "free space" in str(caught.value)
        assert caught.value.window == day(len(written)).key
        assert lake.read("t")["noise"].to_list() == [x for n in written for x in big(n)["noise"].to_list()]
    with closing(Lake(small_disk)) as lake:
        assert lake.read("t").height == 40_000 * len(written)
        assert written


def test_a_file_size_limit_is_named_and_nothing_stored_is_lost(tmp_path: Path, day: Day) -> None:
    script = (
        PRELUDE
        + """
import random, resource, signal
from envol.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
lake.replace({"t": pl.DataFrame({"noise": [1.0]})}, day(0), node="t", fingerprint="f")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    frame = pl.DataFrame({"noise": [random.random() for _ in range(100_000)]})
    lake.replace({"t": frame}, day(0), node="t", fingerprint="f")
except StorageError as error:
    print(error)
print(lake.read("t")["noise"].to_list())
"""
    )
    output, errors = run(script, tmp_path).communicate()
    assert errors == ""
    assert f"the lake in {tmp_path} cannot be written" in output
    assert "free space" in output
    assert output.splitlines()[-1] == "[1.0]"


def test_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none cannot be opened"):
        Lake(tmp_path / "none")


def test_a_damaged_catalog_is_named(tmp_path: Path) -> None:
    (tmp_path / "lake.sqlite").write_text("no catalog at all, but long enough to be read as one" * 100)
    with pytest.raises(StorageError, match=r"cannot be opened: it is damaged") as caught:
        Lake(tmp_path)
    assert "restore" in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda file: file.write_bytes(b""), "it is damaged"),
        (lambda file: file.write_bytes(b"no Parquet at all"), "it is damaged"),
        (lambda file: file.unlink(), "one of its files is gone"),
    ],
)
def test_a_damaged_file_of_a_table_is_named(
    tmp_path: Path, day: Day, damage: Callable[[Path], object], told: str
) -> None:
    with closing(Lake(tmp_path)) as lake:
        lake.replace({"t": pl.DataFrame({"x": [1.5]})}, day(0), node="t", fingerprint="f")
    [file] = tmp_path.rglob("*.parquet")
    damage(file)
    with closing(Lake(tmp_path)) as lake, pytest.raises(StorageError, match=told) as caught:
        lake.read("t")
    assert file.name in str(caught.value) and "restore the folder from a backup" in str(caught.value)
