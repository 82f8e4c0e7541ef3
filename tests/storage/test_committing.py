"""Windows that threads commit at the same moment share a transaction, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier

import polars as pl
import pytest
from servers import place

from envol.errors import DataError
from envol.project.windows import Calendar, Period, Window
from envol.storage import Commit, Lake

DAYS = Calendar("UTC").windows(Period.DAY, datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC))


@pytest.fixture
def lake(tmp_path: Path, storage: str) -> Iterator[Lake]:
    with closing(Lake(place(tmp_path))) as opened:
        yield opened


def together(works: list[Callable[[], Commit]]) -> list[Commit | BaseException]:
    """What threads that start at one moment come back with."""
    barrier = Barrier(len(works))

    def begin(work: Callable[[], Commit]) -> Commit | BaseException:
        barrier.wait()
        try:
            return work()
        except DataError as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(begin, works))


def put(lake: Lake, table: str, window: Window, **columns: object) -> Callable[[], Commit]:
    frame = pl.DataFrame(columns)
    return lambda: lake.replace({table: frame}, window, node=table, fingerprint=f"{table}-{window.key}")


def test_windows_of_many_threads_are_all_there_and_all_told(lake: Lake) -> None:
    for table in ("a", "b"):
        put(lake, table, DAYS[0], n=[0])()
    works = [put(lake, table, day, n=[day.start.day] * 3) for day in DAYS[1:13] for table in ("a", "b")]
    commits = together(works)
    assert all(isinstance(commit, Commit) for commit in commits)
    snapshots = {commit.snapshot for commit in commits if isinstance(commit, Commit)}
    assert len(snapshots) < len(works)
    for table in ("a", "b"):
        counts = lake.read(table).group_by("window_start").len().sort("window_start")
        assert counts["len"].to_list() == [1, *[3] * 12]
    told = lake.snapshots().drop_nulls("node")
    assert sorted(told["fingerprint"]) == sorted(
        f"{table}-{day.key}" for day in DAYS[:13] for table in ("a", "b")
    )
    assert set(told.filter(pl.col("id").is_in(snapshots))["window"]) == {day.key for day in DAYS[1:13]}


def test_one_that_cannot_be_kept_harms_no_other(lake: Lake) -> None:
    put(lake, "a", DAYS[0], n=[0])()
    works = [put(lake, "a", day, n=[day.start.day]) for day in DAYS[1:9]]
    works.insert(4, put(lake, "a", DAYS[20], n=["text"]))
    outcomes = together(works)
    assert [index for index, outcome in enumerate(outcomes) if isinstance(outcome, DataError)] == [4]
    assert "'n'" in str(outcomes[4])
    assert lake.read("a")["n"].to_list() == [0, *[day.start.day for day in DAYS[1:9]]]


def test_new_tables_and_columns_at_the_same_moment(lake: Lake) -> None:
    works = [
        put(lake, "new", day, n=[1], **{f"c{number % 3}": [number]}) for number, day in enumerate(DAYS[:9])
    ]
    assert all(isinstance(commit, Commit) for commit in together(works))
    found = lake.read("new")
    assert found.height == 9
    assert set(found.columns) == {"n", "c0", "c1", "c2", "window_start"}
    assert sorted(found.select(pl.coalesce("c0", "c1", "c2")).to_series()) == list(range(9))


def test_the_same_window_from_two_threads_ends_as_one_of_them(lake: Lake) -> None:
    put(lake, "a", DAYS[0], n=[0])()
    for round_, day in enumerate(DAYS[1:15]):
        together([put(lake, "a", day, n=[round_, value]) for value in (100, 200)])
    rows = lake.read("a").filter(pl.col("n") >= 100).height
    assert rows == 14
    assert lake.read("a").height == 1 + 2 * 14
