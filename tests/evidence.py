"""What a project's records and tables say, and whether the two agree."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from small_project import SmallProject
from sqlalchemy import select

from envol.pipeline.content import content_version
from envol.storage import tables
from envol.storage.postgres_pen import lock_key

PATIENCE = 120
NOTED = """
    import os, time
    from pathlib import Path

    HERE = Path(__file__).parent

    def note(node, window):
        line = f"{node} {window.epoch} {os.getpid()} {time.time()}\\n"
        with (HERE / "noted.txt").open("ab", buffering=0) as file:
            file.write(line.encode())

    def wait_for(gate):
        while not (HERE / gate).exists():
            time.sleep(0.01)
"""
"""The begin of a module whose functions note each of their calls."""


class Call(NamedTuple):
    """A call of a node's function: for which window, by which process, when (epoch seconds)."""

    node: str
    window: int
    pid: int
    at: float


def calls(small: SmallProject) -> list[Call]:
    """All calls of functions that noted them, in their order."""
    file = small.root / "noted.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    words = (line.split() for line in lines)
    return [Call(node, int(window), int(pid), float(at)) for node, window, pid, at in words]


def until(fact: Callable[[], Any], told: Callable[[], object] = lambda: "it does not come about") -> Any:
    """Wait for something to come about; returns it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := fact()):
        assert time.monotonic() < deadline, told()
        time.sleep(0.005)
    return found


def rows(small: SmallProject, query: Any) -> list[Any]:
    """What a query of the metadata gives."""
    with small.store() as store:
        return list(store.metadata.read(lambda connection: connection.execute(query).all()))


def states(small: SmallProject) -> list[str]:
    """How the runs ended, the oldest first."""
    run = tables.run.c
    return [state for (state,) in rows(small, select(run.state).order_by(run.number))]


def versions(small: SmallProject) -> dict[tuple[str, int], tuple[int, int, int]]:
    """By node and window what is recorded: rows, and hashes of what it was made from and of its content."""
    made = tables.materialization.c
    query = select(made.node, made.window_start, made.rows, made.inputs, made.version)
    return {(node, start): tuple(told) for node, start, *told in rows(small, query)}


def everything(small: SmallProject) -> dict[str, list[Any]]:
    """All rows of the metadata but the leases, and the lake's newest snapshot."""
    kept = [table for table in tables.metadata.sorted_tables if table.name != "lease"]
    with small.store() as store:
        found: dict[str, list[Any]] = store.metadata.read(
            lambda connection: {table.name: list(connection.execute(select(table))) for table in kept}
        )
        return {**found, "snapshot": [store.lake.latest_snapshot()]}


def check_agreement(small: SmallProject, *nodes: str) -> None:
    """Each window of the tables is in the lake once, as the records say, and there is no other."""
    recorded = versions(small)
    for node in nodes:
        frame = small.table(node)
        found = {
            int(start.timestamp()): (part.height, content_version(part.drop("window_start")))
            for (start,), part in frame.partition_by("window_start", as_dict=True).items()
        }
        assert found == {
            start: (height, version)
            for (name, start), (height, _, version) in recorded.items()
            if name == node and height
        }


@contextmanager
def pen_held(small: SmallProject) -> Iterator[None]:
    """Keep the lake's pen from everybody else, as a writer does."""
    url = os.environ.get("ENVOL_STORAGE_URL")
    if url is None:
        with (small.store_path / "lake.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [lock_key(f"lake_{small.root.name}")])
        yield


class Locked(NamedTuple):
    """How many hold a lock that only one may hold, and how many wait for it."""

    held: int
    awaited: int


def pen(small: SmallProject) -> Locked:
    """Who writes to the lake."""
    return _locked(small, "lake", small.store_path / "lake.lock", "0")


def metadata_lock(small: SmallProject) -> Locked:
    """Who writes to the metadata; those who wait are not seen on SQLite."""
    return _locked(small, "envol", small.store_path / "metadata.sqlite-shm", "120")


def _locked(small: SmallProject, schema: str, path: Path, offset: str) -> Locked:
    url = os.environ.get("ENVOL_STORAGE_URL")
    if url is not None:
        key = lock_key(f"{schema}_{small.root.name}") & 0xFFFFFFFFFFFFFFFF
        query = (
            "SELECT count(*) FILTER (WHERE granted), count(*) FILTER (WHERE NOT granted) FROM pg_locks"
            f" WHERE locktype = 'advisory' AND classid = {key >> 32} AND objid = {key & 0xFFFFFFFF}"
        )
        with psycopg.connect(url, autocommit=True) as connection:
            held, awaited = connection.execute(query.encode()).fetchone() or (0, 0)
            return Locked(held, awaited)
    if not path.exists():
        return Locked(0, 0)
    ends = f":{path.stat().st_ino} {offset} "
    found = [
        line for line in Path("/proc/locks").read_text().splitlines() if ends in line and "WRITE" in line
    ]
    awaited = sum("->" in line for line in found)
    return Locked(len(found) - awaited, awaited)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
