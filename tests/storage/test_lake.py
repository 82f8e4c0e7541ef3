"""Windows replaced and read, on a real lake."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from servers import place

from envol.errors import DataError, NotFoundError, UserError
from envol.project.windows import Calendar, Period, Window
from envol.storage import Commit, Lake

Day = Callable[[int], Window]


def put(lake: Lake, window: Window, **frames: pl.DataFrame) -> Commit:
    return lake.replace(frames, window, node="flights", fingerprint="f1", message="test")


def numbers(*values: int) -> pl.DataFrame:
    return pl.DataFrame({"number": values}, schema={"number": pl.Int64})


def test_a_window_is_replaced_and_the_others_stay(lake: Lake, day: Day) -> None:
    for number in range(4):
        put(lake, day(number), t=numbers(number, 10 + number))
    commit = put(lake, day(2), t=numbers(7))
    assert (commit.snapshot, commit.rows) == (lake.latest_snapshot(), {"t": 1})
    frame = lake.read("t")
    assert frame["number"].to_list() == [0, 10, 1, 11, 7, 3, 13]
    assert frame.columns[-1] == "window_start"
    assert frame["window_start"].unique(maintain_order=True).to_list() == [day(n).start for n in range(4)]
    assert frame.schema["window_start"] == pl.Datetime("us", "UTC")


def test_a_range_takes_its_start_and_leaves_its_end(lake: Lake, day: Day) -> None:
    for number in range(5):
        put(lake, day(number), t=numbers(number))
    assert lake.read("t", day(1).start, day(3).start)["number"].to_list() == [1, 2]
    assert lake.read("t", start=day(3).start)["number"].to_list() == [3, 4]
    assert lake.read("t", end=day(1).start)["number"].to_list() == [0]
    assert lake.scan("t", day(1).start, day(3).start).collect()["number"].to_list() == [1, 2]
    with pytest.raises(UserError, match="no time zone"):
        lake.read("t", datetime(2013, 1, 1))


def test_rows_keep_their_order_through_compaction(lake: Lake, day: Day) -> None:
    shuffled = numbers(*range(50_000)).sample(fraction=1, shuffle=True, seed=1)
    for number in range(3):
        put(lake, day(number), t=shuffled.slice(number * 10_000, 20_000))
    before = lake.read("t")
    assert before["number"].to_list()[:20_000] == shuffled["number"].to_list()[:20_000]
    lake.compact(grace=timedelta(0))
    assert_frame_equal(lake.read("t"), before)
    assert_frame_equal(lake.scan("t").collect(), before)


def test_tables_of_one_call_are_replaced_together(lake: Lake, day: Day) -> None:
    put(lake, day(0), good=numbers(1, 2), bad=numbers(3))
    with pytest.raises(DataError):
        put(lake, day(0), good=numbers(9), bad=pl.DataFrame({"number": ["text"]}))
    assert lake.read("good")["number"].to_list() == [1, 2]
    assert lake.latest_snapshot() == 1


def test_an_empty_frame_clears_the_window_and_still_makes_the_table(lake: Lake, day: Day) -> None:
    put(lake, day(0), t=numbers(1), nothing=numbers(), bare=pl.DataFrame())
    put(lake, day(0), t=numbers())
    assert lake.read("t").is_empty()
    assert lake.read("nothing").schema == {"number": pl.Int64, "window_start": pl.Datetime("us", "UTC")}
    assert lake.read("bare").columns == ["window_start"]
    assert [table.name for table in lake.tables()] == ["bare", "nothing", "t"]


def test_shorter_and_longer_windows_replace_what_lies_within(lake: Lake) -> None:
    calendar = Calendar("UTC")
    noon = datetime(2013, 1, 1, 12, tzinfo=UTC)
    for hour in range(3):
        put(lake, calendar.window_at(Period.HOUR, noon + timedelta(hours=hour)), t=numbers(hour))
    put(lake, calendar.window_at(Period.DAY, noon), t=numbers(9))
    assert lake.read("t")["number"].to_list() == [9]


def test_an_added_column_is_missing_before_and_a_lacking_one_after(lake: Lake, day: Day) -> None:
    put(lake, day(0), t=pl.DataFrame({"a": [1], "b": ["x"]}))
    put(lake, day(1), t=pl.DataFrame({"new": [timedelta(hours=1)], "a": [2]}))
    frame = lake.read("t").drop("window_start")
    expected = {"a": [1, 2], "b": ["x", None], "new": [None, timedelta(hours=1)]}
    assert_frame_equal(frame, pl.DataFrame(expected))
    assert lake.read("t", snapshot=1).columns == ["a", "b", "window_start"]


def test_columns_come_in_any_order_and_window_start_is_overwritten(lake: Lake, day: Day) -> None:
    put(lake, day(0), t=pl.DataFrame({"a": [1], "b": ["x"]}))
    put(lake, day(1), t=pl.DataFrame({"window_start": ["mine"], "b": ["y"], "a": [2]}))
    assert lake.read("t").rows() == [(1, "x", day(0).start), (2, "y", day(1).start)]
    assert lake.read("t", columns=["b"]).columns == ["b", "window_start"]


def test_a_changed_dtype_names_the_column_both_dtypes_and_the_way_out(lake: Lake, day: Day) -> None:
    put(lake, day(0), t=numbers(1))
    with pytest.raises(DataError) as caught:
        put(lake, day(1), t=pl.DataFrame({"number": ["one"]}))
    error = caught.value
    assert (error.node, error.window) == ("flights", day(1).key)
    assert "column 'number' of table 't' is Int64, and would become String" in str(error)
    assert "cast it to Int64" in str(error)
    lake.drop("t")
    put(lake, day(1), t=pl.DataFrame({"number": ["one"]}))
    assert lake.read("t")["number"].to_list() == ["one"]
    assert lake.read("t", snapshot=1)["number"].to_list() == [1]


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        (pl.DataFrame({"new": [None]}), "'new' of table 't' holds only missing values"),
        (pl.DataFrame({"new": [[None]]}), "'new' of table 't' holds only missing values"),
        (pl.DataFrame({"x": [object()]}, schema={"x": pl.Object}), "'x' of table 't' is Object"),
        (pl.DataFrame({"x": [2**100]}, schema={"x": pl.Int128}), "'x' of table 't' is Int128"),
        (pl.DataFrame({"x": [[timedelta(1)]]}), r"'x' of table 't' is List\(Duration"),
        (pl.DataFrame({"x": [{}]}, schema={"x": pl.Struct([])}), "'x' of table 't' is Struct"),
        (pl.DataFrame({"": [1]}), "a column named ''"),
        (pl.DataFrame({"NUMBER": [1]}), "'number' and 'NUMBER' of table 't' differ only in upper"),
        (pl.DataFrame({"x": [1], "X": [1]}), "'x' and 'X' of table 't' differ only in upper"),
        (pl.DataFrame({"x": [1]}, schema={"x": pl.Time}), "'x' .*finer than a microsecond"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(
    lake: Lake, day: Day, frame: pl.DataFrame, problem: str
) -> None:
    put(lake, day(0), t=numbers(1))
    with pytest.raises(DataError, match=problem):
        put(lake, day(1), t=frame)
    assert lake.read("t")["number"].to_list() == [1]


def test_missing_values_without_a_dtype_take_that_of_the_column(lake: Lake, day: Day) -> None:
    put(lake, day(0), t=pl.DataFrame({"number": [1], "many": [["a"]]}))
    put(lake, day(1), t=pl.DataFrame({"number": [None], "many": [[]]}))
    assert lake.read("t").drop("window_start").rows() == [(1, ["a"]), (None, [])]


def test_what_is_not_there_is_named_with_the_nearest(lake: Lake, day: Day) -> None:
    with pytest.raises(NotFoundError, match="no table 'flights'"):
        lake.read("flights")
    put(lake, day(0), flights=numbers(1))
    with pytest.raises(NotFoundError, match="did you mean 'flights'"):
        lake.read("flight")
    with pytest.raises(NotFoundError, match="did you mean 'number'"):
        lake.read("flights", columns=["numbr"])
    with pytest.raises(NotFoundError, match="no snapshot 99"):
        lake.scan("flights", snapshot=99)
    with pytest.raises(NotFoundError, match="no table 'flights' at snapshot 0"):
        lake.read("flights", snapshot=0)
    with pytest.raises(NotFoundError, match="no table 'gone'"):
        lake.drop("gone")


def test_snapshots_tell_who_wrote_what_and_keep_it_readable(lake: Lake, day: Day) -> None:
    first = put(lake, day(0), t=numbers(1))
    put(lake, day(0), t=numbers(2))
    assert lake.read("t", snapshot=first.snapshot)["number"].to_list() == [1]
    newest = lake.snapshots(limit=1).row(0, named=True)
    assert newest["id"] == lake.latest_snapshot() == first.snapshot + 1
    assert (newest["node"], newest["window"], newest["fingerprint"]) == ("flights", day(0).key, "f1")
    assert newest["message"] == "test"
    assert lake.snapshots()["id"].to_list() == [2, 1, 0]
    assert lake.snapshots().schema["at"] == pl.Datetime("us", "UTC")


def test_a_scan_reads_the_snapshot_it_was_made_at(lake: Lake, day: Day) -> None:
    for number in range(3):
        put(lake, day(number), t=pl.DataFrame({"a": [number, -1], "b": ["x", None]}))
    scan = lake.scan("t")
    put(lake, day(0), t=pl.DataFrame({"a": [100], "b": ["later"]}))
    for _ in range(2):
        assert scan.filter(pl.col("a") >= 0).select("b").collect()["b"].to_list() == ["x"] * 3
        assert scan.head(3).collect()["a"].to_list() == [0, -1, 1]
        assert scan.select(pl.len()).collect().item() == 6
    assert scan.collect_schema() == lake.read("t").schema


def test_compaction_merges_files_and_loses_no_snapshot(lake: Lake, day: Day) -> None:
    for number in range(6):
        put(lake, day(number), t=numbers(number))
    put(lake, day(1), t=numbers(11))
    before = lake.read("t")
    done = lake.compact(grace=timedelta(0))
    assert (done.files_before, done.files_after) == (6, 1)
    assert done.files_removed >= 6
    assert_frame_equal(lake.read("t"), before)
    assert lake.read("t", snapshot=6)["number"].to_list() == [0, 1, 2, 3, 4, 5]
    again = lake.compact(grace=timedelta(0))
    assert (again.files_before, again.files_after, again.files_removed) == (1, 1, 0)


def test_files_in_use_stay_for_the_grace(lake: Lake, day: Day) -> None:
    for number in range(3):
        put(lake, day(number), t=numbers(number))
    assert lake.compact().files_removed == 0
    assert len(list(lake.path.rglob("*.parquet"))) == 4


def test_expired_snapshots_are_gone_but_for_those_kept(lake: Lake, day: Day) -> None:
    for number in range(4):
        put(lake, day(0), t=numbers(number))
    now = datetime.now(UTC)
    assert lake.expire(timedelta(days=1), now) == 0
    assert lake.expire(timedelta(0), now + timedelta(days=1), keep=[2], grace=timedelta(0)) == 3
    assert lake.snapshots()["id"].to_list() == [4, 2]
    assert lake.read("t")["number"].to_list() == [3]
    assert lake.read("t", snapshot=2)["number"].to_list() == [1]
    with pytest.raises(NotFoundError, match="expired"):
        lake.read("t", snapshot=1)
    assert len(list(lake.path.rglob("*.parquet"))) == 2


def test_commits_merge_small_files_by_themselves(tmp_path: Path, day: Day, storage: str) -> None:
    with closing(Lake(place(tmp_path), merge_every=10)) as lake:
        for number in range(25):
            put(lake, day(number), t=numbers(number))
        assert lake.read("t")["number"].to_list() == list(range(25))
        assert lake.tables()[0].files < 10


def test_tables_are_described(lake: Lake, day: Day) -> None:
    put(lake, day(0), t=pl.DataFrame({"a": [1, 2], "at": [datetime(2013, 1, 1, tzinfo=UTC)] * 2}))
    put(lake, day(0), t=pl.DataFrame({"a": [1], "b": [1.5]}))
    [table] = lake.tables()
    at = "Datetime(us, UTC)"
    assert dict(table.columns) == {"a": "Int64", "at": at, "b": "Float64", "window_start": at}
    assert (table.name, table.rows, table.files) == ("t", 1, 1)
    assert table.bytes > 0


def test_a_copied_lake_stands_on_its_own(day: Day, tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    put(lake, day(0), t=numbers(1))
    lake.close()
    shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))
    copy = Lake(tmp_path / "copy")
    put(copy, day(1), t=numbers(2))
    assert copy.read("t")["number"].to_list() == [1, 2]
    assert lake.read("t")["number"].to_list() == [1]
    copy.close()
    lake.close()


def test_a_lake_opened_for_reading_writes_nothing(lake: Lake, day: Day, tmp_path: Path) -> None:
    put(lake, day(0), t=numbers(1))
    reader = Lake(place(tmp_path), read_only=True)
    with pytest.raises(UserError, match="reading only"):
        put(reader, day(0), t=numbers(2))
    assert reader.read("t")["number"].to_list() == [1]
    reader.close()


def test_where_no_lake_is_reading_makes_none(tmp_path: Path, storage: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="no lake"):
        Lake(place(tmp_path / "empty"), read_only=True)
    assert not list((tmp_path / "empty").iterdir())
    with pytest.raises(NotFoundError, match="no lake"):
        Lake(place(tmp_path / "empty"), read_only=True)


def test_odd_names_are_kept(lake: Lake, day: Day) -> None:
    frame = pl.DataFrame({'a "quoted" name': [1], "with 'ticks'; --": [2], "été": [3], "select": [4]})
    put(lake, day(0), **{'odd "table" name': frame})
    assert_frame_equal(lake.read('odd "table" name').drop("window_start"), frame)
    assert lake.compact().files_after == 1
