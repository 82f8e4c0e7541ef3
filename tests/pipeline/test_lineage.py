"""Lineage on real stores: from a prediction back to the raw rows, as they were when they were read."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_project import SmallProject
from sqlalchemy import insert

import envol
from envol.errors import NotFoundError, UserError
from envol.pipeline import Plan, Records, make_plan
from envol.pipeline.accepting import accept
from envol.pipeline.lineage import Lineage, lineage, row_lineage
from envol.pipeline.source_control import Revision
from envol.project import Project, load_project
from envol.project.clock import FixedClock
from envol.storage import Store, tables

Make = Callable[..., SmallProject]
CHAIN = """
    from pathlib import Path

    FILES = Path(__file__).parent / "files"

    @source(every="1d")
    def readings(window: Window) -> pl.DataFrame:
        given = FILES / f"{window.key}.csv"
        if given.exists():
            return pl.read_csv(given)
        return pl.DataFrame({"unit": [1, 2, 3], "heat": [window.start.day * 10.0 + row for row in range(3)]})

    @table(lookback={"readings": "2d"})
    def levels(readings: pl.DataFrame, window: Window) -> pl.DataFrame:
        now = readings.filter(pl.col("window_start") == window.start)
        return now.select("unit", "heat", before=pl.lit(readings.height))
"""
MODEL = """
    @source(every="1d", delay="1d")
    def faults(window: Window) -> pl.DataFrame:
        return readings(window).select("unit", "heat", day=window.start.day).rename({"heat": "worth"})

    @model(features="levels", labels="faults", key="unit", target="worth", train="4d", every="4d", folds=1,
           test="1d", task="regression")
    def risk(X: pl.DataFrame, y: pl.Series):
        from sklearn.linear_model import LinearRegression

        return LinearRegression().fit(X, y)
