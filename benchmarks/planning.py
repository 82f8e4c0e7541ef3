"""Planning 100,000 materializations: a chain of ten hourly tables, all missing and all made.

    python benchmarks/planning.py [--quick] [--json]

There is no peer to compare with in one run: the figure to watch is the time for a plan with nothing to do,
beside the time Python takes to read as many rows from the same database.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from envol.pipeline import Plan, make_plan
from envol.pipeline.records import Made
from envol.project import Project, load_project
from envol.project.clock import FixedClock
from envol.storage import Store, tables

TABLES = 10
START = datetime.fromisoformat("2024-01-01T00:00:00+00:00")
CONFIG = '[project]\nname = "planning"\nstart = "2024-01-01"\n'
HEADER = "import polars as pl\nfrom envol import Window, source, table\n"
SOURCE = '@source(every="1h")\ndef t0(window: Window):\n    return pl.DataFrame({"n": [1]})\n'
TABLE = "@table()\ndef t{number}(t{before}: pl.DataFrame):\n    return t{before}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 materializations, once")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    windows, repeats = (200, 1) if given.quick else (10_000, 5)
    measured = measure(windows, repeats)
    if given.json:
        print(json.dumps(measured))
        return
    print(f"{measured['materializations']:,} materializations, median of {repeats}")
    print(f"  plan, everything missing   {measured['missing']:>7.3f} s")
    ratio = measured["ratio"]
    print(f"  plan, nothing to do        {measured['made']:>7.3f} s   {ratio:.1f} x reading the rows")
    print(f"  reading the rows           {measured['rows']:>7.3f} s")
    print(f"  peak memory                {measured['megabytes']:>7.0f} MB")


def measure(windows: int, repeats: int) -> dict[str, Any]:
    """Seconds (medians) of a plan and of reading its rows, and the peak memory of the process in MB."""
    with tempfile.TemporaryDirectory() as folder:
        project = write_project(Path(folder))
        clock = FixedClock(START + timedelta(hours=windows))
        with Store(project.store_path) as store:
            missing = median(lambda: make_plan(project, store, clock), repeats)
            record_all(make_plan(project, store, clock), store)
            plan = make_plan(project, store, clock)
            assert len(plan) == 0, "everything is made"
            made = median(lambda: make_plan(project, store, clock), repeats)
            rows = median(lambda: read_rows(store), repeats)
    return {
        "materializations": windows * TABLES,
        "missing": missing,
        "made": made,
        "rows": rows,
        "ratio": made / rows,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def write_project(root: Path) -> Project:
    chain = [TABLE.format(number=number, before=number - 1) for number in range(1, TABLES)]
    (root / "envol.toml").write_text(CONFIG)
    (root / "chain.py").write_text(HEADER + SOURCE + "".join(chain))
    return load_project(root)


def record_all(plan: Plan, store: Store) -> None:
    """Record every window as made; nothing is run."""
    rows = []
    for name, node in plan.nodes.items():
        definition = node.definition
        for index, key in enumerate(node.slots.keys):
            inputs = plan.inputs_hash(plan.input_slots(node.node, index)) or ""
            made = Made(
                1,
                0,
                definition.code,
                definition.parameters,
                definition.contract,
                inputs,
                f"{key:016x}",
                index,
            )
            node.made[index] = made
            rows.append(
                {"node": name, "window_start": key, "window_end": node.slots.ends[index], "run": "benchmark"}
                | {"fingerprint": made.fingerprint, "made_at": 0.0, "lineage": "{}"}
                | made._asdict()
            )
    with store.metadata.begin() as connection:
        connection.execute(insert(tables.materialization), rows)


def read_rows(store: Store) -> int:
    with store.metadata.connect() as connection:
        return len(connection.execute(select(tables.materialization)).fetchall())


def median(work: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
