"""The supervisor: parts restarted when they die, one stream of lines, one signal for all, nothing left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conducting import PATIENCE, Lines, until

SUPERVISOR = """
import sys
from envol.log import as_json
from envol.supervisor import Part, Supervisor

parts = [Part(name, [sys.executable, "-u", "-c", code]) for name, code in {parts!r}.items()]
sys.exit(Supervisor(parts, lambda line: print(as_json(line), flush=True), grace={grace}).run())
"""
PIDS = """
import os, subprocess, sys, time
from envol.family import end_with_supervisor
end_with_supervisor()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
print("pids", os.getpid(), child.pid)
"""
SLEEPS = PIDS + "time.sleep(1000)"
ENDS_WELL = PIDS.replace("import os", "import os, signal") + (
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep(1000)"
)
STUBBORN = PIDS.replace("import os", "import os, signal") + (
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(1000)"
)


class Supervised(Lines):
    """A supervisor as a process, with the lines that it writes."""

    def __init__(self, folder: Path, grace: float, parts: dict[str, str]) -> None:
        parts = {name: textwrap.dedent(code) for name, code in parts.items()}
        command = [sys.executable, "-c", SUPERVISOR.format(parts=parts, grace=grace)]
        super().__init__(subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True))

    def pids(self, part: str, but: Sequence[int] = ()) -> list[int]:
        """Ids of the processes of a part, once it has told others than those."""

        def look() -> list[int] | None:
            told = [line["message"].split() for line in list(self.lines) if line["part"] == part]
            found = [[int(word) for word in words[1:]] for words in told if words[0] == "pids"]
            return found[-1] if found and found[-1] != but else None

        pids: list[int] = until(look, self.told)
        return pids


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Any]:
    """Starts a supervisor: `supervised(name=code, ...)`."""
    started: list[Supervised] = []

    def start(grace: float = PATIENCE, **parts: str) -> Supervised:
        started.append(Supervised(tmp_path, grace, parts))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def test_a_part_that_dies_is_started_again_later_each_time_and_the_others_go_on(supervised: Any) -> None:
    one = supervised(steady=ENDS_WELL, dying="print('here'); raise SystemExit(3)", killed=ENDS_WELL)
    steady, (killed, child) = one.pids("steady"), one.pids("killed")
    os.kill(killed, signal.SIGKILL)
    assert "SIGKILL" in one.hears("part died", of="killed")["message"]
    assert all(map(is_alive, one.pids("killed", but=[killed, child])))
    assert not is_alive(child), "what it had started has ended with it"

    def ends() -> list[str]:
        return [line["message"] for line in list(one.lines) if line.get("of") == "dying"]

    until(lambda: len(ends()) >= 3)
    assert ends()[:3] == [f"dying has ended (exit code 3); started again in {wait} s" for wait in (1, 2, 4)]
    assert all(map(is_alive, steady))
    assert one.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_all_parts_and_what_they_have_started(
    supervised: Any, number: signal.Signals
) -> None:
    one = supervised(first=ENDS_WELL, second=SLEEPS)
    pids = [*one.pids("first"), *one.pids("second")]
    one.signal(number)
    assert one.wait() == 0
    assert one.lines[-1]["message"].startswith("stopping first, second")
    assert not any(map(is_alive, pids))


def test_a_part_that_does_not_end_is_killed(supervised: Any) -> None:
    one = supervised(grace=0.3, stubborn=STUBBORN)
    pids = one.pids("stubborn")
    one.hears("output", message="deaf")
    assert one.stop() == 1
    assert not any(map(is_alive, pids))

    patient = supervised(stubborn=STUBBORN)
    pids = patient.pids("stubborn")
    patient.hears("output", message="deaf")
    patient.signal(signal.SIGTERM)
    patient.hears("stopping")
    patient.signal(signal.SIGTERM)
    assert patient.wait() == 1
    assert not any(map(is_alive, pids))


def test_a_part_that_cannot_work_ends_all(supervised: Any) -> None:
    one = supervised(steady=ENDS_WELL, refusing="import time; time.sleep(1); print('taken'); exit(2)")
    pids = one.pids("steady")
    assert one.wait() == 2
    assert any(line["message"] == "taken" for line in one.lines)
    assert not any(map(is_alive, pids))


def test_the_parts_end_with_a_supervisor_that_is_killed(supervised: Any) -> None:
    one = supervised(first=SLEEPS, stubborn=STUBBORN)
    pids = [one.pids("first")[0], one.pids("stubborn")[0]]
    one.kill()
    until(lambda: not any(map(is_alive, pids)))


def test_lines_of_parts_are_told_apart(supervised: Any) -> None:
    told = {"at": "2024-01-01T00:00:00+00:00", "part": "?", "level": "error", "event": "odd", "message": "é"}
    code = (
        f"import time; print({json.dumps(told)!r}); print('plain'); print('{{\"a\": 1}}'); time.sleep(1000)"
    )
    one = supervised(talking=code)
    assert one.hears("odd") == {**told, "part": "talking"}
    assert one.hears("output")["message"] == "plain"
    assert one.hears("output")["message"] == '{"a": 1}'
    assert one.lines[0]["at"] < one.lines[1]["at"]
