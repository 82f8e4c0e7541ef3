"""The same computations and Parquet files in one plain loop: what every tool is measured against."""

from __future__ import annotations

import polars as pl
import steps

for day in steps.days():
    path = steps.write(steps.first(day), 0, day)
    for number in range(1, steps.TABLES):
        path = steps.write(steps.following(pl.read_parquet(path), number, day), number, day)
