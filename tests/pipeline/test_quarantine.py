"""The loop of quarantine on real stores: deciding, replaying, making windows again, and what may go wrong."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from small_project import SmallProject
from sqlalchemy import func, select

from envol.errors import BusyError, EnvolError, NotFoundError, UserError
from envol.pipeline import Lease, run_lease
from envol.pipeline.conducting.control import CONDUCTOR, Control
from envol.pipeline.quarantine.decisions import Action, Decision, Decisions
from envol.pipeline.quarantine.held import Choice
from envol.pipeline.quarantine.identity import parts_of
from envol.pipeline.quarantine.review import Quarantine
from envol.pipeline.quarantine.texts import plain_rows
from envol.project import load_project
from envol.project.clock import FixedClock
from envol.storage import Store, tables

Make = Callable[..., SmallProject]
NOW = "2024-01-04"
ALL = Choice()
WHO: Any = {"by": "ada", "reason": "looked at"}
MODULE = """
    class Reading(dy.Schema):
        key = dy.String(primary_key=True)
        heat = dy.Float64(min=0)

    @source(every="1d", contract=Reading)
    def readings(window: Window) -> pl.DataFrame:
        day = float(window.start.day)
        return pl.DataFrame({"key": ["a", "b", "c", "d", "d"], "heat": [1.0, 2.0, -day, -2.0, 4.0]})

    @table()
    def total(readings: pl.DataFrame) -> pl.DataFrame:
        return readings.select(pl.col("heat").sum(), rows=pl.len())
