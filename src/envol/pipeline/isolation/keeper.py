"""Sees to it that nothing of a run's isolated processes is left when the run itself is killed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading

from envol.pipeline.isolation import family


class Keeper:
    """A small process that outlives this one: it ends the groups that were under way, and what is marked."""

    def __init__(self, mark: str) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", family.__file__, mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )

    def toggle(self, group: int) -> None:
        """Tell that a group of processes is under way, or, the second time, that it has ended."""
        assert self._process.stdin is not None
        with self._lock, contextlib.suppress(BrokenPipeError):  # it was killed, and is a precaution only
            self._process.stdin.write(f"{group}\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """Let it do its work and end."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()
