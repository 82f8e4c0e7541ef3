"""How Envol does with many windows, many rows and many tasks.

    python benchmarks/scale.py [--quick] [--only windows|rows|tasks] [--json]

- windows: ten hourly tables in a chain, 100,000 windows each, whose records are written into the metadata
  database. Time and peak memory of a plan when everything is missing and when there is nothing to do, and of
  the command `envol status`.
- rows: 50 windows of a source of a million rows each, put together from batches, and of a table made from it.
- tasks: a run of 10,000 tasks, in a chain of ten tables of 100 rows. Its memory after 1,000, 5,000 and 10,000
  tasks, and the time of a task: what the same commits take without a run, and the rest; also as time of the
  processor, which suffers less from what else the machine does.

Each is measured in a process of its own. This one imports nothing large, as the peak that the system tells of
a child begins with its parent's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

START = datetime(2010, 1, 1, tzinfo=UTC)
TABLES = 10
REPEATS = 3
CONFIG = '[project]\nname = "scale"\nstart = "{start}"\nend = "{end}"\n'
CHAIN = (
    "import polars as pl\nfrom envol import Window, source, table\n\n\n"
    '@source(every="1h")\ndef t0(window: Window) -> pl.DataFrame:\n'
    '    return pl.DataFrame({"n": pl.int_range({rows}, eager=True) + window.epoch})\n'
)
LINK = '\n\n@table()\ndef t{number}(t{before}: pl.DataFrame):\n    return t{before}.select(pl.col("n") + 1)\n'
LARGE = """
import numpy as np
import polars as pl

from envol import Window, source, table


def batch(window: Window, number: int) -> pl.DataFrame:
    random = np.random.default_rng(window.epoch + number)
    return pl.DataFrame(
        {
            "id": np.arange(number * {batch}, (number + 1) * {batch}) + window.epoch,
            "amount": random.gamma(2, 20, {batch}),
            "weight": random.normal(size={batch}),
            "place": random.integers(0, 500, {batch}),
        }
    )


@source(every="1h")
def events(window: Window):
    for number in range(10):
        yield batch(window, number)


@table()
def shares(events: pl.DataFrame) -> pl.DataFrame:
    return events.with_columns(share=pl.col("amount") / pl.col("amount").sum().over("place"))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 windows, 200,000 rows, 100 tasks")
    parser.add_argument("--only", choices=list(PARTS), help="one part")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    results = {}
    for name, (measure, size, small) in PARTS.items():
        if given.only in (None, name):
            with tempfile.TemporaryDirectory(prefix="scale-") as folder:
                results[name] = measure(Path(folder), small if given.quick else size)
            if not given.json:
                print(text(name, results[name]))
    if given.json:
        print(json.dumps(results, indent=2))


def windows(root: Path, count: int) -> dict[str, Any]:
    """Planning and `envol status` with this many windows of each table."""
    write_chain(root, count, rows=1)
    missing = apart(plan, root)
    records = apart(record_all, root)
    nothing = apart(plan, root)
    if missing["tasks"] != count * TABLES or nothing["tasks"] != 0:
        raise SystemExit(f"planned {missing['tasks']:,} and {nothing['tasks']:,} tasks")
    return {
        "windows": count,
        "tables": TABLES,
        "missing": missing,
        "nothing": nothing,
        "status": command(root, "status"),
        "database_megabytes": records["database_megabytes"],
    }


