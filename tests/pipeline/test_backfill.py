"""Backfills: windows of the past as rows in a table, which neither a kill nor new code loses."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from small_project import SmallProject

from envol import pipeline
from envol.errors import NotFoundError
from envol.project import load_project
from envol.project.clock import FixedClock
from envol.storage import Store

COUNTED = """
    from pathlib import Path
    import time

    @source(every="1d")
    def numbers(window: Window, pause: float = 0.0) -> pl.DataFrame:
        time.sleep(pause)
        while window.start.day > 6 and (Path(__file__).parent / "held.txt").exists():
            time.sleep(0.01)
        with open(Path(__file__).parent / "made.txt", "a") as file:
            file.write(window.key + "\\n")
        if (Path(__file__).parent / "broken.txt").exists() and window.start.day == 4:
            raise OSError("the fourth is not there")
        return pl.DataFrame({"n": [window.start.day]})

    @table(lookback={"numbers": "1d"})
    def sums(numbers: pl.DataFrame) -> pl.DataFrame:
        return numbers.select(pl.col("n").sum())
"""
Make = Callable[..., SmallProject]
pytestmark = pytest.mark.usefixtures("storage")


def at(day: str) -> datetime:
    return datetime.fromisoformat(f"2024-{day}T00:00:00+00:00")


class Backfills:
    """What one does with the backfills of a small project."""

    def __init__(self, small: SmallProject) -> None:
        self.small = small
        self.clock = FixedClock(small.now)

    def request(self, first: str, last: str, **options) -> pipeline.Backfill:
        with Store.of(load_project(self.small.root)) as store:
            project = load_project(self.small.root)
            found = pipeline.request_backfill(
                project, store, self.clock, start=at(first), end=at(last), by="ada", **options
            )
            assert found is not None
            return found

    def carry_on(self, identity: str, **options):
        project = load_project(self.small.root)
        with Store.of(project) as store:
            return pipeline.carry_on(project, store, self.clock, identity, **options)

    def find(self, identity: str) -> pipeline.Backfill:
        with Store.of(load_project(self.small.root)) as store:
            return pipeline.find_backfill(store.metadata, identity)

    def made(self) -> list[str]:
        path = self.small.root / "made.txt"
        return path.read_text().split() if path.exists() else []


def test_a_range_is_made_with_what_it_is_made_from(project: Make) -> None:
    some = Backfills(project(COUNTED))
    asked = some.request("01-04", "01-06", nodes=["sums"])
    assert asked.windows == {"waiting": 5}  # two sums, and the numbers of three days
    assert (asked.state, asked.nodes, asked.by) == ("waiting", ("sums",), "ada")
    assert some.carry_on(asked.id).state == "done"
    assert sorted(some.made()) == ["2024-01-03", "2024-01-04", "2024-01-05"]
    after = some.find(asked.id)
    assert (after.state, after.windows) == ("done", {"done": 5})
    assert after.ended_at == some.small.now


def test_newest_first_or_oldest_first(project: Make) -> None:
    some = Backfills(project(COUNTED))
    asked = some.request("01-02", "01-07", nodes=["numbers"], newest_first=True)
    some.carry_on(asked.id, workers=1)
    days = [day[-2:] for day in some.made()]
    assert (days[0], days[-1]) == ("06", "02")
    asked = some.request("01-02", "01-07", nodes=["numbers"], rerun=True)
    some.carry_on(asked.id, workers=1)
    days = [day[-2:] for day in some.made()[5:]]
    assert (days[0], days[-1]) == ("02", "06")


def test_what_is_up_to_date_is_not_asked_for_unless_again(project: Make) -> None:
    small = project(COUNTED)
    small.run()
    some = Backfills(small)
    with Store.of(load_project(small.root)) as store:
        nothing = pipeline.request_backfill(
            load_project(small.root), store, some.clock, start=at("01-01"), end=at("02-01"), by="ada"
        )
    assert nothing is None
    asked = some.request("01-03", "01-05", nodes=["numbers"], rerun=True)
    assert some.carry_on(asked.id).done == 2
    assert sorted(some.made()[10:]) == ["2024-01-03", "2024-01-04"]


def test_stopped_it_goes_on_where_it_was(project: Make) -> None:
    some = Backfills(project(COUNTED, "[parameters.numbers]\npause = 0.1\n"))
    asked = some.request("01-01", "01-11", nodes=["numbers"])
    stop = threading.Event()
    timer = threading.Timer(0.5, stop.set)
    timer.start()
    assert some.carry_on(asked.id, workers=1, stop=stop).state == "cancelled"
    between = some.find(asked.id)
    assert between.state == "waiting"
    assert between.waiting > 0
    some.carry_on(asked.id)
    assert some.find(asked.id).windows == {"done": 10}
    assert sorted(some.made()) == sorted(set(some.made()))


def test_killed_it_goes_on_where_it_was(project: Make) -> None:
    some = Backfills(project(COUNTED))
    held = some.small.root / "held.txt"
    held.touch()
    asked = some.request("01-01", "01-11", nodes=["numbers"], rerun=True)
    code = (
        "import sys; from pathlib import Path; sys.path[:0] = sys.argv[3:]\n"
        "from envol import pipeline; from envol.project import load_project\n"
        "from envol.project.clock import FixedClock; from envol.storage import Store\n"
        "from datetime import datetime\n"
        "project = load_project(Path(sys.argv[1]))\n"
        "clock = FixedClock(datetime.fromisoformat('2024-01-11T00:00:00+00:00'))\n"
        "pipeline.carry_on(project, Store.of(project), clock, sys.argv[2], workers=1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(some.small.root), asked.id, *sys.path])
    some.small.wait_for_tasks(3, process)
    process.kill()
    process.wait()
    held.unlink()
    between = some.find(asked.id)
    assert between.state == "running"
    assert 0 < between.waiting < 10
    assert some.carry_on(asked.id).state == "done"
    assert some.find(asked.id).windows == {"done": 10}
    assert len(some.made()) <= 10 + 4  # those in the air at the kill


def test_a_new_code_version_loses_nothing(project: Make) -> None:
    some = Backfills(project(COUNTED))
    asked = some.request("01-01", "01-11", nodes=["numbers"])
    some.small.edit("[window.start.day]", "[window.start.day + 100]")
    some.carry_on(asked.id)
    assert some.find(asked.id).windows == {"done": 10}
    assert some.small.table("numbers")["n"].min() == 101


def test_windows_that_are_no_more_are_gone(project: Make) -> None:
    some = Backfills(project(COUNTED))
    asked = some.request("01-01", "01-11")
    config = some.small.root / "envol.toml"
    config.write_text(config.read_text().replace('"2024-01-01"', '"2024-01-03"'))
    some.small.edit("def sums(", "def totals(")
    some.carry_on(asked.id)
    assert some.find(asked.id).windows == {"done": 8, "gone": 12}


def test_failed_windows_can_be_tried_again(project: Make) -> None:
    some = Backfills(project(COUNTED))
    (some.small.root / "broken.txt").touch()
    asked = some.request("01-01", "01-11")
    result = some.carry_on(asked.id)
    assert (result.state, result.failed, result.skipped) == ("failed", 1, 2)
    assert some.find(asked.id).windows == {"done": 17, "failed": 3}
    (some.small.root / "broken.txt").unlink()
    with Store.of(load_project(some.small.root)) as store:
        assert pipeline.retry_backfill(store.metadata, asked.id).state == "waiting"
        assert pipeline.next_backfill(store) == asked.id
    some.carry_on(asked.id)
    assert some.find(asked.id).windows == {"done": 20}


def test_a_cancelled_one_is_not_next(project: Make) -> None:
    some = Backfills(project(COUNTED))
    first, second = some.request("01-01", "01-03"), some.request("01-03", "01-05")
    with Store.of(load_project(some.small.root)) as store:
        assert pipeline.next_backfill(store) == first.id
        assert pipeline.cancel_backfill(store.metadata, first.id, datetime.now(UTC), "bob").waiting == 4
        assert pipeline.next_backfill(store) == second.id
        with pytest.raises(NotFoundError, match="no backfill"):
            pipeline.find_backfill(store.metadata, "nonsense")
