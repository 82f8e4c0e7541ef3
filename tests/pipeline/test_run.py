"""Runs on real stores: what they make, and what they do when something goes wrong."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from small_project import SmallProject
from sqlalchemy import select

from envol.errors import BusyError, DataError, Failure, ProjectError, StorageError
from envol.pipeline import Records, run_lease
from envol.storage import tables

Make = Callable[..., SmallProject]
PATIENCE = 120
BOTH = pytest.mark.usefixtures("storage")
"""What a run does to the tables and the records, it does on SQLite and on PostgreSQL."""
NUMBERS = """
    @source(every="1d")
    def numbers(window: Window) -> pl.DataFrame:
        day = window.start.day
        return pl.DataFrame({"day": [day, day], "n": [day * 10, day * 10 + 1]})
"""


def tasks(small: SmallProject) -> list[dict[str, object]]:
    with small.store() as store, store.metadata.connect() as connection:
        query = select(tables.task).order_by(tables.task.c.node, tables.task.c.window_start)
        return [dict(row) for row in connection.execute(query).mappings()]


def runs(small: SmallProject) -> list[str]:
    with small.store() as store, store.metadata.connect() as connection:
        return list(
            connection.execute(select(tables.run.c.state).order_by(tables.run.c.started_at)).scalars()
        )


@BOTH
def test_tables_hold_what_the_functions_returned(project: Make) -> None:
    small = project(
        NUMBERS
        + """
    @table(lookback={"numbers": "1d"})
    def sums(numbers: pl.DataFrame, window: Window) -> pl.DataFrame:
        return numbers.select(day=pl.lit(window.start.day), total=pl.col("n").sum(), rows=pl.len()).head(1)
    """
    )
    result = small.run("2024-01-04")
    assert (result.state, result.done, result.rows) == ("done", 6, 9)
    sums = small.table("sums")
    assert sums.drop("window_start").rows() == [(1, 21, 2), (2, 62, 4), (3, 102, 4)]
    assert str(sums["window_start"][0]) == "2024-01-01 00:00:00+00:00"
    assert runs(small) == ["done"]
    assert {task["state"] for task in tasks(small)} == {"done"}


@pytest.mark.parametrize(
    ("annotation", "body"),
    [
        ("pl.DataFrame", "assert isinstance(numbers, pl.DataFrame); return numbers.select('n')"),
        ("pl.LazyFrame", "assert isinstance(numbers, pl.LazyFrame); return numbers.select('n')"),
        ("pd.DataFrame", "assert isinstance(numbers, pd.DataFrame); return numbers[['n']]"),
        ("pa.Table", "assert isinstance(numbers, pa.Table); return numbers.select(['n'])"),
    ],
)
def test_the_annotation_chooses_what_the_function_gets(project: Make, annotation: str, body: str) -> None:
    small = project(
        "import pandas as pd\nimport pyarrow as pa\n"
        + NUMBERS.replace("\n    ", "\n")
        + f"\n@table()\ndef copy(numbers: {annotation}):\n    {body}\n"
    )
    assert small.run("2024-01-02").failures == []
    assert small.table("copy")["n"].to_list() == [10, 11]


@BOTH
def test_a_failing_window_stops_its_readers_and_nothing_else(project: Make) -> None:
    small = project(
        """
        @source(every="1d")
        def numbers(window: Window) -> pl.DataFrame:
            print("looking for", window)
            if window.start.day == 3:
                raise ConnectionError("no route to host")
            return pl.DataFrame({"n": [window.start.day]})

        @table()
        def copy(numbers: pl.DataFrame) -> pl.DataFrame:
            return numbers.select("n")

        @source(every="1d")
        def others(window: Window) -> pl.DataFrame:
            return pl.DataFrame({"n": [0]})
        """
    )
    result = small.run("2024-01-06")
    assert (result.state, result.failed, result.skipped, result.done) == ("failed", 1, 1, 13)
    [failure] = result.failures
    assert isinstance(failure, Failure)
    assert (failure.node, failure.window) == ("numbers", "2024-01-03")
    assert "ConnectionError: no route to host" in failure.message
    [failed] = [task for task in tasks(small) if task["state"] == "failed"]
    assert "looking for 2024-01-03" in str(failed["log"])
    assert "Traceback" in str(failed["log"])
    small.edit("window.start.day == 3", "window.start.day == 33")
    assert small.run("2024-01-06").state == "done"
    assert small.table("copy")["n"].to_list() == [1, 2, 3, 4, 5]


def test_retries_wait_and_try_again(project: Make, tmp_path: Path) -> None:
    small = project(
        f"""
        from pathlib import Path
        TRIES = Path({str(tmp_path / "tries")!r})

        @source(every="1d", retries=2, backoff=0.01)
        def shaky(window: Window) -> pl.DataFrame:
            tries = len(TRIES.read_text()) if TRIES.exists() else 0
            TRIES.write_text("x" * (tries + 1))
            if tries < 2:
                raise TimeoutError("try again")
            return pl.DataFrame({{"n": [1]}})
        """
    )
    assert small.run("2024-01-02").state == "done"
    assert [(task["state"], task["attempts"]) for task in tasks(small)] == [("done", 3)]


def test_a_task_over_its_time_is_ended_with_its_children(project: Make, tmp_path: Path) -> None:
    small = project(
        f"""
        import os, subprocess, time

        @source(every="1d", timeout=3)
        def slow(window: Window) -> pl.DataFrame:
            if window.start.day == 1:
                child = subprocess.Popen(["sleep", "300"])
                open({str(tmp_path / "pids")!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
                time.sleep(300)
            print("quick", window)
            return pl.DataFrame({{"n": [window.start.day]}})
        """
    )
    result = small.run("2024-01-03")
    assert (result.failed, result.done) == (1, 1)
    assert "not done after 3 s" in result.failures[0].message
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]
    assert "quick 2024-01-02" in str(tasks(small)[1]["log"])


def test_a_process_that_dies_is_a_failed_task(project: Make) -> None:
    small = project(
        """
        import os, signal

        @source(every="1d", timeout=60)
        def fatal(window: Window) -> pl.DataFrame:
            os.kill(os.getpid(), signal.SIGSEGV)
        """
    )
    result = small.run("2024-01-02")
    assert result.failed == 1
    assert "SIGSEGV" in result.failures[0].message


def test_errors_keep_their_kind_across_processes(project: Make) -> None:
    small = project(
        """
        @source(every="1d", timeout=60)
        def nothing(window: Window):
            pass
        """
    )
    [failure] = small.run("2024-01-02").failures
    assert isinstance(failure, ProjectError)
    assert "returned None" in failure.message


@BOTH
def test_some_broken_rows_go_to_quarantine_with_the_reason(project: Make) -> None:
    small = project(
        """
        class Positive(dy.Schema):
            n = dy.Int64(min=0)

        @source(every="1d", contract=Positive)
        def numbers(window: Window) -> pl.DataFrame:
            return pl.DataFrame({"n": [1, -window.start.day, 3], "more": ["a", "b", "c"]})
        """
    )
    result = small.run("2024-01-03")
    assert (result.state, result.rows) == ("done", 4)
    assert sorted(small.table("numbers")["more"]) == ["a", "a", "c", "c"]
    quarantine = small.table("numbers_quarantine")
    assert sorted(quarantine["n"].to_list()) == [-2, -1]
    assert set(quarantine["broken_rule"]) == {"n: min"}
    with small.store() as store:
        assert Records(store.metadata).totals()["numbers"] == (2, 4, 2, 2)
    small.edit("-window.start.day", "window.start.day")
    small.run("2024-01-03")
    assert small.table("numbers_quarantine").is_empty()
    assert small.table("numbers").height == 6


@BOTH
@pytest.mark.parametrize("on_broken", ["quarantine", "fail"])
def test_a_window_without_good_rows_fails_and_keeps_what_was_stored(project: Make, on_broken: str) -> None:
    small = project(
        f"""
        class Positive(dy.Schema):
            n = dy.Int64(min=0)

        @source(every="1d", contract=Positive, on_broken="{on_broken}")
        def numbers(window: Window) -> pl.DataFrame:
            return pl.DataFrame({{"n": [1, 2]}})
        """
    )
    small.run("2024-01-02")
    small.edit("[1, 2]", "[-1, -2]" if on_broken == "quarantine" else "[1, -2]")
    [failure] = small.run("2024-01-02").failures
    assert isinstance(failure, DataError)
    assert "n: min" in failure.message
    assert "envol quarantine list numbers" in str(failure.remedy)
    assert small.table("numbers")["n"].to_list() == [1, 2]
    assert small.table("numbers_quarantine").height == (2 if on_broken == "quarantine" else 1)


@BOTH
def test_an_empty_window_is_allowed_or_an_error_as_the_node_says(project: Make) -> None:
    module = """
        @source(every="1d")
        def numbers(window: Window) -> pl.DataFrame:
            return pl.DataFrame({"n": [1]}).head(window.start.day % 2)
    """
    small = project(module)
    assert small.run("2024-01-03").state == "done"
    assert small.table("numbers").height == 1
    strict = project(module.replace('every="1d"', 'every="1d", empty="error"'), name="strict")
    [failure] = strict.run("2024-01-03").failures
    assert (failure.window, "no rows" in failure.message) == ("2024-01-02", True)


@BOTH
def test_a_changed_type_is_an_error_and_an_added_column_is_not(project: Make) -> None:
    small = project(NUMBERS)
    small.run("2024-01-03")
    small.edit('"n": [day * 10, day * 10 + 1]', '"n": [day, day], "extra": ["a", None]')
    assert small.run("2024-01-03").state == "done"
    small.edit('"n": [day, day]', '"n": ["x", "y"]')
    failures = small.run("2024-01-03").failures
    assert len(failures) == 2
    assert all("n" in failure.message and failure.remedy for failure in failures)
    assert small.table("numbers")["n"].dtype == pl.Int64


@BOTH
def test_two_runs_at_once_are_refused(project: Make) -> None:
    small = project(NUMBERS)
    with small.store() as store, run_lease(store.metadata).held():
        with pytest.raises(BusyError, match=f"process {os.getpid()}"):
            small.run()
    assert small.run().state == "done"


def test_a_store_that_cannot_be_written_says_so(project: Make) -> None:
    small = project(NUMBERS)
    small.store_path.write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=".envol"):
        small.run()


@BOTH
def test_ctrl_c_ends_cleanly_and_the_next_run_goes_on(project: Make) -> None:
    small = project(
        """
        import time

        @source(every="1d")
        def numbers(window: Window) -> pl.DataFrame:
            time.sleep(0.2)
            return pl.DataFrame({"n": [window.start.day]})
        """
    )
    process = small.start("2024-02-10")
    small.wait_for_tasks(1, process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    result = json.loads(out)
    assert result["state"] == "cancelled"
    assert 0 < result["done"] < 40
    assert runs(small) == ["cancelled"]
    rest = small.run("2024-02-10")
    assert (rest.state, rest.done) == ("done", 40 - result["done"])


@BOTH
def test_a_killed_run_is_marked_as_crashed(project: Make) -> None:
    small = project(
        """
        import time

        @source(every="1d")
        def numbers(window: Window) -> pl.DataFrame:
            time.sleep(0.2)
            return pl.DataFrame({"n": [window.start.day]})
        """
    )
    process = small.start()
    small.wait_for_tasks(1, process)
    process.kill()
    process.wait(PATIENCE)
    assert small.run().state == "done"
    assert runs(small) == ["crashed", "done"]
    assert small.table("numbers")["n"].to_list() == list(range(1, 11))


@BOTH
def test_rows_that_a_model_cannot_read_go_to_quarantine_all_of_them(project: Make) -> None:
    small = project(
        """
        @source(every="1d")
        def pumps(window: Window) -> pl.DataFrame:
            day = window.start.day
            kinds = ["new"] * 50 if day > 6 else ["old"] * 50
            frame = pl.DataFrame({"id": range(day * 100, day * 100 + 100), "kind": ["old"] * 50 + kinds})
            return frame.with_columns(x=(pl.col("id") * 37 % 101).cast(pl.Float64))

        @source(every="1d")
        def truth(window: Window) -> pl.DataFrame:
            return pumps(window).select("id", y=pl.col("x") > 50)

        @model(features="pumps", labels="truth", key="id", target="y", train="5d", every="30d",
               folds=1, test="1d")
        def guess(X: pl.DataFrame, y: pl.Series):
            from sklearn.compose import make_column_transformer
            from sklearn.linear_model import LogisticRegression
            from sklearn.pipeline import make_pipeline
            from sklearn.preprocessing import OneHotEncoder

            encoded = make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough")
            return make_pipeline(encoded, LogisticRegression()).fit(X, y)
        """
    )
    assert small.run("2024-01-09").failures == []
    counts = small.table("guess_predictions").group_by("window_start").len().sort("window_start")
    assert counts["len"].to_list() == [100, 50, 50]
    quarantine = small.table("guess_predictions_quarantine")
    assert quarantine.height == 100
    assert set(quarantine["kind"]) == {"new"}
    assert quarantine["broken_rule"].str.contains("kind: ").all()


@BOTH
def test_a_damaged_package_fails_its_windows_only(project: Make) -> None:
    small = project(
        """
        @source(every="1d")
        def numbers(window: Window) -> pl.DataFrame:
            day = window.start.day
            return pl.DataFrame({"id": range(day * 10, day * 10 + 10)}).with_columns(x=pl.col("id") % 7)

        @source(every="1d")
        def truth(window: Window) -> pl.DataFrame:
            return numbers(window).select("id", y=pl.col("x") > 3)

        @model(features="numbers", labels="truth", key="id", target="y", train="4d", every="30d", folds=0)
        def guess(X: pl.DataFrame, y: pl.Series):
            from sklearn.tree import DecisionTreeClassifier

            return DecisionTreeClassifier().fit(X, y)
        """
    )
    small.run("2024-01-06")
    with small.store() as store:
        from envol.project.clock import SystemClock
        from envol.registry import Registry

        registry = Registry(store, SystemClock())
        registry.promote("guess", 1, by="ada", reason="no folds to judge by")
        pickle = store.artifacts.get(registry.get("guess", 1).digest) / "model.pkl"
    pickle.chmod(0o644)
    pickle.write_bytes(pickle.read_bytes()[:-1] + b"!")
    result = small.run("2024-01-08")
    assert result.failed == 3
    assert all("guess version 1" in str(failure) for failure in result.failures)
    assert small.table("numbers")["window_start"].n_unique() == 7


def test_a_function_that_calls_exit_fails_its_task_only(project: Make) -> None:
    small = project(
        """
        import sys

        @source(every="1d")
        def numbers(window: Window) -> pl.DataFrame:
            if window.start.day == 2:
                sys.exit("enough")
            return pl.DataFrame({"n": [1]})
        """
    )
    result = small.run("2024-01-04")
    assert (result.done, result.failed) == (2, 1)
    assert "enough" in str(result.failures[0])
