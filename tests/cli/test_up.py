"""`envol up` on real projects: what is at work, what is told of it, what is left after it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli.machines import ENVOL, LONE, WHOLE, Project
from conducting import Lines, envol, until

Up = Callable[..., Lines]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """Starts `envol up --log json`, and sees to it that nothing of it is left."""
    started: list[Lines] = []

    def start(*words: str) -> Lines:
        started.append(
            Lines(envol("up", "--project", str(tmp_path / "project"), *words, environment={**os.environ}))
        )
        return started[-1]

    yield start
    for one in started:
        one.kill()
    until(lambda: not processes(tmp_path))


def processes(folder: Path) -> dict[int, str]:
    """Commands of the living processes that work on a project in the folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if any(word.startswith(str(folder)) for word in command) and int(process.name) != os.getpid():
            found[int(process.name)] = " ".join(command)
    return found


def process_of(folder: Path, module: str) -> int:
    """Id of the process that runs a module on a project in the folder."""

    def look() -> list[int]:
        return [pid for pid, command in processes(folder).items() if f"-m {module} " in command]

    [pid] = until(look)
    return pid


def served(one: Lines) -> str:
    """Where the service says that it is."""
    told = ""
    while "is served at" not in told:
        told = one.hears("log", part="service")["message"]
    return told.split()[-1]


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as response:
        return json.load(response)


def test_a_new_project_comes_to_work_survives_kills_and_ends_by_one_signal(tmp_path: Path, up: Up) -> None:
    project = Project(tmp_path / "project").write(WHOLE)
    one = up("--port", "0")
    url = served(one)
    assert get(f"{url}/models") == {"models": []}
    one.hears("run ended", part="conductor", state="done")
    until(lambda: [model["version"] for model in get(f"{url}/models")["models"]] == [2], one.told)

    told = project.envol("status", "--json").json["conductor"]
    assert told["active"]["pid"] == process_of(project.root, "envol.cli conductor")
    assert told["paused"] is None and told["standby"] == []

    os.kill(process_of(project.root, "envol.serving"), signal.SIGKILL)
    one.hears("part died", of="service", exit_code=-signal.SIGKILL)
    assert [model["version"] for model in get(f"{served(one)}/models")["models"]] == [2]
    os.kill(told["active"]["pid"], signal.SIGKILL)
    one.hears("part died", of="conductor", exit_code=-signal.SIGKILL)
    one.hears("active", part="conductor")
    one.hears("idle", part="conductor")
    one.signal(signal.SIGINT)
    assert one.wait() == 0
    assert processes(tmp_path) == {}


def test_a_port_that_is_taken_ends_it_with_the_reason(tmp_path: Path, up: Up) -> None:
    Project(tmp_path / "project").write(WHOLE)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        one = up("--port", str(taken.getsockname()[1]))
        assert one.wait() == 2
    assert any("cannot listen" in line["message"] and line["level"] == "error" for line in one.lines)
    assert processes(tmp_path) == {}


def test_without_a_model_there_is_no_service(tmp_path: Path, up: Up) -> None:
    project = Project(tmp_path / "project").write(LONE)
    one = up()
    one.hears("run ended", part="conductor", state="done")
    assert {line["part"] for line in one.lines} == {"conductor"}
    assert "nothing falls due any more" in one.hears("idle")["message"]
    one.kill()
    until(lambda: not processes(tmp_path))
    assert project.envol("status", "--json").json["conductor"]["active"] is None


def test_for_people_the_lines_say_who_writes_them(tmp_path: Path) -> None:
    project = Project(tmp_path / "project").write(LONE)
    with (tmp_path / "up.log").open("w+") as log:
        started = subprocess.Popen(
            [ENVOL, "up", "--no-serve"], cwd=project.root, stdout=log, stderr=log, env=os.environ
        )
        text = (tmp_path / "up.log").read_text
        until(lambda: "run ended" in text() or " done: " in text(), text)
        started.terminate()
        assert started.wait() == 0
    first, *lines = text().splitlines()
    assert first == "machines: conductor, until Ctrl-C; how it stands: envol status"
    assert any(line[19:].startswith("  conductor   active: keeps machines up to date") for line in lines)
    assert lines[-1][19:] == "  conductor   stopped"


def test_pausing_and_the_rest_by_the_command_line(tmp_path: Path) -> None:
    project = Project(tmp_path / "project").write(WHOLE)
    assert "none is active" in project.envol("pause", "--reason", "moving", "--by", "ann").out
    said = project.envol("status")
    told = said.out
    assert said.code == 0, said.err
    assert "conductor: none is active" in told and "paused by ann" in told and ": moving;" in told
    paused = project.envol("status", "--json").json["conductor"]["paused"]
    assert (paused["by"], paused["reason"]) == ("ann", "moving")
    assert project.envol("resume").out.startswith("resumed")
    assert project.envol("resume").out.startswith("it was not paused")
    assert project.envol("wake").code == 0
    assert project.envol("retrain", "risk", "--reason", "it drifts").code == 0
    assert "did you mean 'risk'?" in project.envol("retrain", "rsik", "--reason", "x").err
    assert "reason" in project.envol("retrain", "risk", "--reason", " ").err
    assert "nothing was run yet" in project.envol("cancel").err
    assert "no log style 'xml'" in project.envol("conductor", "--log", "xml").err
