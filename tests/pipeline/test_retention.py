"""What goes, and what stays because something needs it, on real stores."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded import (
    DAY,
    MODULE,
    NOW,
    age,
    at,
    change,
    collected,
    column,
    count,
    run_row,
    task_row,
    write,
)
from servers import Postgres
from small_project import SmallProject
from sqlalchemy import update

from envol.pipeline import run, run_lease
from envol.pipeline.quarantine.decisions import Action, Decision, Decisions
from envol.pipeline.retention import collect, sizes
from envol.project import load_project
from envol.project.clock import FixedClock, SystemClock
from envol.registry import Registry
from envol.storage import Store, tables

Make = Callable[..., SmallProject]
ALL = ("logs", "failed_logs", "tasks", "runs", "snapshots", "quarantine", "backfills", "schema_changes")
NOTHING_KEPT = dict.fromkeys(ALL, "0h")
CHECKED = """
    class Reading(dy.Schema):
        unit = dy.Int64(primary_key=True)
        heat = dy.Float64(min=0)

    @source(every="1d", contract=Reading)
    def readings(window: Window) -> pl.DataFrame:
        day = window.start.day
        heat = [10.0 * day, 10.0 * day + 1, -1.0 if day % 2 else 1.0]
        return pl.DataFrame({"unit": [10 * day + row for row in range(3)], "heat": heat})
"""
MODELLED = (
    CHECKED
    + """
    @source(every="1d")
    def faults(window: Window) -> pl.DataFrame:
        return readings(window).rename({"heat": "worth"})

    @model(features="readings", labels="faults", key="unit", target="worth", train="4d", every="4d", folds=1,
           test="1d", task="regression")
    def risk(X: pl.DataFrame, y: pl.Series):
        from sklearn.linear_model import LinearRegression

        return LinearRegression().fit(X, y)
