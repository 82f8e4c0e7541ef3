"""`envol run` and what is to be seen of it afterwards: `status`, `runs`; interrupts and locks."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli.machines import ENVOL, LONE, Project, Said

SLOW = LONE.replace("    heat =", "    import time\n    time.sleep(0.2)\n    heat =")
SOME_FAIL = LONE.replace(
    "    heat =",
    '    if window.start.day in (3, 4):\n        print("looking at", window.key)\n'
    '        raise OSError("the sensor is away")\n    heat =',
)
MANY_FAIL = LONE.replace("    heat =", "    raise OSError(window.key)\n    heat =")


def test_a_run_tells_what_it_did(ran: tuple[Project, Said]) -> None:
    project, said = ran
    assert said.code == 0, said.err
    assert re.search(r"^\d\d:\d\d:\d\d  run \S+: 38 tasks of 7 nodes$", said.out, re.MULTILINE)
    assert "risk version 2 (champion): " in said.out
    assert re.search(r"1 +2024-01-03 to 2024-01-06 +2024-01-07 to 2024-01-07 +40 ", said.out)
    assert re.search(r"^all +40 +1 +0.5", said.out, re.MULTILINE)
    assert re.search(
        r"^done: 36 windows made, 2 model versions trained; 1,760 rows in ", said.out, re.MULTILINE
    )


def test_a_second_run_does_nothing_and_needs_no_database_of_tables(ran: tuple[Project, Said]) -> None:
    project, _ = ran
    said = project.command("run", PYTHONPROFILEIMPORTTIME="1")
    assert said.code == 0
    assert said.out.startswith("nothing to do")
    imported = {line.rpartition("|")[2].strip() for line in said.err.splitlines()}
    assert "polars" in imported
    assert not imported & {"duckdb", "sklearn", "pyarrow", "pandas", "rich", "envol.registry", "alembic"}


def test_status_shows_everything_on_a_screen(ran: tuple[Project, Said]) -> None:
    project, _ = ran
    said = project.envol("status")
    assert said.code == 0, said.err
    assert len(said.out.splitlines()) < 25
    assert re.search(r"features +8 of 8 +320 +2024-01-08 ", said.out)
    assert re.search(r"risk +version 2 +2024-01-08 +roc_auc 1 +0.5 +1 .*in 4 windows", said.out)
    narrow = project.envol("status", COLUMNS="80")
    assert max(map(len, narrow.out.splitlines())) <= 80
    told = project.envol("status", "--json").json
    assert told["runs"][0]["state"] == "done" and told["to_do"] == 0
    assert told["models"][0]["champion"] == 2 and told["models"][0]["live"]["value"] > 0.9


def test_nothing_was_run_yet(project: Project) -> None:
    status = project.envol("status")
    assert status.code == 0
    assert "Nothing was run yet: 8 tasks to do. Start with: envol run" in status.out
    assert "start with: envol run" in project.envol("runs").out
    assert project.envol("runs", "--json").json == []
    last = project.envol("runs", "last")
    assert last.code == 2 and "nothing was run yet" in last.err
    assert "no model is registered yet" in project.envol("models").out
    assert project.envol("models", "--json").json == []


def test_a_run_as_json(project: Project) -> None:
    said = project.envol("run", "--json", "--workers", "2")
    assert said.code == 0
    told = said.json
    assert told["state"] == "done" and told["done"] == 8 and told["rows"] == 320
    assert told["failures"] == told["trained"] == []
    assert "8 tasks of 1 node" in said.err
    assert project.envol("run", "--json").json["state"] == "nothing"
    again = project.envol("run", "--json", "--node", "readings", "--rerun").json
    assert again["done"] == 8


def test_failures_are_told_with_node_window_and_remedy(project: Project) -> None:
    project.write(SOME_FAIL)
    said = project.envol("run")
    assert said.code == 1
    assert "failed: node readings, window 2024-01-03: " in said.out
    assert "OSError: the sensor is away\n" in said.out
    assert "\n  -> " in said.out and "Traceback" not in said.out + said.err
    assert "failed: 6 windows made, 2 failed" in said.out
    assert "envol run goes on from here" in said.out
    listed = project.envol("runs", "--failed").out
    assert "2024-01-03" in listed and "2024-01-04" in listed and "2024-01-05" not in listed
    log = project.envol("runs", "last", "--node", "readings", "--window", "2024-01-04", "--log").out
    assert log.startswith("== readings 2024-01-04: failed")
    assert "looking at 2024-01-04" in log and "Traceback" in log and "2024-01-03" not in log
    told = project.envol("runs", "last", "--json").json
    assert told["failed"] == 2 and len(told["tasks"]) == 8
    assert "The last run failed: envol runs " in project.envol("status").out
    wrong = project.envol("runs", "nonsense")
    assert wrong.code == 2 and "there is no run 'nonsense'" in wrong.err


def test_many_failures_are_counted(project: Project) -> None:
    config = (project.root / "envol.toml").read_text().replace("2024-01-09", "2024-01-21")
    project.write(MANY_FAIL, config)
    said = project.envol("run")
    assert said.code == 1
    summary = said.out[said.out.rindex("failed: more") :]
    assert summary.count("failed: node readings") == 10
    assert "and 10 failures more: envol runs " in summary


def test_failures_that_say_the_same_are_told_once(project: Project) -> None:
    project.write(LONE.replace("    heat =", '    raise OSError("away")\n    heat ='))
    said = project.envol("run")
    assert said.code == 1
    summary = said.out[said.out.rindex("failed: node readings") :]
    assert summary.startswith(
        "failed: node readings, window 2024-01-01 and 7 more: readings raised OSError: away"
    )
    assert "failed: 0 windows made, 8 failed" in summary


def test_failures_that_only_the_user_can_mend_end_with_2(project: Project) -> None:
    project.write(LONE.replace("return pl.DataFrame(", "return dict("))
    assert project.envol("run").code == 2
    either = "return (dict if window.start.day == 1 else pl.DataFrame)("
    project.write(
        LONE.replace("return pl.DataFrame(", either).replace(
            "    heat =", '    if window.start.day == 2:\n        raise OSError("away")\n    heat ='
        )
    )
    assert project.envol("run").code == 1


def test_rows_in_quarantine_are_shown(project: Project) -> None:
    project.write(LONE.replace("uniform(0, 1, 40)", "uniform(-0.5, 1, 40)"))
    said = project.envol("run")
    assert said.code == 0
    told = re.search(
        r"^readings: (\d+) rows in quarantine: envol quarantine list readings$",
        said.out,
        re.MULTILINE,
    )
    assert told and 320 - int(told[1]) == project.envol(
        "query", "select * from readings", "--json"
    ).out.count("key")
    again = project.envol("run", "--node", "readings", "--rerun", "--json").json
    assert again["quarantined"] == {"readings": int(told[1])}
    planned, status = project.envol("plan").out, project.envol("status").out
    assert re.search(r"\d+ rows in 8 windows", planned) and "quarantine" in status
    broken = project.envol("query", "select heat, broken_rule from readings_quarantine", "--json").json
    assert broken and all(row["heat"] < 0 for row in broken)


def test_an_interrupt_ends_cleanly_and_the_rest_follows(project: Project) -> None:
    project.write(SLOW)
    started = _start(project)
    time.sleep(0.3)
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "stopping once the running tasks have ended" in out and "stopped: " in out
    assert "Traceback" not in out + err
    assert '"cancelled"' in project.envol("runs", "--json").out
    assert project.envol("run").code == 0


def test_a_killed_run_has_crashed_and_the_next_goes_on(project: Project) -> None:
    project.write(SLOW)
    started = _start(project)
    started.kill()
    started.communicate()
    assert project.envol("runs", "--json").json[0]["state"] == "crashed"
    assert project.envol("run").code == 0
    assert [run["state"] for run in project.envol("runs", "--json").json] == ["done", "crashed"]


def test_a_second_run_at_once_is_refused(project: Project) -> None:
    project.write(SLOW.replace("0.2", "3"))
    first = _start(project)
    try:
        for words in (["run"], ["compact"]):
            said = project.envol(*words)
            assert said.code == 2
            assert said.err.startswith("error: another run is active on this project (process ")
            assert "-> wait for it to end" in said.err
    finally:
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=60)


def test_a_reader_that_goes_away_does_not_end_the_run(project: Project) -> None:
    project.write(SLOW)
    started = _start(project)
    assert started.stdout is not None
    started.stdout.close()
    started.wait(timeout=60)
    assert "Traceback" not in (started.stderr.read() if started.stderr else "")
    assert project.envol("runs", "--json").json[0]["state"] == "done"


def test_a_folder_that_cannot_be_written(project: Project) -> None:
    (project.root / ".envol").write_text("in the way")
    said = project.envol("run")
    assert said.code == 1
    assert said.err.startswith("error: ") and ".envol" in said.err and "-> " in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("verb", ["new", "compact"])
def test_a_full_disk_is_no_traceback(project: Project, verb: str) -> None:
    target = Path("/dev/full")
    if not target.exists():
        pytest.skip("needs /dev/full")
    with target.open("w") as full:
        ended = subprocess.run(
            [ENVOL, verb, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, cwd=project.root
        )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr and "No space left" in ended.stderr


def _start(project: Project) -> subprocess.Popen[str]:
    """A run that has begun, with its output in pipes."""
    started = subprocess.Popen(
        [ENVOL, "run", "--workers", "1"],
        cwd=project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert "8 tasks of 1 node" in started.stdout.readline()
    return started
