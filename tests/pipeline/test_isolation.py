"""Isolated tasks: what they do to their process is a failed task, and what they return comes back whole.

All processes are real; the tests share one `Isolation`, which has to stand everything that is done to it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from polars.testing import assert_frame_equal
from polars.testing.parametric import dataframes
from small_project import SmallProject
from sqlalchemy import select

from envol.errors import DataError, Failure, ProjectError, StorageError
from envol.pipeline.isolation import Isolation
from envol.project import load_project
from envol.storage import Store, tables
from envol.training import train

PATIENCE = 60
CONFIG = """
    [project]
    name = "isolated"
    start = "2024-01-01"
"""
MODULE = """
    import ctypes, os, subprocess, sys, time
    from pathlib import Path

    import polars as pl

    from envol import Window, model, source, table

    HERE = Path(__file__).parent
    kept = []

    def note(name, *values):
        part = HERE / f"{name}.part"
        part.write_text(" ".join(map(str, values)))
        part.rename(HERE / name)

    def leave_children():
        own_session = subprocess.Popen(["sleep", "600"], start_new_session=True)
        no_environment = subprocess.Popen(["sleep", "600"], env={})
        note("pids", os.getpid(), own_session.pid, no_environment.pid)

    @source(isolated=True)
    def process(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"pid": [os.getpid()], "day": [window.start.day]})

    @table(isolated=True)
    def copy(process: pl.DataFrame) -> pl.DataFrame:
        return process

    @source(isolated=True)
    def large(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"n": range(1_000_000)})

    @source(isolated=True)
    def segfault(window: Window) -> pl.DataFrame:
        print("printed", end="")
        ctypes.CDLL(None).printf(b" from C ")
        os.write(2, b"raw ")
        subprocess.run(["echo", "by a child"])
        leave_children()
        ctypes.string_at(0)

    @source(isolated=True)
    def ends(window: Window) -> pl.DataFrame:
        how = (HERE / "how").read_text()
        exec(how)

    @source(timeout=1.5)
    def hangs(window: Window) -> pl.DataFrame:
        print("here it begins")
        leave_children()
        exec((HERE / "how").read_text())

    @source(memory="200MB")
    def hog(window: Window) -> pl.DataFrame:
        taken = []
        while True:
            taken.append(bytes(range(256)) * 20_000)
            time.sleep(0.002)

    HOG = "taken = []\\nwhile True: taken.append(bytes(range(256)) * 20_000)"

    @source(memory="200MB")
    def hog_with_children(window: Window) -> pl.DataFrame:
        subprocess.run([sys.executable, "-c", HOG])

    @source(memory="200MB")
    def modest(window: Window) -> pl.DataFrame:
        taken = bytes(range(256)) * 200_000
        return pl.DataFrame({"pid": [os.getpid()]})

    @source(isolated=True)
    def leaks(window: Window) -> pl.DataFrame:
        kept.append(bytes(range(256)) * 2_000_000)
        return pl.DataFrame({"pid": [os.getpid()]})

    @source(isolated=True)
    def nothing(window: Window):
        print("looking for it")

    @source(isolated=True)
    def refuses(window: Window) -> pl.DataFrame:
        from envol.errors import DataError

        raise DataError("no rows today", remedy="come back tomorrow")

    @source(isolated=True)
    def surroundings(window: Window) -> pl.DataFrame:
        score = Path("/proc/self/oom_score_adj").read_text().strip()
        return pl.DataFrame({"score": [score], "session": [os.getsid(0)], "stdin": [sys.stdin.read()]})

    @source(isolated=True)
    def batches(window: Window):
        for number in range(6):
            note("made", number)
            yield pl.DataFrame({"number": [number] * 3})

    @source(isolated=True)
    def breaks_off(window: Window):
        yield pl.DataFrame({"number": [0]})
        raise ValueError("the second page is gone")

    class Mean:
        def __init__(self, y):
            self.mean = y.mean()

        def predict(self, X):
            return [self.mean] * len(X)

    @source(isolated=True)
    def truth(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"day": [1], "size": [1.0]})

    @model(
        features="process", labels="truth", key="day", target="size", train="4d", every="4d", folds=1,
        test="2d", isolated=True
    )
    def average(X: pl.DataFrame, y: pl.Series):
        print("fitting", len(X))
        return Mean(y)
"""


RUN = """
    import time
    from pathlib import Path

    @source(isolated=True)
    def numbers(window: Window) -> pl.DataFrame:
        print("at", window)
        (Path(__file__).parent / "begun").touch()
        time.sleep(0.5)
        return pl.DataFrame({"day": [window.start.day]})

    @source(isolated=True)
    def pages(window: Window):
        for page in range(3):
            yield pl.DataFrame({"page": [page]})

    @table(timeout=60, memory="1GB")
    def both(numbers: pl.DataFrame, pages: pl.DataFrame) -> pl.DataFrame:
        return pages.select("page", day=pl.lit(numbers["day"].item()))
