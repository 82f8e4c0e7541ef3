"""CSV, JSON lines and Parquet: strict about values, exact about what is wrong and where."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envol import sources
from envol.errors import DataError, Failure
from envol.project.windows import Calendar, Period

ROWS = {"id": pl.Int64, "name": pl.String}
KINDS: dict[str, Any] = {
    "i": pl.Int8,
    "x": pl.Float64,
    "d": pl.Decimal(10, 2),
    "b": pl.Boolean,
    "s": pl.String,
    "e": pl.Enum(["low", "high"]),
    "c": pl.Categorical(),
    "on": pl.Date,
    "t": pl.Time,
    "at": pl.Datetime("us"),
    "utc": pl.Datetime("us", "UTC"),
    "ms": pl.Datetime("ms", "Europe/Paris"),
}
NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)
VALUES = (
    -5,
    1.5,
    Decimal("12.50"),
    True,
    "é",
    "low",
    "red",
    date(2024, 6, 1),
    time(13, 14, 15),
    datetime(2024, 6, 1, 12),
    NOON,
    NOON,
)


def test_dtypes_of_csv(folder: Path) -> None:
    (folder / "k.csv").write_text(
        ",".join(KINDS)
        + "\n-5,1.5,12.5,true,é,low,red,2024-06-01,13:14:15,2024-06-01 12:00:00,2024-06-01T14:00:00+02:00,"
        + "2024-06-01T12:00:00Z\n,,,,,,,,,,,\n"
    )
    frame = sources.files("k.csv", schema=KINDS).collect()
    assert frame.schema == KINDS
    assert frame.rows() == [VALUES, (None,) * len(KINDS)]


def test_dtypes_of_json_lines(folder: Path) -> None:
    (folder / "k.jsonl").write_text(
        '{"i": -5, "x": 1.5, "d": 12.5, "b": true, "s": "é", "e": "low", "c": "red", "on": "2024-06-01", '
        '"at": "2024-06-01 12:00:00", "utc": "2024-06-01T14:00:00+02:00", '
        '"ms": "2024-06-01T12:00:00Z", "l": [1, null], "o": {"a": [{"b": "x"}]}, "other": {}}\n\n{}\n'
    )
    kinds = {name: dtype for name, dtype in KINDS.items() if name != "t"}
    values = tuple(value for value in VALUES if not isinstance(value, time))
    nested = {"l": pl.List(pl.Int64), "o": pl.Struct({"a": pl.List(pl.Struct({"b": pl.String}))})}
    frame = sources.files("k.jsonl", schema=kinds | nested).collect()
    assert frame.schema == kinds | nested
    assert frame.row(0) == (*values, [1, None], {"a": [{"b": "x"}]})
    assert frame.row(1)[: len(kinds)] == (None,) * len(kinds)
    with pytest.raises(DataError, match="time64"):
        sources.files("k.jsonl", schema={"on": pl.Time}).collect()


def test_dtypes_of_parquet_are_its_own_or_those_asked_for(folder: Path) -> None:
    frame = pl.DataFrame([VALUES], schema=KINDS, orient="row").with_columns(l=pl.lit([1, 2]))
    frame.write_parquet(folder / "k.parquet")
    assert sources.files("k.parquet").collect().equals(frame)
    asked = {"i": pl.Float64, "utc": pl.Datetime("ms", "Europe/Paris")}
    assert sources.files("k.parquet", schema=asked).collect().schema == asked


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,name\n1,a\noops,b\n", "line 3, column 'id': .*'oops'"),
        ("id,name\n1,a\n2.5,b\n", "line 3, column 'id': .*'2.5'"),
        ("id,name\n1,a\n\n\n2\n", "line 5: Expected 2 columns, got 1"),
        ("id,name\n1,a\n2,b,c\n", "line 3: Expected 2 columns, got 3"),
        ('id,name\n1,"a\nb"\nx,c\n', "line 4, column 'id'"),
        ("id;name\n1;a\n", "no column 'id'(?s:.*)separator, which is ','"),
        ("id,nom\n1,a\n", "no column 'name'"),
        ("", "Empty CSV file"),
    ],
)
def test_a_bad_csv_file_is_told_with_its_line(folder: Path, text: str, said: str) -> None:
    (folder / "bad.csv").write_text(text)
    with pytest.raises(DataError, match=f"bad.csv.*{said}"):
        sources.files("bad.csv", schema=ROWS).collect()


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bad", [2, 3_000, 20_000])
def test_the_line_is_right_wherever_it_is(folder: Path, bad: int, newline: str) -> None:
    """Also behind values with line breaks, empty lines, and in a block after the first (of 1 MB)."""
    lines = ["id,name"] + [f'{n},"{"x" * 60}"' for n in range(2, 25_001)]
    lines[bad - 1] = f"{bad}.5,b"
    lines[0] = '# a note, with commas\n#"\nid,name'.replace("\n", newline)
    if bad > 100:
        lines[50], lines[51:53] = f'50,"two{newline}lines"', [""]
    (folder / "b.csv").write_bytes(newline.join(lines).encode())
    with pytest.raises(DataError, match=f"line {bad + 2}, column 'id': .*'{bad}.5'"):
        sources.files("b.csv", schema=ROWS, csv=sources.Csv(skip=2)).collect()


def test_how_a_csv_file_is_written(folder: Path) -> None:
    how = sources.Csv(
        separator=";",
        encoding="cp1252",
        nulls=["", "NA"],
        decimal=",",
        times=["%d.%m.%Y %H:%M"],
        skip=1,
        names=["name", "x", "at"],
    )
    text = '# exported\nNA;1,5;01.06.2024 12:30\n"NA";NA;\n"5 €";2;2024-06-01 12:30:00\n'
    (folder / "s.csv").write_bytes(text.encode("cp1252"))
    schema = {"name": pl.String, "x": pl.Float64, "at": pl.Datetime("us")}
    assert sources.files("s.csv", schema=schema, csv=how).collect().rows() == [
        (None, 1.5, datetime(2024, 6, 1, 12, 30)),
        ("NA", None, None),
        ("5 €", 2.0, datetime(2024, 6, 1, 12, 30)),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "shift-jis"])
def test_encodings(folder: Path, encoding: str) -> None:
    name = "テスト" if encoding == "shift-jis" else "é"
    (folder / "e.csv").write_bytes(f"id,name\n1,{name}\n".encode(encoding))
    how = sources.Csv(encoding="utf-8" if encoding == "utf-8-sig" else encoding)
    assert sources.files("e.csv", schema=ROWS, csv=how).collect().rows() == [(1, name)]


def test_a_wrong_encoding_is_told(folder: Path) -> None:
    (folder / "e.csv").write_bytes("id,name\n1,é\n".encode("latin-1"))
    with pytest.raises(DataError, match="line 2, column 'name': .*UTF8(?s:.*)encoding"):
        sources.files("e.csv", schema=ROWS).collect()
    with pytest.raises(DataError, match="klingon"):
        sources.files("e.csv", schema=ROWS, csv=sources.Csv(encoding="klingon")).collect()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "oops"}', "number to string"),
        ('{"id": 2.5}', "2.5"),
        ('{"name": 5}', "string to number"),
        ('{"id": 1', "."),
        ('{"id": 1}}', "."),
        ("5", "object to number"),
        ('[{"id": 1}]', "object to array"),
        ('{"id": 99999999999999999999}', "9999"),
        ('{"id": 1, "id": 2}', "twice"),
    ],
)
@pytest.mark.parametrize("number", [1, 2, 777, 30_000])
def test_a_bad_line_of_json_is_told_by_its_number(folder: Path, line: str, said: str, number: int) -> None:
    lines = [f'{{"id": {n}, "name": "{"x" * 40}"}}' for n in range(1, number + 5)]
    lines[number - 1] = line
    (folder / "bad.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"bad.jsonl, line {number}: .*{said}"):
        sources.files("bad.jsonl", schema=ROWS).collect()


def test_a_value_outside_an_enum(folder: Path) -> None:
    (folder / "e.csv").write_text("e\nlow\nmiddle\n")
    with pytest.raises(DataError, match="e.csv: a value does not fit the schema(?s:.*)middle"):
        sources.files("e.csv", schema={"e": pl.Enum(["low", "high"])}).collect()


def test_parquet_files_that_do_not_fit(folder: Path) -> None:
    pl.DataFrame({"id": [1], "x": [1.5]}).write_parquet(folder / "1.parquet")
    pl.DataFrame({"id": [2]}).write_parquet(folder / "2.parquet")
    with pytest.raises(DataError, match="2.parquet has no column 'x'"):
        sources.files("*.parquet").collect()
    pl.DataFrame({"id": ["two"], "x": [1.5]}).write_parquet(folder / "2.parquet")
    with pytest.raises(DataError, match="2.parquet: a value does not fit.*(?s:.*)two"):
        sources.files("*.parquet").collect()
    (folder / "2.parquet").write_bytes((folder / "1.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match="2.parquet"):
        sources.files("*.parquet").collect()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none()
            | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), min_size=1),
        ).filter(any),
        max_size=30,
    ),
    batch=st.integers(1, 40),
)
def test_what_was_written_is_read(folder: Path, rows: list[tuple[int, str]], batch: int) -> None:
    """In batches of the size asked for, in order, whatever the format."""
    frame = pl.DataFrame(rows, schema=ROWS, orient="row")
    frame.write_csv(folder / "f.csv", quote_style="non_numeric")
    frame.write_ndjson(folder / "f.jsonl")
    frame.write_parquet(folder / "f.parquet", row_group_size=7)
    for name in ("f.csv", "f.jsonl", "f.parquet"):
        batches = list(sources.files(name, schema=ROWS, batch=batch))
        assert all(part.height == batch for part in batches[:-1])
        assert pl.concat(batches).rows() == frame.rows(), name


def test_row_groups_outside_of_the_window_are_not_read(folder: Path) -> None:
    """Their bytes are damaged, which nobody notices who does not read them."""
    days = pl.datetime_range(datetime(2024, 1, 1), datetime(2024, 1, 9), "1h", closed="left", eager=True)
    for unit in ("ms", "us", "ns"):
        frame = pl.DataFrame({"at": days.dt.cast_time_unit(unit), "n": range(len(days))})
        frame.with_columns(text=pl.lit("x" * 50)).write_parquet(
            folder / "d.parquet", row_group_size=24, compression="uncompressed"
        )
        written = (folder / "d.parquet").read_bytes()
        (folder / "d.parquet").write_bytes(b"PAR1" + b"\xff" * 500 + written[504:])
        calendar = Calendar("UTC")
        for key, hours in (("2024-01-05", 24), ("2024-02-01", 0)):
            window = calendar.parse(Period.DAY, key)
            assert sources.files("d.parquet", window, time="at").collect().height == hours
        with pytest.raises((DataError, Failure), match="d.parquet"):
            sources.files("d.parquet", calendar.parse(Period.DAY, "2024-01-01"), time="at").collect()
