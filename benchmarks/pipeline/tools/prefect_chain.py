"""The chain as a Prefect flow: a task a table and day, skipped when its cached result is there.

    python prefect_chain.py      # first run, run with nothing to do, and restart

A task's result is the path of the file that it wrote; `INPUTS + TASK_SOURCE` finds it again from any run.
"""

from __future__ import annotations

import polars as pl
import steps
from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE


@task(cache_policy=INPUTS + TASK_SOURCE)
def first_table(day: str) -> str:
    return steps.write(steps.first(day), 0, day)


@task(cache_policy=INPUTS + TASK_SOURCE)
def next_table(before: str, number: int, day: str) -> str:
    return steps.write(steps.following(pl.read_parquet(before), number, day), number, day)


@flow
def chain(days: list[str]) -> None:
    for day in days:
        path = first_table(day)
        for number in range(1, steps.TABLES):
            path = next_table(path, number, day)


if __name__ == "__main__":
    chain(steps.days())
