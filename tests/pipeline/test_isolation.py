"""What isolated tasks do to their processes is a failed task, and no more.

All processes are real; the tests share one `Isolation`, which has to stand everything that is done to it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from isolated_project import MODULE, PATIENCE, Apart, has_ended, noted_pids, wait_until
from small_project import SmallProject
from sqlalchemy import select

from envol.errors import DataError, ProjectError
from envol.storage import Store, tables

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


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    apart = Apart(tmp_path_factory.mktemp("isolated"))
    with apart.isolation:
        yield apart


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


@pytest.mark.parametrize("code", ["time.sleep(600)", "while True: ctypes.PyDLL(None).sleep(600)"])
def test_a_killed_run_leaves_no_process(tmp_path: Path, code: str) -> None:
    (tmp_path / "how").write_text(code)
    script = (
        "import sys; from pathlib import Path; from isolated_project import Apart, MODULE\n"
        "apart = Apart(Path(sys.argv[1]), MODULE.replace('timeout=1.5', 'timeout=600'))\n"
        "with apart.isolation: apart.compute('hangs')"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
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
