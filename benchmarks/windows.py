"""How long committing and reading one window takes as history grows.

One lake is grown to 10, 100, 1,000 and 5,000 daily windows of 1,000 rows and 20 columns, and copied at each
of these. The copies are then measured in turns, so that whatever else the machine does hits all alike:
adding the next window, replacing one from anywhere in the history, and reading one.

    python benchmarks/windows.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from envol.project.windows import Calendar, Period, Window
from envol.storage import Store

CALENDAR = Calendar("UTC")
FIRST = datetime(2000, 1, 1, tzinfo=UTC)
TABLE = "measurements"
COLUMNS = 20
WARM_UP = 2


def window(number: int) -> Window:
    """The daily window that many days after the first."""
    return CALENDAR.window_at(Period.DAY, FIRST + timedelta(days=number))


def frame(number: int, rows: int) -> pl.DataFrame:
    """Random numbers: every other column floats, the rest whole."""
    random = np.random.default_rng(number)
    return pl.DataFrame(
        {
            f"column_{index}": random.normal(size=rows) if index % 2 else random.integers(0, 1000, rows)
            for index in range(COLUMNS)
        }
    )


def grow(folder: Path, sizes: list[int], rows: int) -> tuple[dict[int, Path], dict[str, float]]:
    """Lakes of these sizes under the folder, and the seconds that growing the largest took."""
    lakes, times = {}, list[float]()
    with Store(folder / "growing") as store:
        for number in range(sizes[-1]):
            times.append(commit(store, frame(number, rows), number))
            if number + 1 in sizes:
                store.close()
                lakes[number + 1] = folder / str(number + 1)
                shutil.copytree(folder / "growing", lakes[number + 1])
    growth = {
        "commits": len(times),
        "seconds": sum(times) / 1000,
        "mean_ms": statistics.fmean(times),
        "p99_ms": float(np.quantile(times, 0.99)),
        "max_ms": max(times),
    }
    return lakes, growth


def commit(store: Store, data: pl.DataFrame, number: int) -> float:
    """Milliseconds that replacing one window of the table takes."""
    chosen = window(number)
    began = time.perf_counter()
    store.lake.replace({TABLE: data}, chosen, node=TABLE, fingerprint="benchmark")
    return 1000 * (time.perf_counter() - began)


def read(store: Store, number: int, rows: int) -> float:
    """Milliseconds that reading one window takes."""
    chosen = window(number)
    began = time.perf_counter()
    found = store.lake.read(TABLE, chosen.start, chosen.end)
    assert found.height == rows
    return 1000 * (time.perf_counter() - began)


def measure(lakes: dict[int, Path], rows: int, rounds: int) -> dict[str, dict[int, float]]:
    """Medians in milliseconds by action and number of windows; each turn adds a window to each lake."""
    times: dict[str, dict[int, list[float]]] = {
        action: {size: [] for size in lakes} for action in ("add", "replace", "read")
    }
    stores = {size: Store(path) for size, path in lakes.items()}
    random = np.random.default_rng(0)
    for turn in range(rounds + WARM_UP):
        data = frame(1_000_000 + turn, rows)
        for size, store in stores.items():
            found = {
                "add": commit(store, data, size + turn),
                "replace": commit(store, data, int(random.integers(size))),
                "read": read(store, int(random.integers(size)), rows),
            }
            for action, value in found.items():
                times[action][size] += [value] if turn >= WARM_UP else []
    for store in stores.values():
        store.close()
    return {
        action: {size: statistics.median(values) for size, values in sizes.items()}
        for action, sizes in times.items()
    }


def table(medians: dict[str, dict[int, float]], growth: dict[str, float]) -> str:
    """The medians and their ratio to the smallest, as text."""
    lines = [f"{'windows':>8}" + "".join(f"{action + ' ms':>14}{'ratio':>7}" for action in medians)]
    for size in next(iter(medians.values())):
        cells = ""
        for sizes in medians.values():
            cells += f"{sizes[size]:>14.1f}{sizes[size] / min(sizes.values()):>7.2f}"
        lines.append(f"{size:>8,}{cells}")
    lines.append(
        f"growing to {growth['commits']:,} windows, with merging: {growth['seconds']:.0f} s,"
        f" mean {growth['mean_ms']:.1f} ms a commit, 99 % within {growth['p99_ms']:.0f} ms,"
        f" longest {growth['max_ms']:.0f} ms"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a smoke run on 5 and 20 windows")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--folder", type=Path, help="where to make the lakes (default: a temporary folder)")
    options = parser.parse_args()
    sizes = [5, 20] if options.quick else [10, 100, 1_000, 5_000]
    rows, rounds = (50, 3) if options.quick else (1_000, 40)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        lakes, growth = grow(Path(folder), sizes, rows)
        medians = measure(lakes, rows, rounds)
    if options.json:
        ratios = {action: max(m.values()) / min(m.values()) for action, m in medians.items()}
        print(json.dumps({"medians_ms": medians, "largest_to_smallest": ratios, "growth": growth}))
    else:
        print(table(medians, growth))


if __name__ == "__main__":
    main()