"""


@contextmanager
def reviewing(small: SmallProject, now: str = NOW) -> Iterator[Quarantine]:
    project = load_project(small.root)
    with Store(small.store_path) as store:
        yield Quarantine(project, store, small._clock(now))


def made(small: SmallProject, node: str = "readings") -> dict[int, tuple[int, int, int, int]]:
    """By day of a node's windows: rows, quarantined, version, snapshot."""
    column = tables.materialization.c
    query = select(
        column.window_start, column.rows, column.quarantined, column.version, column.snapshot
    ).where(column.node == node)
    with Store(small.store_path) as store, store.metadata.connect() as connection:
        return {(start // 86400 - 19723) + 1: tuple(rest) for start, *rest in connection.execute(query)}


def extracted(small: SmallProject) -> int:
    """How often a window of the source was made."""
    query = select(func.count()).select_from(tables.task).where(tables.task.c.node == "readings")
    with Store(small.store_path) as store, store.metadata.connect() as connection:
        return connection.execute(query).scalar_one()


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    small = SmallProject(tmp_path_factory.mktemp("once") / "project").write(MODULE)
    assert small.run(NOW).state == "done"
    return small


@pytest.fixture
def ran(once: SmallProject, tmp_path: Path) -> SmallProject:
    """Three windows with two good rows and three in quarantine each."""
    return SmallProject(shutil.copytree(once.root, tmp_path / "project"))


def test_what_is_in_quarantine_is_counted_and_shown(ran: SmallProject) -> None:
    with reviewing(ran) as quarantine:
        held = quarantine.overview()
        assert [(one.table, one.window, one.rows) for one in held] == [
            ("readings", f"2024-01-0{day}", 3) for day in (1, 2, 3)
        ]
        assert held[0].rules == {"heat: min": 2, "primary_key": 2}
        rows = quarantine.rows("readings", Choice(window="2024-01-02"))
        assert rows.columns == ["quarantine_id", "broken_rule", "key", "heat", "window_start"]
        assert rows["key"].to_list() == ["c", "d", "d"]
        assert rows["quarantine_id"].str.starts_with("2024-01-02/").all()
        assert quarantine.rows("readings", Choice(rule="primary_key")).height == 6
        assert quarantine.rows("readings", ALL, limit=4).height == 4
        before = quarantine.rows("readings", ALL)
    ran.run(NOW, nodes=["readings"], rerun=True)
    with reviewing(ran) as quarantine:
        assert quarantine.rows("readings", ALL).equals(before)


def test_released_rows_are_in_the_table_and_what_reads_it_is_made_again(ran: SmallProject) -> None:
    before = made(ran)
    with reviewing(ran) as quarantine:
        report = quarantine.release("readings", Choice(window="2024-01-02", rule="heat: min"), **WHO)
    assert (report.rows, report.windows, report.later, report.readers) == (2, 1, 0, ["total"])
    after = made(ran)
    assert after[2][:2] == (4, 1)
    assert after[2][2] != before[2][2] and after[2][3] > before[2][3]
    assert (after[1], after[3]) == (before[1], before[3])
    assert ran.reasons(NOW) == {"total": {"inputs changed": 1}}
    assert ran.run(NOW).done == 1
    assert sorted(ran.table("total")["heat"]) == [-1.0, 3.0, 3.0]
    assert extracted(ran) == 3
    with reviewing(ran) as quarantine:
        assert [one.rows for one in quarantine.overview()] == [3, 1, 3]
        told = quarantine.history("readings")
    assert {(one.action, one.by, one.reason, one.settled) for _, one in told} == {
        (Action.RELEASE, "ada", "looked at", True)
    }


def test_dropped_rows_leave_what_reads_the_table_alone(ran: SmallProject) -> None:
    before = made(ran)
    with reviewing(ran) as quarantine:
        report = quarantine.drop("readings", ALL, **WHO)
        assert (report.rows, report.windows, report.readers) == (9, 3, [])
        assert quarantine.overview() == []
    assert {day: row[2:] for day, row in made(ran).items()} == {day: row[2:] for day, row in before.items()}
    assert {row[1] for row in made(ran).values()} == {0}
    assert len(ran.plan(NOW)) == 0


def test_edited_rows_go_through_the_contract_again(ran: SmallProject) -> None:
    with reviewing(ran) as quarantine:
        rows = plain_rows(quarantine.rows("readings", Choice(window="2024-01-01")))
        cold, both, twice = rows
        edited = [cold | {"heat": "7.5"}, both | {"key": "a", "heat": 3}, twice | {"key": "e"}]
        report = quarantine.replay("readings", edited, **WHO)
        assert (report.rows, report.readers) == (2, ["total"])
        assert report.refused == {both["quarantine_id"]: "primary_key"}
        left = quarantine.rows("readings", Choice(window="2024-01-01"))
        assert left["quarantine_id"].to_list() == [both["quarantine_id"]]
        assert left["broken_rule"].to_list() == ["primary_key, heat: min"]
        again = quarantine.replay("readings", [edited[0], both | {"key": "f", "heat": 3}], **WHO)
        assert (again.before, again.rows) == (1, 1)
    first = ran.table("readings").filter(pl.col("window_start").dt.day() == 1)
    assert first.select("key", "heat").rows() == [("a", 1), ("b", 2), ("c", 7.5), ("e", 4), ("f", 3)]
    assert extracted(ran) == 3


def test_making_windows_again_keeps_what_was_decided(ran: SmallProject) -> None:
    with reviewing(ran) as quarantine:
        quarantine.release("readings", Choice(window="2024-01-01", rule="heat: min"), **WHO)
        edited = plain_rows(quarantine.rows("readings", Choice(window="2024-01-02")))
        edited[0]["heat"], edited[1]["key"], edited[1]["heat"] = 5.5, "e", 0
        assert quarantine.replay("readings", edited, **WHO).rows == 3
        quarantine.drop("readings", Choice(window="2024-01-01"), **WHO)
    ran.run(NOW)
    names = ["readings", "total", "readings_quarantine"]
    before, records = ran.tables(names), made(ran)
    assert ran.run(NOW, nodes=["readings"], rerun=True).done == 3
    assert extracted(ran) == 6
    after = ran.tables(names)
    for name in names:
        assert after[name].equals(before[name]), name
    assert {day: row[:3] for day, row in made(ran).items()} == {day: row[:3] for day, row in records.items()}
    assert len(ran.plan(NOW)) == 0


def test_what_was_decided_about_a_row_ends_when_it_comes_otherwise(ran: SmallProject) -> None:
    with reviewing(ran) as quarantine:
        quarantine.drop("readings", Choice(window="2024-01-01"), **WHO)
    ran.edit("-day, -2.0", "-day - 10, -2.0")
    ran.run(NOW)
    with reviewing(ran) as quarantine:
        assert quarantine.rows("readings", Choice(window="2024-01-01"))["heat"].to_list() == [-11.0]


def test_a_window_that_fails_is_made_once_its_rows_are_decided(project: Make) -> None:
    small = project(MODULE.replace("contract=Reading)", "contract=Reading, max_broken=0.5)"))
    assert small.run(NOW).failed == 3
    with reviewing(small) as quarantine:
        report = quarantine.release("readings", Choice(window="2024-01-01", rule="heat: min"), **WHO)
        assert (report.rows, report.later) == (0, 2)
        shown = quarantine.rows("readings", Choice(window="2024-01-01"))
        assert shown["decision"].to_list() == ["release", "release", None]
        dropped = quarantine.drop("readings", Choice(window="2024-01-02"), **WHO)
        assert dropped.later == 3
    assert small.run(NOW).failed == 1
    assert made(small) == {1: (4, 1, *made(small)[1][2:]), 2: (2, 0, *made(small)[2][2:])}
    with reviewing(small) as quarantine:
        assert all(one.settled for _, one in quarantine.history())


def test_decisions_that_wait_apply_as_well_when_nothing_is_to_be_made_again_after_all(
    ran: SmallProject,
) -> None:
    ran.edit("heat = dy.Float64(min=0)", "heat = dy.Float64(min=-1)")
    with reviewing(ran) as quarantine:
        assert quarantine.drop("readings", Choice(window="2024-01-03"), **WHO).later == 3
    ran.edit("heat = dy.Float64(min=-1)", "heat = dy.Float64(min=0)")
    assert ran.run(NOW).state == "nothing"
    with reviewing(ran) as quarantine:
        assert [one.window for one in quarantine.overview()] == ["2024-01-01", "2024-01-02"]
    assert made(ran)[3][:2] == (2, 0)
    assert extracted(ran) == 3


def test_a_decision_can_be_taken_back(ran: SmallProject) -> None:
    with reviewing(ran) as quarantine:
        ids = quarantine.rows("readings", Choice(window="2024-01-01"))["quarantine_id"].to_list()
        quarantine.drop("readings", Choice(ids=ids), **WHO)
        assert quarantine.undo("readings", ids[:1], by="bob", reason="too fast").later == 1
        assert quarantine.history(limit=1)[0][1].action is Action.UNDO
        with pytest.raises(NotFoundError, match="nothing is decided about"):
            quarantine.undo("readings", ids[:1], **WHO)
    assert ran.run(NOW).state == "nothing"
    ran.run(NOW, nodes=["readings"], rerun=True)
    with reviewing(ran) as quarantine:
        assert quarantine.rows("readings", Choice(window="2024-01-01"))["quarantine_id"].to_list() == ids[:1]


def record(store: Store, ids: list[str], action: Action) -> None:
    """Decisions as they are recorded just before the tables are written."""
    decisions = []
    for identity in ids:
        window, number = parts_of(identity) or ("", 0)
        start = (19723 + int(window[-2:]) - 1) * 86400
        decisions.append(Decision("readings", start, number, action, at=time.time(), by="ada", reason="so"))
    Decisions(store.metadata).record(decisions)


def test_a_process_that_ended_before_it_wrote_the_tables(ran: SmallProject) -> None:
    with reviewing(ran) as quarantine, Store(ran.store_path) as store:
        ids = quarantine.rows("readings", Choice(window="2024-01-02"))["quarantine_id"].to_list()
        record(store, ids, Action.RELEASE)
    assert ran.run(NOW).done == 1
    assert made(ran)[2][:2] == (5, 0)
    assert sorted(ran.table("total")["rows"]) == [2, 2, 5]
    assert extracted(ran) == 3


def test_a_process_that_ended_before_it_recorded_what_is_in_the_tables(ran: SmallProject) -> None:
    project = load_project(ran.root)
    with reviewing(ran) as quarantine, Store(ran.store_path) as store:
        rows = quarantine.rows("readings", Choice(window="2024-01-02"))
        record(store, rows["quarantine_id"].to_list(), Action.RELEASE)
        window = project.calendar.from_epoch(project.graph.period_of("readings"), 1704153600)
        good = store.lake.read("readings", window.start, window.end)
        store.lake.replace(
            {
                "readings": pl.concat([good, rows.select(good.columns)]),
                "readings_quarantine": rows.clear(),
            },
            window,
            node="readings",
            fingerprint="x",
        )
    assert ran.run(NOW).done == 1
    assert made(ran)[2][:2] == (5, 0)
    assert sorted(ran.table("total")["rows"]) == [2, 2, 5]


def test_kill_at_random_moments_then_again_equals_an_undisturbed_release(project: Make) -> None:
    days, names = "2024-01-10", ["readings", "total", "readings_quarantine"]
    undisturbed, disturbed = (project(MODULE, name=name) for name in ("undisturbed", "disturbed"))
    for small in (undisturbed, disturbed):
        assert small.run(days).state == "done"
    with reviewing(undisturbed, days) as quarantine:
        quarantine.release("readings", Choice(rule="heat: min"), **WHO)
    undisturbed.run(days)

    chance = random.Random(7)
    for _ in range(4):
        process = releasing(disturbed, days)
        assert process.stdout is not None and process.stdout.readline() != ""
        time.sleep(chance.random() * 0.4)
        process.kill()
        process.wait()
    disturbed.run(days)
    with reviewing(disturbed, days) as quarantine:
        if any("heat: min" in one.rules for one in quarantine.overview()):
            quarantine.release("readings", Choice(rule="heat: min"), **WHO)
    disturbed.run(days)
    for name in names:
        assert disturbed.table(name).equals(undisturbed.table(name)), name
    assert {day: row[:2] for day, row in made(disturbed).items()} == {
        day: row[:2] for day, row in made(undisturbed).items()
    }
    assert len(disturbed.plan(days)) == 0


def releasing(small: SmallProject, now: str) -> subprocess.Popen[str]:
    """A process that releases all cold rows."""
    script = (
        "import sys; from pathlib import Path\n"
        "from envol.pipeline.quarantine.held import Choice\n"
        "from envol.pipeline.quarantine.review import Quarantine\n"
        "from envol.project import load_project; from envol.project.clock import FixedClock\n"
        "from envol.storage import Store; from datetime import datetime\n"
        "project = load_project(Path(sys.argv[1]))\n"
        "now = datetime.fromisoformat(sys.argv[2] + 'T00:00+00:00')\n"
        "quarantine = Quarantine(project, Store.of(project), FixedClock(now))\n"
        "print(len(quarantine.overview()), flush=True)\n"
        "quarantine.release('readings', Choice(rule='heat: min'), by='ada', reason='looked at')\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, str(small.root), now],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_nothing_is_decided_while_a_run_is_active(ran: SmallProject) -> None:
    with Store(ran.store_path) as store, run_lease(store.metadata).held():
        with reviewing(ran) as quarantine:
            for verb in (quarantine.drop, quarantine.release):
                with pytest.raises(BusyError, match="another run is active"):
                    verb("readings", ALL, **WHO)
            assert quarantine.history() == []
    assert {row[1] for row in made(ran).values()} == {3}


def test_an_active_conductor_is_woken(ran: SmallProject) -> None:
    with Store(ran.store_path) as store, reviewing(ran) as quarantine:
        control = Control(store.metadata, FixedClock(ran.now))
        assert not quarantine.release("readings", Choice(window="2024-01-01"), **WHO).woken
        assert control.wishes().wake is None
        with Lease(store.metadata, CONDUCTOR, "another conductor is active").held():
            assert quarantine.release("readings", Choice(window="2024-01-02"), **WHO).woken
            assert not quarantine.drop("readings", Choice(window="2024-01-03"), **WHO).woken
        asked = control.wishes().wake
        assert asked is not None and asked.by == "ada"


Edit = Callable[[list[dict[str, Any]]], Any]


def without(rows: list[dict[str, Any]], name: str) -> None:
    for row in rows:
        del row[name]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda rows: without(rows, "heat"), "row 1 of the file lacks the column 'heat'"),
        (lambda rows: without(rows, "quarantine_id"), "lacks the column 'quarantine_id'"),
        (lambda rows: rows[1].update(quarantine_id=None), "row 2 of the file has no quarantine_id"),
        (lambda rows: rows.append(dict(rows[0])), "is there twice, as rows 1 and 4 of the file"),
        (lambda rows: rows[2].update(heat="warm"), "row 3 of the file: heat: 'warm' is no Float64"),
        (lambda rows: rows[0].update(heet=1.0), "readings has no column 'heet'"),
        (lambda rows: rows[0].update(quarantine_id="x"), "'x' is no id of a quarantined row"),
        (lambda rows: rows[0].update(quarantine_id="2024-01-01/" + "0" * 16), "is not in quarantine"),
        (lambda rows: rows[0].update(quarantine_id="2023-99-01/" + "0" * 16), "is not a window of 1d"),
        (lambda rows: rows.clear(), "the file has no rows"),
    ],
)
def test_a_bad_file_changes_nothing(ran: SmallProject, edit: Edit, told: str) -> None:
    before = made(ran)
    with reviewing(ran) as quarantine:
        rows = plain_rows(quarantine.rows("readings", Choice(window="2024-01-01")))
        rows[0]["heat"] = 1.0
        edit(rows)
        with pytest.raises(UserError) as caught:
            quarantine.replay("readings", rows, **WHO)
        assert told in caught.value.message
        assert caught.value.remedy
        assert quarantine.history() == []
    assert made(ran) == before


