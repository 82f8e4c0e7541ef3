"""Functions that yield their rows in batches."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_project import SmallProject

from envol.errors import DataError
from envol.pipeline.content import content_version
from envol.storage import Spool

BATCHES = """
    class Numbers(dy.Schema):
        n = dy.Int64(primary_key=True, min=0)

    @source(every="1d", contract=Numbers)
    def numbers(window: Window, rows: int = 3, batches: int = 4, first: int = 0):
        for batch in range(batches):
            yield pl.DataFrame({"n": range(first + batch * rows, first + (batch + 1) * rows)})

    @table()
    def total(numbers: pl.DataFrame) -> pl.DataFrame:
        return numbers.select(pl.col("n").sum(), rows=pl.len())
"""
Make = Callable[..., SmallProject]
BOTH = pytest.mark.usefixtures("storage")


@BOTH
def test_batches_become_one_window(project: Make) -> None:
    small = project(BATCHES)
    assert small.run("2024-01-03").state == "done"
    assert small.table("numbers")["n"].to_list() == sorted([*range(12)] * 2)
    assert small.table("total")["rows"].to_list() == [12, 12]


@BOTH
def test_a_window_is_the_same_however_it_came(project: Make) -> None:
    small = project(BATCHES)
    small.run("2024-01-02")
    small.edit("range(batches)", "range(1)")
    small.edit("* rows", "* rows * batches")
    assert small.run("2024-01-02").unchanged == 1
    assert small.table("numbers").height == 12


@BOTH
def test_rows_that_break_the_contract_in_any_batch_go_to_quarantine(project: Make) -> None:
    small = project(BATCHES, "[parameters.numbers]\nfirst = -2\n")
    result = small.run("2024-01-02")
    assert (result.state, small.table("numbers").height) == ("done", 10)
    assert small.table("numbers_quarantine")["n"].to_list() == [-2, -1]


def test_a_function_that_yields_nothing_is_told(project: Make) -> None:
    small = project(BATCHES, "[parameters.numbers]\nbatches = 0\n")
    [failure] = small.run("2024-01-02").failures
    assert "no batch" in failure.message
    assert "empty frame" in (failure.remedy or "")


@BOTH
def test_a_fault_after_some_batches_leaves_the_window_as_it_was(project: Make) -> None:
    small = project(BATCHES)
    small.run("2024-01-02")
    small.edit("range(batches):", "range(batches):\n        assert batch < 2, 'gone'")
    [failure] = small.run("2024-01-02").failures
    assert "gone" in failure.message
    assert small.table("numbers").height == 12


HUGE = """
    class Numbers(dy.Schema):
        n = dy.Int64(primary_key=True, min=0)

    @source(every="1d", contract=Numbers)
    def numbers(window: Window, repeated: bool = False):
        for batch in range(40):
            first = 0 if repeated else batch * 250_000
            yield pl.int_range(first, first + 250_000, eager=True).alias("n").to_frame().with_columns(
                a=pl.col("n") * 2, b=pl.lit("some text that takes room") + pl.col("n").cast(pl.String)
            )
"""


def peak_megabytes(small: SmallProject, batches: int) -> int:
    """Run the project with so many batches a window in a process of its own."""
    code = (
        "import resource, sys; from small_project import SmallProject; from pathlib import Path\n"
        "result = SmallProject(Path(sys.argv[1])).run('2024-01-02')\n"
        "assert result.state == 'done', result\n"
        "print(result.rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000)"
    )
    small.edit("range(40)", f"range({batches})")
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, str(small.root)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    small.edit(f"range({batches})", "range(40)")
    rows, megabytes = done.stdout.split()
    assert int(rows) == batches * 250_000
    return int(megabytes)


def test_a_window_larger_than_the_memory_it_gets(project: Make) -> None:
    """Seven million rows more take 0.4 GB as a frame, and little as batches; none is left in the spool."""
    small = project(HUGE)
    assert peak_megabytes(small, 40) - peak_megabytes(small, 12) < 200
    assert not list((small.store_path / "spool").iterdir())


def test_a_key_repeated_in_another_batch_fails_a_large_window(project: Make) -> None:
    small = project(HUGE, "[parameters.numbers]\nrepeated = true\n")
    [failure] = small.run("2024-01-02").failures
    assert "9,750,000 of 10,000,000 rows repeat the primary key n" in failure.message
    assert not list((small.store_path / "spool").iterdir())


FRAMES = st.lists(
    st.lists(
        st.tuples(st.integers(-9, 9) | st.none(), st.text(max_size=2) | st.none()), min_size=0, max_size=5
    ),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=40)
@given(batches=FRAMES, memory=st.sampled_from([0, 40, 1000]))
def test_a_spool_gives_back_what_it_took(tmp_path_factory: pytest.TempPathFactory, batches, memory) -> None:
    folder: Path = tmp_path_factory.mktemp("spool")
    frames = [pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.String}, orient="row") for rows in batches]
    with Spool(folder, memory=memory) as spool:
        for frame in frames:
            spool.append(frame)
        assert spool.frame().equals(pl.concat(frames))
        assert content_version(spool) == content_version(pl.concat(frames))
    assert not list(folder.iterdir())


def test_batches_may_lack_columns_but_not_change_them(tmp_path: Path) -> None:
    with Spool(tmp_path, memory=0) as spool:
        spool.append(pl.DataFrame({"a": [None], "b": [1]}))
        spool.append(pl.DataFrame({"a": ["x"], "c": [1.0]}))
        assert spool.frame().rows() == [(None, 1, None), ("x", None, 1.0)]
        with pytest.raises(DataError, match="'b' is String in batch 3 and Int64"):
            spool.append(pl.DataFrame({"b": ["x"]}))
