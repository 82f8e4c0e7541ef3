"""Files: which are a window's, in which order, and what becomes of bad ones."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import dataframely as dy
import polars as pl
import pytest

from envol import Window, sources
from envol.errors import ConfigError, DataError, Failure, ProjectError

Day = Callable[[str], Window]
CLICKS = {"id": pl.Int64, "at": pl.Datetime("us", "UTC"), "page": pl.String}
HEADER = "id,at,page\n"


class Click(dy.Schema):
    id = dy.Int64(primary_key=True)
    page = dy.String(nullable=True)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def test_the_path_names_the_window_and_is_read_from_the_projects_folder(
    folder: Path, day: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "clicks/2024/01/05/b.csv", HEADER + "2,2024-01-05T10:00:00Z,b\n")
    write(folder / "clicks/2024/01/05/a.csv", HEADER + "1,2024-01-05T11:00:00+01:00,a\n")
    write(folder / "clicks/2024/01/06/a.csv", HEADER + "9,2024-01-06T10:00:00Z,z\n")
    (folder / "deep").mkdir()
    monkeypatch.chdir(folder / "deep")
    frame = sources.files("clicks/{start:%Y/%m/%d}/*.csv", day("2024-01-05"), schema=CLICKS).collect()
    assert frame.schema == CLICKS
    assert frame.rows() == [
        (1, datetime(2024, 1, 5, 10, tzinfo=UTC), "a"),
        (2, datetime(2024, 1, 5, 10, tzinfo=UTC), "b"),
    ]


def test_the_project_is_that_of_the_file_that_calls(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "data/x.csv", "id\n7\n")
    code = "import polars as pl\nfrom envol import sources\n"
    code += "def rows():\n    return sources.files('data/x.csv', schema={'id': pl.Int64})\n"
    write(folder / "code/reader_of_clicks.py", code)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.syspath_prepend(folder / "code")
    import reader_of_clicks

    assert reader_of_clicks.rows().collect()["id"].to_list() == [7]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("data/*.csv", [1, 2]),
        ("data/[ab].csv", [1, 2]),
        ("data/?.csv", [1, 2]),
        ("data/**/*.csv", [1, 2, 4, 3]),
        ("data/*/*.csv", [4, 3]),
        ("data/deep/d.csv", [3]),
    ],
)
def test_patterns(folder: Path, pattern: str, expected: list[int]) -> None:
    for number, name in enumerate(["a", "b", "deep/d", "c/e", ".hidden"], 1):
        write(folder / f"data/{name}.csv", f"id\n{number}\n")
    write(folder / "data/_SUCCESS", "")
    assert sources.files(pattern, schema={"id": pl.Int64}).collect()["id"].to_list() == expected


def test_time_selects_the_rows_of_the_window(folder: Path, day: Day) -> None:
    """The day in Paris begins at 23:00 UTC."""
    inside = [datetime(2024, 1, 4, 23), datetime(2024, 1, 5, 22, 59, 59)]
    outside = [datetime(2024, 1, 4, 22, 59, 59), datetime(2024, 1, 5, 23), None]
    frame = pl.DataFrame({"at": inside + outside}, schema={"at": pl.Datetime("us")})
    frame.write_csv(folder / "t.csv", datetime_format="%Y-%m-%d %H:%M:%S")
    frame.write_ndjson(folder / "t.jsonl")
    frame.write_parquet(folder / "naive.parquet")
    frame.select(pl.col("at").dt.replace_time_zone("UTC").dt.cast_time_unit("ns")).write_parquet(
        folder / "aware.parquet"
    )
    for name in ("t.csv", "t.jsonl"):
        batches = sources.files(name, day("2024-01-05"), time="at", schema=frame.schema)
        assert batches.collect()["at"].to_list() == inside, name
    assert sources.files("naive.parquet", day("2024-01-05"), time="at").collect()["at"].to_list() == inside
    aware = sources.files("aware.parquet", day("2024-01-05"), time="at").collect()["at"]
    assert aware.dt.replace_time_zone(None).to_list() == inside


def test_dates_are_days_of_the_project(folder: Path, day: Day) -> None:
    write(folder / "d.csv", "on\n2024-01-04\n2024-01-05\n2024-01-06\n")
    frame = sources.files("d.csv", day("2024-01-05"), time="on", schema={"on": pl.Date}).collect()
    assert frame["on"].to_list() == [datetime(2024, 1, 5).date()]


def test_a_missing_file_is_an_error_or_an_empty_window_as_asked(folder: Path, day: Day) -> None:
    path = "data/{start:%Y-%m-%d}.csv"
    with pytest.raises(DataError, match=r"no file data/2024-01-05.csv(?s:.*)missing=\"empty\""):
        sources.files(path, day("2024-01-05"), schema=CLICKS).collect()
    frame = sources.files(path, day("2024-01-05"), schema=CLICKS, missing="empty").collect()
    assert frame.is_empty() and frame.schema == CLICKS
    with pytest.raises(ProjectError, match="needs a schema"):
        sources.files("data/{window}.parquet", day("2024-01-05"), missing="empty").collect()


def test_without_a_schema_the_message_proposes_one(folder: Path) -> None:
    write(folder / "a.csv", 'id,at,x,who,none\n1,2024-01-05T10:00:00Z,1.5,"a",\n')
    write(folder / "a.jsonl", '{"id": 1, "at": "2024-01-05 10:00:00", "tags": ["a"], "o": {"n": 1}}\n')
    with pytest.raises(ProjectError) as caught:
        sources.files("a.csv").collect()
    assert (
        'schema={"id": pl.Int64, "at": pl.Datetime("us", "UTC"), "x": pl.Float64, '
        '"who": pl.String, "none": pl.String}'
    ) in str(caught.value)
    with pytest.raises(ProjectError) as caught:
        sources.files("a.jsonl").collect()
    proposed = str(caught.value).partition("schema=")[2]
    frame = sources.files("a.jsonl", schema=eval(proposed, {"pl": pl})).collect()
    assert frame.row(0) == (1, datetime(2024, 1, 5, 10, tzinfo=UTC), ["a"], {"n": 1})


def test_a_contract_is_a_schema(folder: Path) -> None:
    write(folder / "a.csv", "page,other,id\n,x,1\n")
    frame = sources.files("a.csv", schema=Click).collect()
    assert frame.schema == {"id": pl.Int64, "page": pl.String}
    assert frame.rows() == [(1, None)]


@pytest.mark.parametrize("ending", ["csv.gz", "csv.bz2", "csv.zst", "jsonl.gz"])
def test_compressed_files(folder: Path, ending: str) -> None:
    text = b'{"id": 1}\n' if ending.startswith("jsonl") else b"id\n1\n"
    if ending.endswith("zst"):
        import pyarrow as pa

        with pa.output_stream(str(folder / f"a.{ending}"), compression="zstd") as stream:
            stream.write(text)
    else:
        pack = gzip.compress if ending.endswith("gz") else bz2.compress
        (folder / f"a.{ending}").write_bytes(pack(text))
    assert sources.files(f"a.{ending}", schema={"id": pl.Int64}).collect()["id"].to_list() == [1]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz"])
def test_a_file_that_is_cut_off(folder: Path, name: str) -> None:
    text = b"".join(b"%d,%d\n" % (n, n * 7919 % 1000) for n in range(20_000))
    if "json" in name:
        text = b"".join(b'{"id": %d}\n' % (n * 7919 % 10_000) for n in range(20_000))
    (folder / name).write_bytes(gzip.compress(b"id,x\n" + text if "csv" in name else text)[:-4000])
    with pytest.raises((Failure, DataError), match=name):
        sources.files(name, schema={"id": pl.Int64}).collect()


def test_one_schema_whatever_a_file_holds(folder: Path) -> None:
    """Also where a batch or a whole file is empty, or all of it is null."""
    write(folder / "1.csv", HEADER)
    write(folder / "2.csv", HEADER + ",,\n" * 30)
    write(folder / "3.csv", HEADER + "1,2024-01-05T10:00:00Z,a\n" * 30)
    batches = list(sources.files("*.csv", schema=CLICKS, batch=7))
    assert all(frame.schema == CLICKS for frame in batches)
    assert [frame.height for frame in batches] == [7] * 8 + [4]


def test_a_directory_or_an_unknown_ending(folder: Path) -> None:
    (folder / "data.csv").mkdir()
    with pytest.raises(DataError, match="no file"):
        sources.files("data.csv", schema=CLICKS).collect()
    write(folder / "a.dat", "id\n1\n")
    with pytest.raises(ConfigError, match='format="csv"'):
        sources.files("a.dat", schema=CLICKS).collect()
    assert sources.files("a.dat", schema={"id": pl.Int64}, format="csv").collect().height == 1


def test_a_window_that_nothing_depends_on_is_refused(folder: Path, day: Day) -> None:
    write(folder / "a.csv", "id\n1\n")
    with pytest.raises(ProjectError, match="every window would get the same rows"):
        sources.files("a.csv", day("2024-01-05"), schema={"id": pl.Int64}).collect()


def test_a_time_that_is_none(folder: Path, day: Day) -> None:
    write(folder / "a.csv", "id,at\n1,x\n")
    schema = {"id": pl.Int64, "at": pl.String}
    with pytest.raises(ProjectError, match="'at' is String and tells no time"):
        sources.files("a.csv", day("2024-01-05"), time="at", schema=schema).collect()
    with pytest.raises(ProjectError, match="no column 'when'"):
        sources.files("a.csv", day("2024-01-05"), time="when", schema=schema).collect()
    with pytest.raises(ProjectError, match="pass the window"):
        sources.files("a.csv", time="at", schema=schema).collect()
