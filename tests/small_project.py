"""Small real projects on disk, run by the real pipeline."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
from sqlalchemy import func, select

from envol.pipeline import Plan, RunResult, make_plan, run
from envol.project import load_project
from envol.project.clock import FixedClock
from envol.storage import Store, tables

PATIENCE = 120
HEADER = """
from __future__ import annotations

import dataframely as dy
import polars as pl
from sqlalchemy import func, select

from envol import Window, model, source, table, value
"""
CONFIG = """
[project]
name = "{name}"
start = "2024-01-01"
timezone = "UTC"
"""


class SmallProject:
    """A project folder with one module, and what one does with it; the project is named after its folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = datetime.fromisoformat("2024-01-11T00:00:00+00:00")

    def write(self, module: str, config: str = "") -> SmallProject:
        """Replace the module and what follows [project] in `envol.toml`."""
        self.root.mkdir(exist_ok=True)
        (self.root / "envol.toml").write_text(CONFIG.format(name=self.root.name) + textwrap.dedent(config))
        (self.root / "pipeline.py").write_text(HEADER + textwrap.dedent(module))
        return self

    def edit(self, old: str, new: str) -> None:
        """Change the module's text."""
        path = self.root / "pipeline.py"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    @property
    def store_path(self) -> Path:
        return self.root / ".envol"

    def store(self) -> Store:
        """The project's store, wherever it is."""
        return Store.of(load_project(self.root))

    def plan(self, now: str | None = None, **options: Any) -> Plan:
        with self.store() as store:
            return make_plan(load_project(self.root), store, self._clock(now), **options)

    def run(self, now: str | None = None, **options: Any) -> RunResult:
        with self.store() as store:
            return run(load_project(self.root), store, self._clock(now), **options)

    def start(self, now: str | None = None) -> subprocess.Popen[str]:
        """A run in a process of its own; it prints how it ended as JSON."""
        script = (
            "import json, sys; from pathlib import Path; from small_project import SmallProject\n"
            "result = SmallProject(Path(sys.argv[1])).run(*sys.argv[2:])\n"
            "print(json.dumps({'state': result.state, 'done': result.done}))\n"
        )
        return subprocess.Popen(
            [sys.executable, "-c", script, str(self.root), *([now] if now else [])],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def count_tasks(self) -> int:
        """How many tasks of all runs have ended."""
        with self.store() as store:
            return _count_tasks(store) if store.exists() else 0

    def wait_for_tasks(self, count: int, process: subprocess.Popen[str]) -> None:
        """Wait until so many tasks have ended, or the process has."""
        deadline = time.monotonic() + PATIENCE
        with self.store() as store:
            while process.poll() is None and not (store.exists() and _count_tasks(store) >= count):
                assert time.monotonic() < deadline, "the run makes no progress"
                time.sleep(0.01)

    def table(self, name: str) -> pl.DataFrame:
        """A table's rows in a fixed order."""
        with self.store() as store:
            frame = store.lake.read(name)
        return frame.sort(frame.columns)

    def tables(self, names: Iterable[str]) -> dict[str, pl.DataFrame]:
        return {name: self.table(name) for name in names}

    def reasons(self, now: str | None = None, **options: Any) -> dict[str, dict[str, int]]:
        """By node how many windows the plan holds for which reason."""
        plan = self.plan(now, **options)
        return {name: dict(node.reasons()) for name, node in plan.nodes.items() if node.reasons()}

    def _clock(self, now: str | None) -> FixedClock:
        return FixedClock(self.now if now is None else datetime.fromisoformat(now + "T00:00:00+00:00"))


def _count_tasks(store: Store) -> int:
    query = select(func.count()).select_from(tables.task)
    return store.metadata.read(lambda connection: connection.execute(query).scalar_one())
