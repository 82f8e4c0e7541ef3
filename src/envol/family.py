"""Processes that end with the one that started them, however that ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from typing import IO

SUPERVISED = "ENVOL_SUPERVISED"
"""Variable that tells a process that its standard input is the line to the one that started it."""
_PR_SET_PDEATHSIG = 1


def take_line() -> IO[bytes]:
    """Standard input, which is the line to the process that started this one; nothing else reads it now."""
    line = os.fdopen(os.dup(0), "rb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return line


def end_with(line: IO[bytes]) -> None:
    """End this process and its group at once when the other end of the line is closed."""
    with contextlib.suppress(OSError, AttributeError):  # Linux: even where Python's threads are held up
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def wait() -> None:
        with contextlib.suppress(OSError, ValueError):
            while line.read(1):
                pass
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=wait, name="line", daemon=True).start()


def end_with_supervisor() -> None:
    """`end_with`, where a supervisor has started this process."""
    if os.environ.pop(SUPERVISED, ""):
        end_with(take_line())


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a child has ended; where the system can, its id is kept until somebody waits for it."""
    if process.returncode is not None or not hasattr(os, "waitid"):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a group, and all that is left of its group; waits for it."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
