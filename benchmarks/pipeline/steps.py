"""What every tool computes: a chain of ten small tables a day, each made from the one before.

Table 0 has 1,000 rows and 10 columns; each of the others reads the one before it, of the same day, and adds
a column. A copy of this file lies in each tool's project. `BENCHMARK_DAYS` says how many days, and each step
leaves a line in `BENCHMARK_LOG` as it begins and ends, so that it can be seen what a restart does again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import polars as pl

TABLES, ROWS, COLUMNS = 10, 1_000, 10
FIRST = date(2024, 1, 1)


def days() -> list[str]:
    """The days of this run, as `YYYY-MM-DD`."""
    return [str(FIRST + timedelta(days=number)) for number in range(int(os.environ["BENCHMARK_DAYS"]))]


def first(day: str) -> pl.DataFrame:
    """Table 0 of a day: the same rows whenever it is asked for."""
    with noted(0, day):
        seed = date.fromisoformat(day).toordinal()
        row = pl.int_range(ROWS, dtype=pl.Int64)
        columns = [((row * (number + 3) + seed) % 997).alias(f"c{number}") for number in range(COLUMNS)]
        return pl.select(columns)


def following(before: pl.DataFrame, number: int, day: str) -> pl.DataFrame:
    """Table `number` of a day, 1 to 9: the table before it with one more column."""
    with noted(number, day):
        last = pl.col(f"c{COLUMNS + number - 2}")
        return before.with_columns((last * 3 + pl.col("c0") + number).alias(f"c{COLUMNS + number - 1}"))


def write(table: pl.DataFrame, number: int, day: str) -> str:
    """Write a table's day as a Parquet file that is there whole or not at all; its path.

    For the tools that leave the writing to the user; the others write it themselves.
    """
    path = Path("data", f"t{number}", f"{day}.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    table.write_parquet(half)
    os.replace(half, path)
    return str(path)


@contextmanager
def noted(number: int, day: str) -> Iterator[None]:
    note(f"begin {number} {day}\n")
    yield
    note(f"end {number} {day}\n")


def note(line: str) -> None:
    with open(os.environ["BENCHMARK_LOG"], "a") as log:  # one write: whole lines from many processes
        log.write(line)
