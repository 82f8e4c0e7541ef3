"""A process and all that it has started: how much memory they hold, and how they are ended (Linux).

Run as a file, `python -I -S family.py MARK` waits until its standard input closes, as the run has ended in
whatever way. Then it ends the groups of processes that it has read once, not twice, and all that are marked.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

MARK = "_ENVOL_ISOLATED"
"""Environment variable that marks a process and all that it starts, also those that leave its group."""
_PROC = Path("/proc")
_HELD = re.compile(r"^(?:RssAnon|RssShmem|VmSwap):\s+(\d+) kB", re.MULTILINE)
_SHARE = re.compile(r"^(?:Pss_Anon|Pss_Shmem|SwapPss):\s+(\d+) kB", re.MULTILINE)
_ROUNDS = 100


def held(pid: int) -> int:
    """Bytes of memory that a process and its descendants hold and the kernel cannot take back.

    Files that are mapped, such as libraries, do not count. What processes share counts for each.
    """
    return sum(_sum(_HELD, process, "status") for process in _family(pid))


def share(pid: int) -> int:
    """As `held`, but what processes share is divided among them; this takes milliseconds for each GB."""
    return sum(_sum(_SHARE, process, "smaps_rollup") for process in _family(pid))


def _sum(lines: re.Pattern[str], pid: int, file: str) -> int:
    try:
        text = (_PROC / str(pid) / file).read_text()
    except OSError:  # it has ended
        return 0
    return 1024 * sum(map(int, lines.findall(text)))


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):  # they come and go
        for thread in (_PROC / str(pid) / "task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _family(int(child))


def end_group(group: int) -> None:
    """End every process of a group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def end_marked(mark: str) -> None:
    """End every process whose environment has that mark, until there is none."""
    for _ in range(_ROUNDS):
        found = list(_marked(mark))
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _marked(mark: str) -> Iterator[int]:
    entry = f"{MARK}={mark}".encode()
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            if any(one.startswith(entry) for one in (folder / "environ").read_bytes().split(b"\0")):
                yield int(folder.name)


if __name__ == "__main__":
    groups: set[int] = set()
    for line in sys.stdin:
        groups ^= {int(line)}
    for group in groups:
        end_group(group)
    end_marked(sys.argv[1])
