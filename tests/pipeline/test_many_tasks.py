"""A thousand quick tasks while others read: no "database is locked", nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from small_project import SmallProject

Make = Callable[..., SmallProject]
TASKS = 1008
READER = """
import sys
from pathlib import Path
from small_project import SmallProject
small, stop = SmallProject(Path(sys.argv[1])), Path(sys.argv[2])
reads = 0
while not stop.exists():
    small.plan("2024-02-12")
    if (small.store_path / "lake.sqlite").exists() and small.count_tasks() > 20:
        small.table("quick")
        reads += 1
print(reads)
"""


def test_a_thousand_quick_tasks_beside_readers(project: Make, tmp_path: Path) -> None:
    small = project(
        """
        @source(every="1h")
        def quick(window: Window) -> pl.DataFrame:
            return pl.DataFrame({"hour": [window.start.hour]})
        """
    )
    stop = tmp_path / "stop"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(small.root), str(stop)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    try:
        result = small.run("2024-02-12", workers=8)
    finally:
        stop.touch()
        said = [reader.communicate(timeout=120) for reader in readers]
    assert (result.state, result.done, result.failures) == ("done", TASKS, [])
    for reader, (out, err) in zip(readers, said, strict=True):
        assert reader.returncode == 0, err
        assert int(out) > 0
    assert small.table("quick")["window_start"].n_unique() == TASKS