"""


class Apart:
    """A project and the processes that its nodes are called in."""

    def __init__(self, root: Path, module: str = MODULE) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        (root / "envol.toml").write_text(dedent(CONFIG))
        (root / "pipeline.py").write_text(dedent(module))
        self.project = load_project(root)
        self.isolation = Isolation(self.project)

    def compute(self, name: str, day: int = 1, **frames: pl.DataFrame) -> Any:
        window = self.project.calendar.window_at(
            self.project.graph.period_of(name), datetime(2024, 1, day, tzinfo=UTC)
        )
        return self.isolation.compute(self.project.graph.nodes[name], frames, window)

    def pid(self) -> int:
        """Id of the process that the next task is given to."""
        return int(self.compute("process")["pid"][0])

    def failure(self, name: str) -> Failure:
        with pytest.raises(Failure) as caught:
            self.compute(name)
        return caught.value

    def how(self, code: str) -> None:
        """What `ends` and `hangs` do."""
        (self.root / "how").write_text(code)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    apart = Apart(tmp_path_factory.mktemp("isolated"))
    with apart.isolation:
        yield apart


def wait_until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)


def has_ended(pid: int) -> bool:
    """Whether the process is gone, or a zombie without a thread that still runs."""
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z" and int(others[16]) <= 1


def noted_pids(root: Path) -> list[int]:
    wait_until((root / "pids").exists)
    return [int(pid) for pid in (root / "pids").read_text().split()]


def test_a_process_is_used_again_and_replaced_once_it_died(apart: Apart) -> None:
    first = apart.pid()
    assert first not in (os.getpid(), os.getppid())
    assert [apart.pid(), apart.pid()] == [first, first]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: has_ended(first))
    assert apart.pid() != first


def test_the_log_of_a_segfault_tells_what_came_before_and_where(
    apart: Apart, capfd: pytest.CaptureFixture[str]
) -> None:
    before = apart.pid()
    failure = apart.failure("segfault")
    assert "its process died (SIGSEGV)" in failure.message
    said = capfd.readouterr().out
    assert "printed from C raw by a child\n" in said
    assert "Segmentation fault" in said
    assert "in segfault" in said
    for pid in noted_pids(apart.root):
        assert has_ended(pid)
    assert apart.pid() != before


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("os._exit(3)", "ended with exit code 3"),
        ("sys.exit(3)", "SystemExit at"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt at"),
        ("os.kill(os.getpid(), 9)", "as the kernel does when memory is short"),
        ("os.closerange(3, 256); time.sleep(600)", "closed the connection"),
    ],
)
def test_whatever_ends_a_process_is_a_failed_task(apart: Apart, code: str, told: str) -> None:
    apart.how(code)
    assert told in apart.failure("ends").message
    assert apart.pid()


@pytest.mark.parametrize(
    "code",
    ["time.sleep(600)", "while True: pass", "while True: ctypes.PyDLL(None).sleep(600)"],
    ids=["sleeps", "computes", "in C with the interpreter's lock"],
)
def test_a_task_over_its_time_is_ended_with_its_children(
    apart: Apart, capfd: pytest.CaptureFixture[str], code: str
) -> None:
    (apart.root / "pids").unlink(missing_ok=True)
    apart.how(code)
    failure = apart.failure("hangs")
    assert failure.message == "not done after 1.5 s, and ended"
    said = capfd.readouterr().out
    assert "here it begins" in said
    assert "in hangs" in said  # where it was
    for pid in noted_pids(apart.root):
        assert has_ended(pid)


@pytest.mark.parametrize("name", ["hog", "hog_with_children"])
def test_a_task_over_its_memory_is_ended(apart: Apart, name: str) -> None:
    failure = apart.failure(name)
    assert failure.message == "took more than 200 MB of memory, and was ended"
    assert "`memory`" in str(failure.remedy)


def test_what_a_process_held_before_does_not_count(apart: Apart) -> None:
    pids = {apart.compute("modest")["pid"][0] for _ in range(8)}
    assert len(pids) == 1


def test_a_process_that_has_grown_is_replaced(apart: Apart) -> None:
    [grown] = apart.compute("leaks")["pid"]
    assert apart.pid() != grown
    assert has_ended(grown)


def test_errors_keep_their_kind_and_their_traceback(apart: Apart, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ProjectError, match="returned None"):
        apart.compute("nothing")
    assert "looking for it" in capfd.readouterr().out
    with pytest.raises(DataError) as caught:
        apart.compute("refuses")
    assert (caught.value.message, caught.value.node) == ("no rows today", "refuses")
    assert caught.value.remedy == "come back tomorrow"
    assert "in refuses" in capfd.readouterr().out


def test_the_surroundings_of_a_task(apart: Apart) -> None:
    [(score, session, stdin)] = apart.compute("surroundings").rows()
    assert score == "1000"
    assert session != os.getsid(0)  # Ctrl-C reaches the run alone
    assert stdin == ""


def test_a_large_table_comes_back_as_it_was(apart: Apart) -> None:
    numbers = pl.select(number=pl.int_range(2_000_000)).to_series()
    frame = pl.DataFrame(
        {
            "number": numbers,
            "text": numbers.cast(pl.String),
            "category": (numbers % 3).cast(pl.String).cast(pl.Categorical),
            "instant": (numbers * 1_000_000).cast(pl.Datetime("us", "Europe/Paris")),
        }
    )
    back = apart.compute("copy", process=frame)
    assert back.schema == frame.schema
    assert back.equals(frame)


def test_every_type_of_column_comes_back_as_it_was(apart: Apart) -> None:
    frame = pl.DataFrame(
        {
            "enum": pl.Series(["low", None, "high"], dtype=pl.Enum(["low", "high"])),
            "category": pl.Series(["b", "a", None], dtype=pl.Categorical),
            "decimal": pl.Series([Decimal("1.25"), None, Decimal("-3.00")], dtype=pl.Decimal(10, 2)),
            "nothing": pl.Series([None, None, None], dtype=pl.Null),
            "struct": [{"a": 1, "b": ["x", None]}, None, {"a": None, "b": []}],
            "list": [[1, 2], None, []],
            "array": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int16, 2)),
            "instant": pl.Series([0, None, 1], dtype=pl.Datetime("ns", "America/New_York")),
            "span": [timedelta(days=1), None, timedelta(microseconds=-1)],
            "day": [date(2024, 2, 29), None, date(1, 1, 1)],
            "bytes": [b"\x00", None, b""],
            "large": pl.Series([2**100, None, -1], dtype=pl.Int128),
        }
    )
    back = apart.compute("copy", process=frame)
    assert back.schema == frame.schema
    assert_frame_equal(back, frame)


@pytest.mark.parametrize("frame", [pl.DataFrame(), pl.DataFrame({"a": [1]}).clear()])
def test_an_empty_table_keeps_its_columns(apart: Apart, frame: pl.DataFrame) -> None:
    assert_frame_equal(apart.compute("copy", process=frame), frame)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(frame=dataframes(max_cols=6, max_size=20, excluded_dtypes=[pl.Object], allow_masked=True))
def test_any_table_comes_back_as_it_was(apart: Apart, frame: pl.DataFrame) -> None:
    assert_frame_equal(apart.compute("copy", process=frame), frame, categorical_as_str=True)


def test_a_column_that_arrow_does_not_know_is_a_failed_task(apart: Apart) -> None:
    apart.how("")
    with pytest.raises(DataError, match="Object"):
        apart.compute("copy", process=pl.DataFrame({"o": [object()]}))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_told_and_no_file_stays_on_it(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", tmp_path], check=True)
    apart = Apart(tmp_path)
    try:
        with apart.isolation:
            large = pl.DataFrame({"pid": range(1_000_000)})
            with pytest.raises(StorageError, match="No space left"):
                apart.compute("copy", process=large)
            with pytest.raises(StorageError, match="No space left"):
                apart.compute("large")
            assert apart.compute("copy", process=large.head(1_000)).height == 1_000
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_threads_share_the_processes(apart: Apart) -> None:
    days = range(1, 25)
    together = threading.Barrier(8)

    def begin(_: int) -> int:
        together.wait(PATIENCE)
        return apart.pid()

    with ThreadPoolExecutor(8) as pool:
        pids = set(pool.map(begin, range(8)))
        assert 1 < len(pids) <= 8
        frames = list(pool.map(lambda day: apart.compute("process", day), days))
    assert [frame["day"][0] for frame in frames] == list(days)
    assert {frame["pid"][0] for frame in frames} <= pids


def test_batches_come_one_by_one_and_not_far_ahead(apart: Apart) -> None:
    def made() -> int:
        return int((apart.root / "made").read_text())

    batches = apart.compute("batches")
    assert next(batches)["number"].to_list() == [0, 0, 0]
    wait_until(lambda: made() == 2)
    time.sleep(0.2)
    assert made() == 2  # one is taken, one waits, and one has been made
    assert [batch["number"][0] for batch in batches] == [1, 2, 3, 4, 5]


def test_batches_that_break_off_are_a_failure(apart: Apart) -> None:
    batches = apart.compute("breaks_off")
    assert next(batches).height == 1
    with pytest.raises(Failure, match="the second page is gone"):
        next(batches)
    assert apart.pid()


def test_batches_that_nobody_wants_end_with_their_process(apart: Apart) -> None:
    before = apart.pid()
    batches = apart.compute("batches")
    next(batches)
    batches.close()
    assert has_ended(before)
    assert apart.pid() != before


def test_a_model_is_fitted_as_in_this_process(apart: Apart, capfd: pytest.CaptureFixture[str]) -> None:
    days = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(8)]
    keys = pl.DataFrame({"day": range(8)})
    features = keys.with_columns(width=pl.col("day") * 2.0, window_start=pl.Series(days))
    labels = keys.with_columns(size=pl.col("day") * 3.0, window_start=pl.Series(days))
    cutoff = datetime(2024, 1, 9, tzinfo=apart.project.calendar.zone)
    node = apart.project.graph.nodes["average"]
    notes: list[str] = []
    apart_trained = apart.isolation.train(node, features, labels, cutoff, notes.append)
    here = train(node, features, labels, cutoff=cutoff, parameters={}, progress=notes.append)
    assert apart_trained.X.equals(here.X)
    assert apart_trained.y.equals(here.y) and apart_trained.y.name == here.y.name
    assert apart_trained.estimator.mean == here.estimator.mean
    assert apart_trained.backtest == here.backtest
    assert notes[: len(notes) // 2] == notes[len(notes) // 2 :]
    assert "fitting 4" in capfd.readouterr().out


@pytest.mark.parametrize("code", ["time.sleep(600)", "while True: ctypes.PyDLL(None).sleep(600)"])
def test_a_killed_run_leaves_no_process(tmp_path: Path, code: str) -> None:
    (tmp_path / "how").write_text(code)
    script = (
        "import sys; from pathlib import Path; from test_isolation import Apart, MODULE\n"
        "apart = Apart(Path(sys.argv[1]), MODULE.replace('timeout=1.5', 'timeout=600'))\n"
        "with apart.isolation: apart.compute('hangs')"
    )
    paths = [str(Path(__file__).parent), *sys.path]
    run = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    pids = noted_pids(tmp_path)
    assert not any(map(has_ended, pids))
    run.kill()
    run.wait()
    wait_until(lambda: all(map(has_ended, pids)))


def test_all_processes_end_with_the_run(tmp_path: Path) -> None:
    apart = Apart(tmp_path)
    with apart.isolation:
        apart.how("leave_children()")
        with pytest.raises(ProjectError, match="None"):
            apart.compute("ends")
        pids = noted_pids(tmp_path)
        assert not any(map(has_ended, pids))
    assert all(map(has_ended, pids))


def test_a_run_computes_with_the_project_as_it_was_loaded(tmp_path: Path) -> None:
    first = Apart(tmp_path)
    with first.isolation:
        pid = first.pid()
        second = Apart(tmp_path, MODULE.replace("[window.start.day]", "[-1]"))
        assert first.compute("process", 5).rows() == [(pid, 5)]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: has_ended(pid))
        assert "edited" in first.failure("process").message
    with second.isolation:
        assert second.compute("process")["day"].to_list() == [-1]


def test_a_project_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    apart = Apart(tmp_path)
    (tmp_path / "pipeline.py").write_text("import no_such_module")
    with apart.isolation, pytest.raises(ProjectError, match="no_such_module"):
        apart.compute("process")


def test_a_run_keeps_the_logs_of_isolated_tasks(project: Callable[..., SmallProject]) -> None:
    small = project(RUN)
    result = small.run("2024-01-03")
    assert (result.state, result.done) == ("done", 6)
    assert small.table("both").drop("window_start").rows() == [
        (page, day) for page in range(3) for day in (1, 2)
    ]
    with Store(small.store_path) as store, store.metadata.connect() as connection:
        task = tables.task.c
        query = select(task.log).where(task.node == "numbers").order_by(task.window_start)
        assert list(connection.execute(query).scalars()) == ["at 2024-01-01\n", "at 2024-01-02\n"]


def test_ctrl_c_lets_an_isolated_task_end(project: Callable[..., SmallProject]) -> None:
    small = project(RUN)
    script = (
        "import sys; from pathlib import Path; from small_project import SmallProject\n"
        "result = SmallProject(Path(sys.argv[1])).run(workers=1)\n"
        "print(result.state, result.done > 0, result.failed)"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", script, str(small.root)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    wait_until((small.root / "begun").exists)
    os.killpg(run.pid, signal.SIGINT)  # as the terminal does
    said, _ = run.communicate(timeout=PATIENCE)
    assert said == "cancelled True 0\n"
