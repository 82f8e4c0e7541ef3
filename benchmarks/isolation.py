"""What it costs to run a task in a process of its own.

One node that returns its input is called in this process, in a warm isolated process, and in a fresh one for
each call, in turns, so that whatever else the machine does hits all alike.

    python benchmarks/isolation.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from envol.pipeline.compute import compute
from envol.pipeline.isolation import Isolation
from envol.project import load_project

COLUMNS = 10
CONFIG = '[project]\nname = "isolated"\nstart = "2024-01-01"\n'
MODULE = """
import polars as pl

from envol import source, table


@source()
def numbers() -> pl.DataFrame: ...


@table(isolated=True)
def copy(numbers: pl.DataFrame) -> pl.DataFrame:
    return numbers
"""


def frame(rows: int) -> pl.DataFrame:
    """Whole numbers, floats and texts in turn."""
    numbers = pl.int_range(rows, eager=True)
    kinds = [numbers, numbers / 3, numbers.cast(pl.String)]
    return pl.DataFrame({f"column_{index}": kinds[index % 3] for index in range(COLUMNS)})


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def measure(folder: Path, rows: int, calls: int, fresh_calls: int) -> dict[str, float]:
    """Median milliseconds of a call by where it runs."""
    (folder / "envol.toml").write_text(CONFIG)
    (folder / "pipeline.py").write_text(MODULE)
    project = load_project(folder)
    node, data = project.graph.nodes["copy"], {"numbers": frame(rows)}
    window = project.calendar.window_at(project.graph.period_of("copy"), project.start)
    times: dict[str, list[float]] = {"in this process": [], "in a warm process": [], "in a fresh process": []}

    def fresh() -> None:
        with Isolation(project) as once:
            once.compute(node, data, window)

    with Isolation(project) as isolation:
        isolation.compute(node, data, window)
        for call in range(calls):
            times["in this process"].append(seconds(lambda: compute(node, data, window, {})))
            times["in a warm process"].append(seconds(lambda: isolation.compute(node, data, window)))
            if call < fresh_calls:
                times["in a fresh process"].append(seconds(fresh))
    return {where: 1000 * statistics.median(values) for where, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a smoke run of a few calls")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    sizes = {1_000: 3} if options.quick else {1_000: 200, 100_000: 50, 2_000_000: 10}
    found = {}
    for rows, calls in sizes.items():
        with tempfile.TemporaryDirectory() as folder:
            found[rows] = measure(Path(folder), rows, calls, fresh_calls=min(calls, 10))
    if options.json:
        print(json.dumps({"columns": COLUMNS, "median_ms": found}))
        return
    print(f"{'rows':>10}" + "".join(f"{where + ' ms':>25}" for where in found[1_000]))
    for rows, medians in found.items():
        print(f"{rows:>10,}" + "".join(f"{value:>25.1f}" for value in medians.values()))


if __name__ == "__main__":
    main()