"""
KEYED = (
    CHAIN.replace('"unit": [1, 2, 3]', '"unit": [window.start.day * 10 + row for row in range(3)]') + MODEL
)


def told(small: SmallProject, table: str, window: str | None = None, **options: Any) -> Lineage:
    project = load_project(small.root)
    with Store.of(project) as store:
        return lineage(project, store, table, window, **options)


def rows(small: SmallProject, table: str, key: dict[str, Any], window: str | None = None) -> Any:
    project = load_project(small.root)
    with Store.of(project) as store:
        return row_lineage(project, store, table, key, window)


def expire(small: SmallProject) -> None:
    """Forget all snapshots but the newest."""
    project = load_project(small.root)
    with Store.of(project) as store:
        now = store.lake.snapshots()["at"].max()
        assert store.lake.expire(timedelta(0), now + timedelta(days=1)) > 0


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def modelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallProject]:
    """A model fitted twice and its predictions, made of committed code; not to be changed."""
    small = SmallProject(tmp_path_factory.mktemp("lineage") / "project").write(KEYED)
    (small.root / ".gitignore").write_text(".envol\n__pycache__\n")
    git(small.root, "init", "-q")
    git(small.root, "add", ".")
    git(small.root, "commit", "-q", "-m", "first")
    assert small.run("2024-01-11").state == "done"
    yield small


def test_a_prediction_leads_to_the_sources_the_package_and_the_commit(modelled: SmallProject) -> None:
    found = told(modelled, "risk_predictions", "2024-01-10")
    commit = git(modelled.root, "rev-parse", "HEAD")
    [made] = found.materializations
    assert (found.kind, found.rows, found.windows, made.commit) == ("predictions", 3, 1, (commit, False))
    assert made.by.kind == "run" and made.by.host and found.changed is False
    [levels] = found.inputs
    assert (levels.node, levels.kind, levels.read, levels.first) == (
        "levels",
        "table",
        "window",
        "2024-01-10",
    )
    assert levels.as_of == made.snapshot and levels.made_again == 0
    [readings] = levels.inputs
    assert (readings.kind, readings.read) == ("source", "window and 2d before")
    assert (readings.first, readings.last, readings.windows) == ("2024-01-08", "2024-01-10", 3)
    assert readings.inputs == () and readings.commits == ((commit, False),)
    [model] = found.models
    with envol.connect(modelled.root) as connection:
        package = connection.model("risk", model.version)
    assert (model.digest, model.rows, model.aliases) == (package.digest, 3, ("champion",))
    assert model.cutoff.isoformat() == "2024-01-09T00:00:00+00:00" and model.commit == (commit, False)
    assert model.metrics["main"] in model.metrics["model"]
    features, labels = model.inputs
    assert (features.first, features.last, features.windows) == ("2024-01-04", "2024-01-08", 5)
    assert (labels.node, labels.rows, labels.materializations) == ("faults", 15, ())
    assert features.inputs[0].first == "2024-01-02"  # two days before the first


def test_every_window_of_a_range_is_listed_where_asked_for(modelled: SmallProject) -> None:
    found = told(modelled, "risk", every_window=True)
    [model] = found.models
    assert (found.kind, model.version) == ("model", 2)
    features, _ = model.inputs
    assert [one.window for one in features.materializations] == [f"2024-01-0{day}" for day in range(4, 9)]
    assert all(one.code is not None and one.snapshot for one in features.materializations)


def test_levels_are_followed_as_deep_as_asked_for(modelled: SmallProject) -> None:
    nothing = told(modelled, "risk_outcomes", "2024-01-09", depth=0)
    assert (nothing.inputs, nothing.cut) == ((), True)
    one = told(modelled, "risk_outcomes", "2024-01-09", depth=1)
    assert {read.node: read.cut for read in one.inputs} == {"risk_predictions": True, "faults": False}
    assert one.inputs[0].models[0].digest and one.inputs[0].models[0].inputs == ()


def test_windows_are_found_by_key_instant_and_the_newest(modelled: SmallProject) -> None:
    assert told(modelled, "levels").first == "2024-01-10"
    assert told(modelled, "levels", "2024-01-05T13:30").first == "2024-01-05"
    with pytest.raises(NotFoundError, match="2024-02-01") as error:
        told(modelled, "levels", "2024-02-01")
    assert "from 2024-01-01 to 2024-01-10" in str(error.value)
    with pytest.raises(NotFoundError, match="did you mean 'levels'"):
        told(modelled, "levles")


def test_a_row_leads_to_the_rows_of_its_key(modelled: SmallProject) -> None:
    found = rows(modelled, "risk_predictions", {"unit": "101"}, "2024-01-10")
    assert (found.found, found.rows[0]["model_version"], found.models[0].version) == (1, 2, 2)
    [levels] = found.inputs
    assert (levels.rows[0]["heat"], levels.rows[0]["before"]) == (101.0, 9)
    assert levels.as_of == found.windows[0].snapshot
    [raw] = levels.inputs
    assert [(row["unit"], row["heat"]) for row in raw.rows] == [(101, 101.0)]
    assert [one.window for one in raw.windows] == ["2024-01-10"] and raw.inputs == ()


def test_what_no_row_can_be_asked(modelled: SmallProject) -> None:
    with pytest.raises(NotFoundError, match="no column 'unti'"):
        rows(modelled, "levels", {"unti": "1"})
    with pytest.raises(NotFoundError, match="no row with unit=9999 in the window 2024-01-10"):
        rows(modelled, "levels", {"unit": 9999})
    with pytest.raises(UserError, match="'soon' is no value of the column unit"):
        rows(modelled, "levels", {"unit": "soon"})
    with pytest.raises(UserError, match="has no rows"):
        rows(modelled, "risk", {"unit": 1})
    day = rows(modelled, "faults", {"day": "8"}, "2024-01-08")
    assert day.found == 3 and day.inputs == ()


@pytest.mark.usefixtures("storage")
def test_a_window_made_again_since_is_marked(project: Make) -> None:
    small = project(CHAIN)
    first = small.run("2024-01-04").run
    (small.root / "files").mkdir()
    before = told(small, "levels", "2024-01-03")
    small.run("2024-01-04", nodes=["readings"], rerun=True)
    same = told(small, "levels", "2024-01-03")
    assert (same.changed, same.inputs[0].made_again) == (False, 3)
    (small.root / "files" / "2024-01-03.csv").write_text("unit,heat\n1,99.0\n")
    small.run("2024-01-04", nodes=["readings"], rerun=True)
    changed = told(small, "levels", "2024-01-03")
    assert (changed.changed, changed.inputs[0].made_again, changed.inputs[0].rows) == (True, 3, 7)
    assert changed.materializations == before.materializations
    small.edit('lookback={"readings": "2d"}', "")  # what was read is not what would be read now
    assert told(small, "levels", "2024-01-03").inputs[0].read == "window and 2d before"
    small.run("2024-01-04", nodes=["levels"])
    now = told(small, "levels", "2024-01-03").inputs[0]
    assert (now.read, now.made_again, now.rows) == ("window", 0, 1)
    small.run("2024-01-04", nodes=["readings"], rerun=True)
    alone = told(small, "levels", "2024-01-03").inputs[0]
    assert alone.earlier is not None and alone.materializations[0].snapshot > alone.earlier.snapshot
    assert alone.earlier.by is not None and alone.earlier.by.run not in (first, None)
    assert alone.earlier.by.run != alone.materializations[0].by.run


@pytest.mark.usefixtures("storage")
def test_rows_are_those_that_were_read(project: Make) -> None:
    small = project(CHAIN)
    small.run("2024-01-04")
    (small.root / "files").mkdir()
    (small.root / "files" / "2024-01-03.csv").write_text("unit,heat\n1,99.0\n")
    small.run("2024-01-04", nodes=["readings"], rerun=True)
    found = rows(small, "levels", {"unit": 1}, "2024-01-03")
    [raw] = found.inputs
    assert [row["heat"] for row in raw.rows] == [10.0, 20.0, 30.0], "as of the snapshot, not 99.0"
    expire(small)
    kept = told(small, "levels", "2024-01-03")
    assert kept.materializations[0].expired and kept.inputs[0].expired and kept.inputs[0].windows == 3
    [gone] = rows(small, "levels", {"unit": 1}, "2024-01-03").inputs
    assert gone.found == 0 and "has expired, and its windows were made again since" in gone.note


def test_an_expired_snapshot_hides_nothing_while_nothing_was_made_again(project: Make) -> None:
    small = project(CHAIN)
    small.run("2024-01-04")
    small.run("2024-01-05")
    expire(small)
    [raw] = rows(small, "levels", {"unit": 2}, "2024-01-02").inputs
    assert [row["heat"] for row in raw.rows] == [11.0, 21.0]
    assert "has expired; nothing of it was made again since" in raw.note


@pytest.mark.usefixtures("storage")
def test_lineage_needs_no_code_and_tells_commits_apart(project: Make) -> None:
    small = project(CHAIN)
    git(small.root, "init", "-q")
    (small.root / ".gitignore").write_text(".envol\n__pycache__\n")
    git(small.root, "add", ".")
    git(small.root, "commit", "-q", "-m", "first")
    small.run("2024-01-03")
    small.edit("before=pl.lit(readings.height)", "before=pl.lit(readings.height), more=pl.lit(1)")
    small.run("2024-01-04", nodes=["levels"], start=small.now.replace(day=3))
    (small.root / "pipeline.py").write_text("this is not Python")
    first, third = told(small, "levels", "2024-01-01"), told(small, "levels", "2024-01-03")
    commit = git(small.root, "rev-parse", "HEAD")
    assert first.materializations[0].commit == (commit, False)
    assert third.materializations[0].commit == (commit, True)
    assert first.codes[0].code != third.codes[0].code
    assert third.inputs[0].commits == ((commit, False), (commit, True))


@pytest.mark.usefixtures("storage")
def test_what_was_accepted_is_told_with_who_and_why(project: Make) -> None:
    small = project(CHAIN)
    small.run("2024-01-03")
    made = told(small, "levels", "2024-01-02").materializations[0]
    assert made.accepted is None and made.fingerprint is not None
    small.edit("readings.height", "readings.height + 1")
    found = load_project(small.root)
    with small.store() as store:
        accept(found, store, FixedClock(small.now), by="ada", reason="as good", nodes=["levels"])
    small.run("2024-01-04")
    after = told(small, "levels", "2024-01-02")
    [kept] = after.materializations
    assert kept.accepted is not None and kept.accepted.code is not None and after.changed is None
    assert (kept.accepted.by, kept.accepted.reason, kept.accepted.at) == ("ada", "as good", small.now)
    now = told(small, "levels", "2024-01-03")
    assert (
        kept.code == made.code != now.codes[0] == kept.accepted.code
        and now.materializations[0].accepted is None
    )


SPANS = ("30h", "2w", "1mo")
PERIODS = ("1h", "1d", "1w", "1mo")
READER = """
    @table(every="{period}", lookback={{"ticks": "{span}"}})
    def back_{period}_{span}(ticks: pl.DataFrame) -> pl.DataFrame: ...

    @table(every="{period}", history={{"ticks": "{span}"}})
    def before_{period}_{span}(back_{period}_{span}: pl.DataFrame, ticks: pl.DataFrame) -> pl.DataFrame: ...
