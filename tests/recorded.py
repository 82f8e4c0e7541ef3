"""Records of runs that never ran, written into the project's own tables."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from small_project import SmallProject
from sqlalchemy import func, insert, select

from envol.pipeline.retention import Collected, collect
from envol.project import load_project
from envol.project.clock import FixedClock
from envol.storage import Store, tables

NOW = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=400)
"""An instant from which what a test makes now is more than a year old."""
DAY = 86_400.0
MODULE = """
    @source(every="1d")
    def readings(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"unit": [1]})
"""


def at(days: float) -> float:
    """Epoch seconds of so many days before NOW."""
    return (NOW - timedelta(days=days)).timestamp()


def run_row(number: int, days: float, state: str = "done") -> dict[str, Any]:
    """A run that began so many days before NOW; its id tells its place in time."""
    began = datetime.fromtimestamp(at(days), UTC)
    row = {"id": f"{began:%Y%m%dT%H%M%S}-{number:06x}", "kind": "due", "started_at": at(days)}
    row |= {"ended_at": at(days) + 60, "state": state, "planned": 4, "done": 4, "failed": 0, "skipped": 0}
    return row | {"host": "vm", "pid": 1, "git_commit": "4f" * 20, "git_dirty": False}


def task_row(run: dict[str, Any], node: str, start: int, log: str, state: str = "done") -> dict[str, Any]:
    row = {"run": run["id"], "node": node, "window_start": start, "window_end": start + 3600}
    row |= {"state": state, "attempts": 1, "started_at": run["started_at"], "seconds": 0.1, "rows": 10}
    return row | {"error": "it broke" if state == "failed" else None, "log": log}


def write(store: Store, **rows: Iterable[dict[str, Any]]) -> None:
    """Insert rows by table."""
    for name, found in rows.items():
        listed = list(found)
        with store.metadata.begin() as connection:
            for first in range(0, len(listed), 10_000):
                part = listed[first : first + 10_000]
                connection.execute(insert(tables.metadata.tables[name]), part)


def count(store: Store, table: str, *conditions: Any) -> int:
    query = select(func.count()).select_from(tables.metadata.tables[table]).where(*conditions)
    return int(store.metadata.read(lambda connection: connection.execute(query).scalar_one()))


def column(store: Store, table: str, name: str) -> list[Any]:
    """All values of a column, sorted."""
    query = select(tables.metadata.tables[table].c[name])
    return sorted(store.metadata.read(lambda connection: list(connection.execute(query).scalars())))


def collected(
    small: SmallProject, now: datetime = NOW, *, dry_run: bool = False, **spans: str
) -> dict[str, Collected]:
    """What `collect` tells, by kind; spans as under [retention]."""
    environment = {f"ENVOL_RETENTION_{name.upper()}": span for name, span in spans.items()}
    project = load_project(small.root, os.environ | environment)
    with closing(Store.of(project)) as store:
        return {one.kind: one for one in collect(project, store, FixedClock(now), dry_run=dry_run)}


def age(path: Path, days: float) -> None:
    """Let a file or a folder, with all in it, be so many days old."""
    then = time.time() - days * DAY
    for one in (*path.rglob("*"), path):
        os.utime(one, (then, then))


def change(node: str, start: int, days: float, columns: dict[str, list[str | None]]) -> dict[str, Any]:
    row = {"node": node, "window_start": start, "run": "-", "at": at(days), "refused": False}
    return row | {"columns": json.dumps(columns)}