"""
)


def opened(small: SmallProject) -> closing[Store]:
    return closing(Store.of(load_project(small.root)))


@pytest.mark.usefixtures("storage")
def test_records_go_by_their_kind_and_age(project: Make) -> None:
    small = project(MODULE)
    runs = [run_row(number, days) for number, days in enumerate([400, 300, 100, 50, 20, 5])]
    tasks = [task_row(one, "readings", number, "said") for number, one in enumerate(runs)]
    tasks += [task_row(one, "levels", number, "why", "failed") for number, one in enumerate(runs[:-1])]
    with opened(small) as store:
        write(store, run=runs, task=tasks)
        foretold = collected(small, dry_run=True)
        assert count(store, "task") == 11 and count(store, "task", tables.task.c.log != "") == 11
        told = collected(small)
        # 20 days: the last failed run of levels; 5 days: the last of readings.
        assert column(store, "run", "id") == sorted(one["id"] for one in runs[1:])
        left = [one["id"] for one in runs[3:]]
        assert sorted(set(column(store, "task", "run"))) == left
        assert count(store, "task", tables.task.c.log == "said") == 1
        assert count(store, "task", tables.task.c.log == "why") == 2
    counts = {name: one.count for name, one in told.items() if one.count}
    assert counts == {"logs": 5, "failed_logs": 3, "tasks": 6, "runs": 1}
    assert told["logs"].bytes == 20
    assert {name: one.count for name, one in foretold.items() if one.count} == counts
    assert all(one.count == 0 for one in collected(small).values())


@pytest.mark.usefixtures("storage")
def test_what_goes_on_and_what_models_came_of_stays(project: Make) -> None:
    small = project(MODULE)
    runs = [run_row(0, 900), run_row(1, 800, "running"), run_row(2, 700), run_row(3, 600)]
    version = {
        "model": "risk",
        "version": 1,
        "digest": "0" * 64,
        "cutoff": 0,
        "train_start": 0,
        "train_end": 0,
    }
    version |= {"fingerprint": "", "task": "binary", "metrics": "{}", "lineage": "{}", "made_at": 0.0}
    with opened(small) as store:
        write(store, run=runs, model_version=[version | {"run": runs[0]["id"]}])
        write(store, task=[task_row(runs[1], "readings", 0, "said")])
        assert collected(small, **NOTHING_KEPT)["runs"].count == 1
        assert column(store, "run", "id") == [runs[0]["id"], runs[1]["id"], runs[3]["id"]]
        assert count(store, "task", tables.task.c.log == "said") == 1


def test_never_is_never(project: Make) -> None:
    small = project(MODULE)
    runs = [run_row(number, 2000 - number) for number in range(5)]
    with opened(small) as store:
        write(store, run=runs, task=[task_row(one, "readings", 0, "said") for one in runs])
        told = collected(small, **dict.fromkeys(ALL, "never"))
        assert set(told) == {"leftovers", "packages"} and count(store, "task") == 5


@pytest.mark.usefixtures("storage")
def test_backfills_lose_their_windows_and_changes_of_columns_their_past(project: Make) -> None:
    small = project(MODULE)
    same = {"created_at": at(999), "by": "ada", "first": 0, "last": 9, "nodes": "[]", "rerun": False}
    backfills = [
        {"id": name, "state": state, "ended_at": ended, "newest_first": False} | same
        for name, state, ended in (
            ("old", "done", at(500)),
            ("new", "failed", at(9)),
            ("on", "running", None),
        )
    ]
    windows = [
        {"backfill": one["id"], "node": "readings", "window_start": start, "state": "done"}
        for one in backfills
        for start in range(1500)
    ]
    changes = [
        change("a", day, 900 - day, {"x": [None, "Int64"] if day % 2 else ["Int64", None]})
        for day in range(9)
    ]
    changes += [change("a", 3, 800, {"y": ["Int64", "Float64"]}), change("b", 1, 900, {"x": [None, "Int64"]})]
    with opened(small) as store:
        write(store, backfill=backfills, backfill_window=windows, schema_change=changes)
        told = collected(small)
        assert (told["backfills"].count, told["schema_changes"].count) == (1500, 5)
        assert sorted(set(column(store, "backfill_window", "backfill"))) == ["new", "on"]
        assert column(store, "backfill", "id") == ["new", "on"]
        # Of x the newest two of each kind; what y and b's x are now.
        assert column(store, "schema_change", "window_start") == [1, 3, 5, 6, 7, 8]


def test_models_keep_what_they_were_trained_on_and_can_be_rolled_back(project: Make) -> None:
    small = project(MODELLED)
    assert small.run("2024-01-06").state == "done"
    assert small.run("2024-01-11").state == "done"
    small.run("2024-01-11", nodes=["readings"], rerun=True)
    with opened(small) as store:
        registry = Registry(store, SystemClock())
        trained = [(name, read) for one in registry.versions() for name, read in one.lineage.items()]
        before = [store.lake.read(name, snapshot=read["snapshot"]) for name, read in trained]
        snapshots = store.lake.snapshots()["id"].n_unique()
        told = collected(small, **NOTHING_KEPT | {"quarantine": "never"})
        assert told["snapshots"].count == snapshots - len({read["snapshot"] for _, read in trained}) - 1 > 0
        assert told["packages"].count == 0
        for (name, read), frame in zip(trained, before, strict=True):
            assert store.lake.read(name, snapshot=read["snapshot"]).equals(frame)
        assert registry.load("risk", "champion").version == 2
        assert registry.rollback("risk", by="ada", reason="worse").version == 1
        assert registry.load("risk", "champion").version == 1
        assert count(store, "materialization", tables.materialization.c.node == "readings") == 10
    assert small.run("2024-01-11").state in ("nothing", "done")


def test_packages_without_a_version_and_leftovers_go(project: Make, tmp_path: Path) -> None:
    small = project(MODELLED)
    small.run("2024-01-06")
    (tmp_path / "lone").mkdir()
    (tmp_path / "lone" / "file").write_bytes(b"0" * 1000)
    with opened(small) as store:
        known = store.artifacts.digests()
        store.artifacts.put(tmp_path / "lone")
        left = [store.artifacts.path / ".incoming-old", store.path / "spool" / "spool-old"]
        alive = [store.artifacts.path / ".incoming-new", store.path / "spool" / "spool-new"]
        for folder in (*left, *alive):
            folder.mkdir(parents=True)
            (folder / "part").write_bytes(b"0" * 500)
        for folder in left:
            age(folder, 2)
        assert collected(small, dry_run=True)["packages"].count == 1
        assert all(folder.exists() for folder in left)
        told = collected(small)
        assert (told["packages"].count, told["packages"].bytes) == (1, 1000)
        assert (told["leftovers"].count, told["leftovers"].bytes) == (2, 1000)
        assert store.artifacts.digests() == known and len(known) == 1
        assert all(folder.exists() for folder in alive) and not any(folder.exists() for folder in left)


@pytest.mark.usefixtures("storage")
def test_rows_leave_quarantine_but_not_those_that_something_waits_for(project: Make) -> None:
    small = project(CHECKED)
    loaded = load_project(small.root)
    with opened(small) as store:
        run(loaded, store, FixedClock(small.now.replace(day=8)))
        held = store.lake.read("readings_quarantine")["window_start"].to_list()
        assert [one.day for one in held] == [1, 3, 5, 7]
        waiting = int(held[1].timestamp())
        decided = [(waiting, Action.RELEASE, False), (int(held[2].timestamp()), Action.DROP, True)]
        for start, action, settled in decided:
            one = Decision("readings", start, 7, action, at=1.0, by="ada", reason="so", settled=settled)
            Decisions(store.metadata).record([one])
        assert collected(small, dry_run=True, quarantine="0h")["quarantine"].count == 3
        assert collected(small, quarantine="12mo", snapshots="never")["quarantine"].count == 3
        left = store.lake.read("readings_quarantine")
        assert left["window_start"].to_list() == [held[1]]
        assert count(store, "materialization", tables.materialization.c.quarantined > 0) == 1
        assert len(Decisions(store.metadata).history("readings", 9)) == 2
        assert store.lake.read("readings").height == 7 * 3 - 4


def test_a_store_of_servers_is_collected_and_measured(
    project: Make, bucket: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ENVOL_STORAGE_URL", postgres.new_database())
    monkeypatch.setenv("ENVOL_STORAGE_DATA", bucket)
    small = project(MODELLED)
    assert small.run("2024-01-06").state == "done"
    (tmp_path / "lone").mkdir()
    (tmp_path / "lone" / "file").write_bytes(b"0" * 1000)
    with opened(small) as store:
        known = store.artifacts.digests()
        store.artifacts.put(tmp_path / "lone")
        told = collected(small, **NOTHING_KEPT)
        assert told["packages"].count == 1 and told["snapshots"].count > 0 and told["quarantine"].count == 3
        assert store.artifacts.digests() == known
        assert Registry(store, SystemClock()).load("risk", "champion").version == 1
        parts, free = sizes(store)
        assert {part.name for part in parts} >= {"records", "tables"} and free > 0
        assert all(part.bytes > 0 for part in parts)


def test_rows_of_a_window_that_is_still_tried_stay(project: Make) -> None:
    small = project(CHECKED.replace("-1.0 if day % 2 else 1.0", "-1.0").replace("10.0 * day", "-9.0"))
    assert small.run("2024-01-03").state == "failed"
    now = SystemClock().now()
    with opened(small) as store:
        assert collected(small, now, quarantine="30d")["quarantine"].count == 0
        assert store.lake.read("readings_quarantine").height == 6
        with store.metadata.begin() as connection:
            connection.execute(update(tables.task).values(started_at=now.timestamp() - 40 * DAY))
        assert collected(small, now, quarantine="30d")["quarantine"].count == 6


def test_beside_a_run_only_records_go(project: Make) -> None:
    small = project(CHECKED)
    small.run("2024-01-04")
    with opened(small) as store, opened(small) as other:
        write(store, run=[run_row(0, 9000)])
        snapshots = store.lake.snapshots().height
        with run_lease(other.metadata).held():
            told = collected(small, **NOTHING_KEPT)
        assert told["runs"].count > 0 and "a run is active" in told["snapshots"].note
        assert {told[kind].count for kind in ("snapshots", "quarantine", "packages")} == {0}
        assert store.lake.snapshots().height == snapshots
        assert collected(small, **NOTHING_KEPT)["snapshots"].note == ""


def test_runs_collect_once_a_day_and_not_on_the_first(project: Make) -> None:
    small = project(MODULE, '[retention]\nlogs = "0h"\ntasks = "0h"\nruns = "0h"')
    with opened(small) as store:
        old = run_row(0, 9000)
        write(store, run=[old])
        for day, left in ((3, 2), (4, 1), (5, 1)):
            small.run(f"2024-01-0{day}")
            assert count(store, "run") == left
        write(store, run=[old])
        assert small.run("2024-01-05", nodes=["readings"], rerun=True).state == "done"
        assert old["id"] in column(store, "run", "id"), "twice on one day"
        small.run("2024-01-02", nodes=["readings"], rerun=True)
        assert old["id"] not in column(store, "run", "id"), "the clock was set back"


def test_killed_in_the_middle_it_goes_on_where_it_stopped(project: Make) -> None:
    small = project(MODULE)
    runs = [run_row(number, 2000 - number) for number in range(1001)]
    with opened(small) as store:
        write(store, run=runs, task=[task_row(one, "readings", n, "said") for one in runs for n in range(20)])
        code = (
            "import sys; from pathlib import Path; from small_project import SmallProject\n"
            "from recorded import collected; collected(SmallProject(Path(sys.argv[1])))"
        )
        command = [sys.executable, "-c", code, str(small.root)]
        going = subprocess.Popen(command, env={"PYTHONPATH": ":".join(sys.path)})
        deadline = time.monotonic() + 120
        while count(store, "task", tables.task.c.log != "") > 18_000:
            assert time.monotonic() < deadline and going.poll() is None
        going.send_signal(signal.SIGKILL)
        going.wait()
        assert count(store, "task") > 0
        collected(small)
        assert count(store, "task") == 20 and count(store, "run") == 1
        with store.metadata.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_runs_go_on_while_records_go(project: Make) -> None:
    small = project(MODULE)
    runs = [run_row(number, 2000 - number) for number in range(300)]
    ended: list[Any] = []
    with opened(small) as store:
        write(store, run=runs, task=[task_row(one, "old", n, "said") for one in runs for n in range(20)])
        going = threading.Thread(target=lambda: ended.append(small.run("2024-02-15")))
        going.start()
        while going.is_alive():
            collected(small, tasks="1d", runs="1d")
        assert (ended[0].state, ended[0].done) == ("done", 45)
        collected(small, tasks="1d", runs="1d")
        assert count(store, "task", tables.task.c.node == "old") == 20


def test_the_file_of_an_older_envol_shrinks_as_well(project: Make) -> None:
    small = project(MODULE)
    runs = [run_row(number, 500) for number in range(200)]
    with opened(small) as store:
        write(
            store, run=runs, task=[task_row(one, "readings", n, "x" * 900) for one in runs for n in range(10)]
        )
    file = small.store_path / "metadata.sqlite"
    with closing(sqlite3.connect(file)) as old:
        old.execute("PRAGMA auto_vacuum = NONE")
        old.execute("VACUUM")
    before = file.stat().st_size
    assert (collected(small)["space"].bytes or 0) > before / 2 and file.stat().st_size < before / 2
    with closing(sqlite3.connect(file)) as now:
        assert now.execute("PRAGMA auto_vacuum").fetchone()[0] == 2
    with opened(small) as store:
        assert count(store, "task") == 10


SPANS = st.sampled_from(["0h", "5d", "30d", "never"])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=st.lists(
        st.tuples(st.integers(0, 60), st.sampled_from(["a", "b"]), st.sampled_from(["done", "failed"])),
        min_size=1,
        max_size=12,
    ),
    logs=SPANS,
    failed_logs=SPANS,
    tasks=SPANS,
    runs=SPANS,
)
def test_the_last_run_of_a_node_and_its_last_failed_one_stay(
    tmp_path: Path, history: list[tuple[int, str, str]], **spans: str
) -> None:
    small = SmallProject(tmp_path / "project").write(MODULE)
    ordered = sorted(history, reverse=True)  # the oldest first
    rows = [run_row(number, days, state) for number, (days, _, state) in enumerate(ordered)]
    said = [task_row(row, one[1], 0, "said", one[2]) for row, one in zip(rows, ordered, strict=True)]
    with opened(small) as store:
        for name in ("task", "run"):
            with store.metadata.begin() as connection:
                connection.execute(tables.metadata.tables[name].delete())
        write(store, run=rows, task=said)
        foretold = collected(small, dry_run=True, **spans)
        told = collected(small, **spans)
        kinds = ("logs", "failed_logs", "tasks", "runs")
        assert [foretold.get(one) for one in kinds] == [told.get(one) for one in kinds]
        left, runs_left = set(column(store, "task", "run")), set(column(store, "run", "id"))
        assert left <= runs_left
        for node in ("a", "b"):
            mine = [row for row in said if row["node"] == node]
            failed = [row for row in mine if row["state"] == "failed"]
            assert {row["run"] for row in (*mine[-1:], *failed[-1:])} <= left
        for name, table in (("tasks", left), ("runs", runs_left)):
            if spans[name] == "never":
                assert name == "tasks" and spans["runs"] != "never" or len(table) == len(rows)


def test_ten_thousand_runs_stay_small(project: Make) -> None:
    """Three years of runs, nine a day, with four tasks each that say 1 kB, one in fifty failing.

    Runs collect once a day, here it is done every 30 days. So there are at most 44 days of logs (1,600 of
    1 kB), 120 days of tasks (4,400, and 90 failed logs) and 395 days of runs (3,600). With 350 bytes a task,
    and 300 a run, indexes included, that is 4.4 MB, and 6 MB leave room for half-filled pages. All that was
    recorded takes twenty times as much.
    """
    small, kept = project(MODULE), project(MODULE, name="kept")
    rows = [run_row(number, 1095 * (1 - number / 10_000)) for number in range(10_000)]
    tasks = [
        [
            task_row(row, f"node{n}", n, "x" * 1000, "failed" if (number + n) % 50 == 0 else "done")
            for n in range(4)
        ]
        for number, row in enumerate(rows)
    ]
    sizes = []
    with opened(small) as store:
        loaded = load_project(small.root)
        for first in range(0, 10_000, 274):
            part = slice(first, first + 274)
            write(store, run=rows[part], task=chain.from_iterable(tasks[part]))
            days = rows[part][-1]["started_at"]
            collect(loaded, store, FixedClock(datetime.fromtimestamp(days, UTC)))
            sizes.append(store.metadata.size())
        assert count(store, "run") < 3_700 and max(sizes) < 6_000_000
        assert max(sizes[-12:]) < 1.1 * max(sizes[12:24]), "it does not grow from year to year"
    with opened(kept) as store:
        write(store, run=rows, task=chain.from_iterable(tasks))
        assert store.metadata.size() > 100_000_000


def test_many_real_runs_leave_a_bounded_store(project: Make) -> None:
    """A run a day, with a few days of each kind kept."""
    spans = {"logs": "1d", "tasks": "2d", "runs": "3d", "snapshots": "1h"}
    config = "[retention]\n" + "".join(f'{name} = "{span}"\n' for name, span in spans.items())
    small = project(CHECKED, config)
    with opened(small) as store:
        for day in range(1, 16):
            now = NOW.replace(month=3, day=1) + timedelta(days=day)
            loaded = load_project(small.root, {"ENVOL_PROJECT_END": f"2024-01-{day + 1:02}"})
            assert run(loaded, store, FixedClock(now)).state == "done"
            assert count(store, "run") <= 5 and count(store, "task") <= 4
            assert store.lake.snapshots()["id"].n_unique() <= 4
        assert store.lake.read("readings")["window_start"].n_unique() == 15
