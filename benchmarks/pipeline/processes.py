"""Running a tool's command: seconds, peak memory of all its processes, and kill -9 of them all."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

SAMPLE_SECONDS = 0.1
_PR_SET_CHILD_SUBREAPER = 36
ME = psutil.Process()


@dataclass(frozen=True)
class Ran:
    """One command: wall seconds from start to exit, peak bytes, exit code (-9 where it was killed)."""

    seconds: float
    peak: int
    code: int


def adopt_orphans() -> None:
    """Processes whose parent ends become children of this one, so that none escapes the count or the kill."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    output: Path,
    kill_when: Callable[[], bool] | None = None,
) -> Ran:
    """Run a command to its end, or kill -9 all of its processes as soon as `kill_when` says so."""
    finished = threading.Event()
    peaks = [0]
    sampler = threading.Thread(target=sample, args=(finished, peaks), daemon=True)
    with output.open("ab") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        sampler.start()
        if kill_when:
            while process.poll() is None and not kill_when():
                time.sleep(0.0005)
        else:
            process.wait()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kill_all()
        process.wait()
        seconds = time.perf_counter() - began
    finished.set()
    sampler.join()
    kill_all()
    collect()
    return Ran(seconds, max(peaks), process.returncode)


def kill_all() -> None:
    """kill -9 of every process below this one, until there is none."""
    while children := [child for child in ME.children(recursive=True) if not ended(child)]:
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        time.sleep(0.005)


def ended(process: psutil.Process) -> bool:
    """Whether a process is gone, or only waits to be collected."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def sample(finished: threading.Event, peaks: list[int]) -> None:
    """Proportional set size of all processes below this one, summed, as often as it is cheap."""
    while not finished.wait(SAMPLE_SECONDS):
        total = 0
        for child in ME.children(recursive=True):
            with suppress(psutil.Error, OSError):
                total += child.memory_full_info().pss
        peaks.append(total)


def collect() -> None:
    """Collect the adopted processes that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