@pytest.mark.parametrize(
    ("table", "choice", "told", "remedy"),
    [
        ("reading", ALL, "declares no table 'reading'", "'readings'"),
        ("total", ALL, "no row of total is in quarantine", "envol quarantine list"),
        ("readings", Choice(window="2024-01-09"), "window 2024-01-09, is in quarantine", "2024-01-0"),
        ("readings", Choice(window="monday"), "'monday' is not a window of 1d", "2013-01-05"),
        ("readings", Choice(rule="heat: mim"), "breaks 'heat: mim'", "'heat: min'"),
        ("readings", Choice(ids=["2024-01-01/" + "0" * 16]), "is not in quarantine", "envol quarantine list"),
    ],
)
def test_what_there_is_not(ran: SmallProject, table: str, choice: Choice, told: str, remedy: str) -> None:
    with reviewing(ran) as quarantine:
        verbs = [quarantine.drop, quarantine.release]
        calls: list[Callable[[], Any]] = [lambda verb=verb: verb(table, choice, **WHO) for verb in verbs]
        for call in [*calls, *([] if choice.ids else [lambda: quarantine.rows(table, choice)])]:
            with pytest.raises(EnvolError) as caught:
                call()
            assert told in caught.value.message
            assert remedy in str(caught.value.remedy)
        assert quarantine.history() == []


