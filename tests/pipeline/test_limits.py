"""How many tasks run side by side."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_project import SmallProject

from envol.errors import ConfigError

Make = Callable[..., SmallProject]
# Each task writes when it begins and when it ends.
TIMED = """
    import time
    from pathlib import Path

    def work(name):
        with open(Path(__file__).parent / "times.txt", "a") as file:
            file.write(f"{name} begin\\n")
        time.sleep(0.05)
        with open(Path(__file__).parent / "times.txt", "a") as file:
            file.write(f"{name} end\\n")
        return pl.DataFrame({"n": [1]})

    @source(every="1d", SETTINGS)
    def first(window: Window) -> pl.DataFrame:
        return work("first")

    @source(every="1d", SETTINGS)
    def second(window: Window) -> pl.DataFrame:
        return work("second")
"""


def at_most(small: SmallProject) -> dict[str, int]:
    """The largest number of tasks that were at work at once, by node and over all."""
    now = {"first": 0, "second": 0, "all": 0}
    most = dict(now)
    for line in (small.root / "times.txt").read_text().splitlines():
        name, event = line.split()
        for key in (name, "all"):
            now[key] += 1 if event == "begin" else -1
            most[key] = max(most[key], now[key])
    return most


def test_a_resource_is_shared_by_the_nodes_that_name_it(project: Make) -> None:
    small = project(TIMED.replace("SETTINGS", 'resources="database"'), "[resources]\ndatabase = 2\n")
    assert small.run(workers=6).done == 20
    assert at_most(small)["all"] == 2


def test_a_node_has_a_limit_of_its_own(project: Make) -> None:
    small = project(TIMED.replace("SETTINGS", "at_once=1"))
    assert small.run(workers=6).done == 20
    assert at_most(small) == {"first": 1, "second": 1, "all": 2}


def test_without_limits_the_workers_are_the_limit(project: Make) -> None:
    small = project(TIMED.replace("SETTINGS", "retries=0"))
    assert small.run(workers=3).done == 20
    assert 2 <= at_most(small)["all"] <= 3


def test_a_resource_without_a_limit_is_refused_by_name(project: Make) -> None:
    small = project(TIMED.replace("SETTINGS", 'resources=["datbase"]'), "[resources]\ndatabase = 2\n")
    with pytest.raises(ConfigError, match="'datbase'.*\n.*did you mean 'database'"):
        small.run()
    small = project(TIMED.replace("SETTINGS", 'resources="gpu"'), name="other")
    with pytest.raises(ConfigError, match=r"(?s)\[resources\]: gpu = 1"):
        small.run()
