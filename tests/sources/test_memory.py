"""Reading takes the memory of a few batches, not that of the rows: measured in processes of their own."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from servers import Postgres
from sources.mariadb import MariaDb

ROWS = 300_000
WIDTH = 1_000  # characters of text in a row: 300 MB in all
BATCH = 5_000
BOUND_MB = 100

MEASURE = """
import json, re, sys
from pathlib import Path

def memory(of):
    return int(re.search(of + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

import polars as pl
from envol import sources

given = json.loads(sys.argv[1])
schema = {"id": pl.Int64, "text": pl.String}
connector = getattr(sources, given["connector"])
options = {"schema": schema, "batch": given["batch"]}
next(connector(*given["small"], **options))  # what the libraries take is not counted
Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins here
before, rows, text = memory("VmRSS"), 0, 0
for frame in connector(*given["arguments"], **options):
    rows += frame.height
    text += frame["text"].str.len_bytes().sum()
print(json.dumps({"rows": rows, "text": text, "grown": memory("VmHWM") - before}))
"""


def grown(connector: str, arguments: list[str], small: list[str]) -> float:
    """Megabytes that the process grew by, at most, while it read all of the rows in batches."""
    given = {"connector": connector, "arguments": arguments, "small": small, "batch": BATCH}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(given)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["rows"] == ROWS and told["text"] == ROWS * WIDTH
    return float(told["grown"])


def test_postgres(postgres: Postgres) -> None:
    url = postgres.new_database()
    query = f"select g as id, repeat('x', {WIDTH}) as text from generate_series(1, {{}}) g"
    assert grown("sql", [url, query.format(ROWS)], [url, query.format(1)]) < BOUND_MB


def test_mariadb(mariadb: MariaDb) -> None:
    query = f"select seq as id, repeat('x', {WIDTH}) as text from seq_1_to_{{}}"
    assert grown("sql", [mariadb.url, query.format(ROWS)], [mariadb.url, query.format(1)]) < BOUND_MB


def test_duckdb(tmp_path: Path) -> None:
    import duckdb

    duckdb.connect(str(tmp_path / "a.duckdb")).close()
    url = f"duckdb:///{tmp_path / 'a.duckdb'}"
    query = f"select i as id, repeat('x', {WIDTH}) as text from range({{}}) r(i)"
    assert grown("sql", [url, query.format(ROWS)], [url, query.format(1)]) < BOUND_MB


@pytest.mark.parametrize("ending", ["csv.gz", "jsonl.gz", "parquet"])
def test_files(tmp_path: Path, ending: str) -> None:
    small, large = tmp_path / f"small.{ending}", tmp_path / f"large.{ending}"
    write(small, 1)
    write(large, ROWS)
    assert grown("files", [str(large)], [str(small)]) < BOUND_MB


def write(path: Path, rows: int) -> None:
    """So many rows, written in parts and compressed."""
    if path.suffix == ".parquet":
        frame = pl.LazyFrame({"id": pl.int_range(rows, eager=True)})
        text = pl.col("id").cast(pl.String).str.pad_start(WIDTH, "x")
        frame.with_columns(text=text).sink_parquet(path, row_group_size=20_000)
        return
    with gzip.open(path, "wt", compresslevel=1) as file:
        if "csv" in path.name:
            file.write("id,text\n")
            file.writelines(f"{n},{n:x>{WIDTH}}\n" for n in range(rows))
        else:
            file.writelines(f'{{"id": {n}, "text": "{n:x>{WIDTH}}"}}\n' for n in range(rows))