def test_a_row_is_decided_once(ran: SmallProject) -> None:
    with reviewing(ran) as quarantine:
        rows = quarantine.rows("readings", Choice(window="2024-01-01"))
        identity = rows["quarantine_id"][0]
        quarantine.drop("readings", Choice(ids=[identity]), **WHO)
        with pytest.raises(NotFoundError, match=r"it was dropped by ada \(looked at\)") as caught:
            quarantine.replay("readings", plain_rows(rows), **WHO)
        assert f"envol quarantine undo readings --id {identity}" in str(caught.value.remedy)


def test_rows_of_a_window_that_the_project_has_no_more_can_only_be_dropped(ran: SmallProject) -> None:
    path = ran.root / "envol.toml"
    path.write_text(path.read_text().replace('start = "2024-01-01"', 'start = "2024-01-02"'))
    with reviewing(ran) as quarantine:
        choice = Choice(window="2024-01-01")
        with pytest.raises(UserError, match="no such window any more") as caught:
            quarantine.release("readings", choice, **WHO)
        assert "envol quarantine drop readings --window 2024-01-01" in str(caught.value.remedy)
        assert quarantine.drop("readings", choice, **WHO).rows == 3
        assert [one.window for one in quarantine.overview()] == ["2024-01-02", "2024-01-03"]


