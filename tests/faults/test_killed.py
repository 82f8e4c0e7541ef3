"""Kill -9 of a run in the middle of a commit, of its workers, and of runs on other machines."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import polars as pl
import pytest
from evidence import (
    NOTED,
    Locked,
    calls,
    check_agreement,
    metadata_lock,
    pen,
    rows,
    states,
    until,
    versions,
)
from servers import free_port
from small_project import SmallProject
from sqlalchemy import select

from envol.errors import BusyError
from envol.storage import tables

Make = Callable[..., SmallProject]
CHAIN = (
    NOTED
    + """
    @source(every="1d")
    def days(window: Window) -> pl.DataFrame:
        note("days", window)
        return pl.DataFrame({"day": [window.key] * 20, "n": range(20)})

    @table(lookback={"days": "2d"})
    def sums(days: pl.DataFrame) -> pl.DataFrame:
        return days.group_by("day").agg(pl.col("n").sum())
"""
)


class Made(NamedTuple):
    """What an undisturbed run makes."""

    tables: dict[str, pl.DataFrame]
    versions: dict[tuple[str, int], tuple[int, int, int]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Made:
    small = SmallProject(tmp_path_factory.mktemp("undisturbed") / "project").write(CHAIN)
    assert small.run("2024-03-01").done == 120
    return Made(small.tables(["days", "sums"]), versions(small))


@pytest.mark.usefixtures("undisturbed", "storage")
def test_a_run_killed_in_the_middle_of_commits_ends_as_an_undisturbed_one(
    undisturbed: Made, project: Make
) -> None:
    small = project(CHAIN)
    writes: list[Callable[[SmallProject], Locked]] = [pen, metadata_lock, pen]
    for lock in writes:
        process = small.start("2024-03-01")
        small.wait_for_tasks(small.count_tasks() + 5, process)
        until(lambda: lock(small).held)  # noqa: B023
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert small.run("2024-03-01").failures == []
    assert versions(small) == undisturbed.versions
    for name, table in undisturbed.tables.items():
        assert small.table(name).equals(table), name
    assert len(small.plan("2024-03-01")) == 0
    assert states(small) == ["crashed"] * 3 + ["done"]
    recorded = dict(rows(small, select(tables.run.c.pid, tables.run.c.state)))
    assert all(recorded[call.pid] for call in calls(small))


FRAGILE = (
    NOTED
    + """
    def made(node, window):
        note(node, window)
        if window.start.day == 2:
            wait_for("gate")
        return pl.DataFrame({"day": [window.start.day]})

    @source(every="1d", isolated=True, retries=1, backoff=0.01)
    def retried(window: Window) -> pl.DataFrame:
        return made("retried", window)

    @source(every="1d", isolated=True)
    def tried_once(window: Window) -> pl.DataFrame:
        return made("tried_once", window)
"""
)


def test_a_killed_worker_fails_its_task_or_is_replaced_and_the_run_goes_on(project: Make) -> None:
    small = project(FRAGILE, "[run]\nworkers = 2\n")
    run = small.start("2024-01-06")
    second = {call.node: call for call in until(lambda: seconds(small, 2))}
    assert second.keys() == {"retried", "tried_once"}
    for call in second.values():
        os.kill(call.pid, signal.SIGKILL)
    until(lambda: seconds(small, 3))
    (small.root / "gate").touch()
    out, _ = run.communicate(timeout=120)
    assert json.loads(out) == {"state": "failed", "done": 9}
    task = tables.task.c
    query = select(task.node, task.attempts, task.error).where(task.attempts > 1, task.state == "done")
    assert rows(small, query) == [("retried", 2, None)]
    [(node, error)] = rows(small, select(task.node, task.error).where(task.state == "failed"))
    assert node == "tried_once" and "killed (SIGKILL)" in error
    assert small.run("2024-01-06").done == 1
    check_agreement(small, "retried", "tried_once")


def seconds(small: SmallProject, number: int) -> list:
    """The calls for the second day, once there are so many."""
    day = 1704153600
    found = [call for call in calls(small) if call.window == day]
    return found if len(found) >= number else []


GATED = (
    NOTED
    + """
    @source(every="1d")
    def days(window: Window) -> pl.DataFrame:
        note("days", window)
        wait_for("gate")
        return pl.DataFrame({"day": [window.start.day]})
"""
)


@pytest.mark.usefixtures("storage")
def test_of_two_runs_begun_at_once_one_is_carried_out(project: Make) -> None:
    small = project(GATED)
    two = [small.start(), small.start()]
    ended = until(lambda: [run for run in two if run.poll() is not None])
    (small.root / "gate").touch()
    [refused] = ended
    [carried_out] = [run for run in two if run is not refused]
    out, _ = carried_out.communicate(timeout=120)
    assert json.loads(out) == {"state": "done", "done": 10} and refused.returncode == 1
    assert {call.pid for call in calls(small)} == {carried_out.pid} and len(calls(small)) == 10
    assert states(small) == ["done"]


ELSEWHERE = """
import sys
from pathlib import Path
from servers import free_port
from small_project import SmallProject
SmallProject(Path(sys.argv[1])).run("2024-01-04", workers=1)
"""


@pytest.fixture
def elsewhere() -> list[str]:
    """The begin of a command that runs where processes of this machine cannot be seen, as on another one."""
    command = ["unshare", "--pid", "--fork", "--kill-child=KILL"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("a space of process ids of one's own takes root")
    return command


def test_a_run_on_another_machine_is_respected_and_replaced_once_it_is_silent(
    project: Make, elsewhere: list[str]
) -> None:
    small = project(GATED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.Popen([*elsewhere, sys.executable, "-c", ELSEWHERE, str(small.root)], env=environment)
    until(lambda: calls(small))
    with pytest.raises(BusyError, match=f"process 1 on {os.uname().nodename}"):
        small.run("2024-01-04")
    other.kill()
    other.wait()
    (small.root / "gate").touch()
    assert small.run("2024-01-04").done == 3
    assert states(small) == ["crashed", "done"]
    assert len(calls(small)) == 4
    check_agreement(small, "days")


def test_the_port_of_a_killed_service_is_free_at_once(project: Make) -> None:
    module = """
    @source(every="1d")
    def days(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"key": [window.key], "n": [1.0]})

    @model(features="days", labels="days", key="key", target="n", train="3d", every="3d")
    def ones(X: pl.DataFrame, y: pl.Series):
        raise NotImplementedError
    """
    small, port = project(module), free_port()
    command = [sys.executable, "-m", "envol.cli", "serve", "-p", str(small.root), "--port", str(port)]
    for _ in range(2):
        service = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert service.stdout is not None
        assert any(f":{port}" in line for line in iter(service.stdout.readline, ""))
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /models HTTP/1.1\r\nHost: here\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
            service.kill()
            service.communicate()