"""


def test_the_windows_read_are_those_that_the_plan_reads(project: Make) -> None:
    """Also where the clocks change, on the last Sunday of March."""
    readers = [READER.format(period=period, span=span) for period in PERIODS for span in SPANS]
    small = project(
        """
        @source(every="1h")
        def ticks(window: Window) -> pl.DataFrame: ...
        """
    )
    module = small.root / "pipeline.py"
    module.write_text(module.read_text() + textwrap.dedent("".join(readers)))
    toml = small.root / "envol.toml"
    toml.write_text(toml.read_text().replace("UTC", "Europe/Paris").replace("2024-01-01", "2024-02-01"))
    found = load_project(small.root)
    compared = 0
    with Store.of(found) as store:
        clock = FixedClock(datetime.fromisoformat("2024-05-02T00:00:00+00:00"))
        record_all(found, store, make_plan(found, store, clock))
        plan = make_plan(found, store, clock)
        for name, node in list(plan.nodes.items())[1:]:
            march = np.searchsorted(node.slots.starts, datetime(2024, 3, 30, tzinfo=UTC).timestamp())
            around = range(int(march) - 1, min(int(march) + 48, len(node.slots)), 9)
            for index in {1, len(node.slots) - 1, *around}:
                window = plan.schedule.local(int(node.slots.starts[index])).isoformat()
                read = {one.node: one for one in lineage(found, store, name, window, depth=1).inputs}
                for table, first, last in plan.input_slots(name, index):
                    slots = plan.nodes[table].slots
                    told = read[table]
                    assert told.windows == last - first, (name, index)
                    assert told.start.timestamp() == slots.starts[first]
                    assert told.end.timestamp() == slots.ends[last - 1]
                    compared += 1
    assert compared > 150


def record_all(project: Project, store: Store, plan: Plan) -> None:
    """Record every due window as made, without making it."""
    records = Records(store.metadata)
    nodes = {name: node.node for name, node in plan.nodes.items()}
    reads = {name: project.graph.reads(node) for name, node in nodes.items()}
    ids = records.define(project.definitions, reads, Revision(None, None), plan.now)
    made = [
        {"node": name, "window_start": start, "window_end": end, "definition": ids[name]}
        for name, node in plan.nodes.items()
        for start, end in zip(node.slots.starts.tolist(), node.slots.ends.tolist(), strict=True)
    ]
    same = {"rows": 1, "quarantined": 0, "inputs": 0, "version": 0, "snapshot": 1, "run": "-", "made_at": 0.0}
    with store.metadata.begin() as connection:
        connection.execute(insert(tables.materialization), [one | same for one in made])