def rows(root: Path, count: int) -> dict[str, Any]:
    """A run that makes this many rows, a million a window at most, and as many again out of them."""
    each = min(count // 2, 1_000_000)
    write_config(root, count // each)
    (root / "large.py").write_text(LARGE.replace("{batch}", str(each // 10)))
    ran = command(root, "run")
    kept = apart(rows_kept, root, "shares")
    if kept["rows"] != count:
        raise SystemExit(f"{kept['rows']:,} rows in the table instead of {count:,}")
    return {"rows": count, "rows_a_window": each, **ran, "rows_a_second": count / ran["seconds"]}


def tasks(root: Path, count: int) -> dict[str, Any]:
    """A run of so many tasks, and the same commits without one."""
    write_chain(root, count // TABLES, rows=100)
    ran = apart(run_counted, root, count)
    alone = apart(commit_alone, root / "alone", ran["order"])
    by_task = {key: (ran[key] / count * 1000, alone[key] / count * 1000) for key in ("seconds", "processor")}
    return {
        "tasks": count,
        "megabytes_after": ran["megabytes_after"],
        "milliseconds": dict(zip(("run", "commits_alone"), by_task["seconds"], strict=True)),
        "processor_milliseconds": dict(zip(("run", "commits_alone"), by_task["processor"], strict=True)),
    }


PARTS: dict[str, tuple[Callable[[Path, int], dict[str, Any]], int, int]] = {
    "windows": (windows, 100_000, 2_000),
    "rows": (rows, 50_000_000, 200_000),
    "tasks": (tasks, 10_000, 100),
}
"""What is measured, its size, and its size with --quick."""


def text(name: str, found: dict[str, Any]) -> str:
    if name == "windows":
        lines = [f"{found['tables']} tables x {found['windows']:,} windows"]
        for key, title in (
            ("missing", "plan, everything missing"),
            ("nothing", "plan, nothing to do"),
            ("status", "envol status"),
        ):
            lines.append(f"  {title:26}{found[key]['seconds']:>8.2f} s{found[key]['megabytes']:>8.0f} MB")
        lines.append(f"  {'metadata database':26}{found['database_megabytes']:>18.0f} MB")
    elif name == "rows":
        rate, peak = found["rows_a_second"], found["megabytes"]
        lines = [
            f"{found['rows']:,} rows, {found['rows_a_window']:,} a window, and as many made of them",
            f"  {found['seconds']:.1f} s, {rate:,.0f} rows/s, peak {peak:.0f} MB",
        ]
    else:
        after = ", ".join(
            f"{size:.0f} MB after {int(done):,}" for done, size in found["megabytes_after"].items()
        )
        lines = [
            f"{found['tasks']:,} tasks",
            f"  {after}",
            *(
                f"  a task{of}: {one['run']:.1f} ms, {one['commits_alone']:.1f} ms its commit alone, "
                f"{one['run'] - one['commits_alone']:.1f} ms the rest"
                for of, one in (
                    ("", found["milliseconds"]),
                    (", processor time", found["processor_milliseconds"]),
                )
            ),
        ]
    return "\n".join(lines)


def write_config(root: Path, count: int) -> None:
    end = START + timedelta(hours=count)
    (root / "envol.toml").write_text(CONFIG.format(start=START.isoformat(), end=end.isoformat()))


def write_chain(root: Path, count: int, rows: int) -> None:
    """A project of ten hourly tables, each made from the one before, with so many windows."""
    write_config(root, count)
    links = [LINK.format(number=number, before=number - 1) for number in range(1, TABLES)]
    (root / "chain.py").write_text(CHAIN.replace("{rows}", str(rows)) + "".join(links))


def apart(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What the function returns in a process of its own, and that one's peak memory."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(with_peak, work, arguments).result()


def with_peak(work: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> dict[str, Any]:
    return {"megabytes": 0.0, **work(*arguments)} | {"megabytes": memory("VmHWM")}


def memory(field: str) -> float:
    """Megabytes of this process: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 * 1.024 for line in lines if line.startswith(field))


def command(root: Path, verb: str) -> dict[str, float]:
    """Seconds and peak memory of a command of Envol's, from its start to its exit."""
    began = time.perf_counter()
    with (root / "output.log").open("w") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "envol"), verb, "--project", str(root)], stdout=log, stderr=log
        )
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"envol {verb} failed:\n{(root / 'output.log').read_text()[-2000:]}")
    return {"seconds": seconds, "megabytes": usage.ru_maxrss / 1000 * 1.024}


def plan(root: Path) -> dict[str, Any]:
    """The median time of some plans of the project."""
    from envol.pipeline import make_plan
    from envol.project import load_project
    from envol.project.clock import SystemClock
    from envol.storage import Store

    project, seconds = load_project(root), list[float]()
    with Store(project.store_path) as store:
        for _ in range(REPEATS):
            began = time.perf_counter()
            made = make_plan(project, store, SystemClock())
            seconds.append(time.perf_counter() - began)
    return {"seconds": statistics.median(seconds), "tasks": len(made)}


def record_all(root: Path) -> dict[str, Any]:
    """Record every window of the project as made; nothing is run."""
    import numpy as np
    from sqlalchemy import insert

    from envol.pipeline import Records, make_plan
    from envol.pipeline.source_control import Revision
    from envol.pipeline.versions import inputs_hashes, window_tokens
    from envol.project import load_project
    from envol.project.clock import SystemClock
    from envol.storage import Store, tables

    project, clock = load_project(root), SystemClock()
    with Store(project.store_path) as store:
        made = make_plan(project, store, clock)
        definitions = {name: node.definition for name, node in made.nodes.items()}
        ids = Records(store.metadata).define(definitions, {}, Revision(None, None), clock.now())
        versions = {
            name: np.random.default_rng(number).integers(-(2**63), 2**63, len(node.slots))
            for number, (name, node) in enumerate(made.nodes.items())
        }
        for name, node in made.nodes.items():
            reads = [
                (other, window_tokens(made.nodes[other].slots.keys, versions[other]), first, last)
                for other, first, last in made.reads(name)
            ]
            inputs = inputs_hashes(len(node.slots), reads).tolist()
            fixed = {"node": name, "rows": 1, "definition": ids[name], "run": "benchmark", "made_at": 0.0}
            starts, ends = node.slots.starts.tolist(), node.slots.ends.tolist()
            found = [
                fixed | {"window_start": start, "window_end": end, "inputs": read, "version": version}
                for start, end, read, version in zip(
                    starts, ends, inputs, versions[name].tolist(), strict=True
                )
            ]
            with store.metadata.begin() as connection:
                connection.execute(insert(tables.materialization), found)
    files = project.store_path.glob("metadata*")
    return {"database_megabytes": sum(path.stat().st_size for path in files) / 1e6}


def rows_kept(root: Path, table: str) -> dict[str, Any]:
    """How many rows a table has."""
    from envol.project import load_project
    from envol.storage import Store

    with Store(load_project(root).store_path) as store:
        return {"rows": next(info.rows for info in store.lake.tables() if info.name == table)}


def run_counted(root: Path, count: int) -> dict[str, Any]:
    """A run of the project: its seconds, and its memory after a tenth, a half and all of the tasks."""
    from envol.pipeline import Plan, Task, run
    from envol.project import load_project
    from envol.project.clock import SystemClock
    from envol.storage import Store

    class Watch:
        order: list[tuple[str, int]] = []
        megabytes: dict[str, float] = {}

        def started(self, run: str, plan: Plan) -> None:
            pass

        def finished(self, task: Task, label: str, state: str, rows: int, error: Exception | None) -> None:
            self.order.append((task.node, task.index))
            if len(self.order) in (count // 10, count // 2, count):
                self.megabytes[str(len(self.order))] = memory("VmRSS")

        def note(self, text: str) -> None:
            pass

    project, watch = load_project(root), Watch()
    with Store(project.store_path) as store:
        began, used = time.perf_counter(), time.process_time()
        result = run(project, store, SystemClock(), observer=watch)
        seconds, processor = time.perf_counter() - began, time.process_time() - used
    if (result.state, result.done) != ("done", count):
        raise SystemExit(
            f"the run is {result.state}, {result.done:,} of {count:,} tasks: {result.failures[:1]}"
        )
    told = {"megabytes_after": watch.megabytes, "order": watch.order}
    return {"seconds": seconds, "processor": processor, **told}


def commit_alone(root: Path, order: list[tuple[str, int]]) -> dict[str, Any]:
    """The seconds that the commits of such a run take without it, in its order and from as many threads."""
    import polars as pl

    from envol.pipeline.running import IN_FLIGHT
    from envol.project.windows import Calendar, Period
    from envol.storage import Store

    calendar = Calendar("UTC")
    frame = pl.DataFrame({"n": pl.int_range(100, eager=True)})

    def commit(task: tuple[str, int]) -> None:
        table, hour = task
        window = calendar.window_at(Period.HOUR, START + timedelta(hours=hour))
        store.lake.replace({table: frame}, window, node=table, fingerprint=str(hour))

    with Store(root) as store, ThreadPoolExecutor((os.cpu_count() or 1) * IN_FLIGHT) as pool:
        began, used = time.perf_counter(), time.process_time()
        list(pool.map(commit, order))
        seconds, processor = time.perf_counter() - began, time.process_time() - used
    return {"seconds": seconds, "processor": processor}


if __name__ == "__main__":
    main()