MODEL = """
    @source(every="1d")
    def pumps(window: Window) -> pl.DataFrame:
        day = window.start.day
        kinds = ["new"] * 2 if day > 6 else ["old"] * 2
        frame = pl.DataFrame({"id": range(day * 100, day * 100 + 60), "kind": ["old"] * 58 + kinds})
        return frame.with_columns(x=(pl.col("id") * 37 % 101).cast(pl.Float64))

    @source(every="1d")
    def truth(window: Window) -> pl.DataFrame:
        return pumps(window).select("id", y=pl.col("x") > 50)

    @model(
        features="pumps", labels="truth", key="id", target="y", train="5d", every="30d", folds=1, test="1d"
    )
    def guess(X: pl.DataFrame, y: pl.Series):
        from sklearn.compose import make_column_transformer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder

        encoded = make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough")
        return make_pipeline(encoded, LogisticRegression()).fit(X, y)
"""


def test_rows_that_a_model_cannot_read_can_be_edited_and_dropped_but_not_released(project: Make) -> None:
    small, now = project(MODEL), "2024-01-09"
    assert small.run(now).failures == []
    with reviewing(small, now) as quarantine:
        with pytest.raises(UserError, match="that a model cannot read cannot be released"):
            quarantine.release("guess_predictions", ALL, **WHO)
        one, other = plain_rows(quarantine.rows("guess_predictions", Choice(window="2024-01-07")))
        report = quarantine.replay("guess_predictions", [one | {"kind": "old"}, other], **WHO)
        assert (report.rows, list(report.refused)) == (1, [other["quarantine_id"]])
        assert "kind: " in report.refused[other["quarantine_id"]]
        quarantine.drop("guess_predictions", Choice(window="2024-01-08"), **WHO)
    small.run(now)
    before = small.tables(["guess_predictions", "guess_predictions_quarantine", "guess_outcomes"])
    counts = before["guess_predictions"].group_by("window_start").len().sort("window_start")
    assert counts["len"].to_list() == [60, 59, 58]
    assert before["guess_predictions_quarantine"].height == 1
    assert one["id"] in before["guess_outcomes"]["id"]
    small.run(now, nodes=["guess_predictions"], rerun=True)
    for name, frame in before.items():
        assert small.table(name).equals(frame), name


def test_a_table_without_quarantine_is_told_from_one_that_is_not_there(project: Make) -> None:
    small = project(MODEL)
    with reviewing(small) as quarantine:
        assert quarantine.overview() == []
        for name, told in [
            ("guess", "never in quarantine"),
            ("pumpz", "declares no table"),
            ("pumps", "no row"),
        ]:
            with pytest.raises(NotFoundError, match=told):
                quarantine.rows(name, ALL)
        assert quarantine.history() == []
    assert not small.store_path.exists()
