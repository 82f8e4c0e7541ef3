"""`envol backfill` and `envol accept`, and ranges of time."""

from __future__ import annotations

import re
import signal
import subprocess
import time

from cli.machines import ENVOL, LONE, Project

SLOW = LONE.replace("    heat =", "    import time\n    time.sleep(1)\n    heat =")
JANUARY = ("--from", "2024-01-03", "--to", "2024-01-06")


def test_a_range_is_planned_and_run(project: Project) -> None:
    assert "make 3 windows" in project.envol("plan", *JANUARY).out
    said = project.envol("run", *JANUARY)
    assert "done: 3 windows made" in said.out
    assert project.envol("plan", *JANUARY).out.rstrip().endswith("up to date.")


def test_a_range_that_is_none_is_refused(project: Project) -> None:
    said = project.envol("run", "--from", "2024-01-06", "--to", "2024-01-03")
    assert said.code == 2 and "--to 2024-01-03 is not after --from 2024-01-06" in said.err
    said = project.envol("backfill", "--from", "2024-01-06")
    assert said.code == 2 and "--from 2013-01-01 --to 2013-02-01" in said.err
    said = project.envol("backfill", "--from", "soon", "--to", "2024-01-06")
    assert said.code == 2 and "'soon' is not a date" in said.err


def test_a_backfill_says_what_it_would_do_and_does_it(project: Project) -> None:
    dry = project.envol("backfill", *JANUARY, "--dry-run", "--json").json
    assert list(dry["windows"].values()) == [3] and dry["task_seconds"] is None
    assert project.envol("backfill", "--list").out.startswith("no backfill on record")
    said = project.envol("backfill", *JANUARY)
    assert said.code == 0 and "done: 3 windows made" in said.out
    assert project.envol("backfill", *JANUARY).out.startswith("nothing to do")
    assert "again all the same: --rerun" in project.envol("backfill", *JANUARY).out
    again = project.envol("backfill", *JANUARY, "--rerun", "--dry-run")
    assert re.search(r" 3 +asked for +\d", again.out) and "about " in again.out
    [listed] = project.envol("backfill", "--list", "--json").json
    assert (listed["state"], listed["windows"]) == ("done", {"done": 3})
    assert re.search(r"done .* 3 of 3", project.envol("backfill", "--list").out)
    said = project.envol("backfill", "--resume", listed["id"])
    assert said.code == 0 and "is done; again: --retry" in said.out


def test_an_interrupted_backfill_is_resumed(project: Project) -> None:
    project.write(SLOW)
    process = subprocess.Popen(
        [ENVOL, "backfill", "--from", "2024-01-01", "--to", "2024-01-09"],
        cwd=project.root,
        stdout=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while not (listed := project.envol("backfill", "--list", "--json").json) or not listed[0]["windows"].get(
        "done"
    ):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    identity = listed[0]["id"]
    assert f"envol backfill --resume {identity}" in out
    cancelled = project.envol("backfill", "--cancel", identity)
    assert re.search(r"cancelled: \d+ windows? left as they are", cancelled.out)
    said = project.envol("backfill", "--retry", identity)
    assert said.code == 0, said.err
    assert project.envol("backfill", "--list", "--json").json[0]["windows"] == {"done": 8}


def test_stale_windows_are_accepted_and_the_plan_offers_it(project: Project) -> None:
    project.envol("run")
    project.write(LONE.replace("    heat =", "    assert window\n    heat ="))
    plan = project.envol("plan")
    assert "code changed" in plan.out and "envol accept --reason" in plan.out
    said = project.envol("accept", "--reason", " ")
    assert said.code == 2 and "the reason is empty" in said.err
    said = project.envol("accept", "--reason", "only an assertion")
    assert said.code == 0 and re.search(r"readings +8 +2024-01-01 +2024-01-09", said.out)
    assert project.envol("run").out.startswith("nothing to do")
    assert project.envol("accept", "--reason", "again").out.startswith("no stale window was found")
