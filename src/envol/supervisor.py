"""Parts of a project at work as processes: started together, restarted when they die, ended by one signal.

What they write becomes one stream of lines (see `envol.log`), each with the name of its part.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import IO, Any

from envol.errors import UserError
from envol.family import SUPERVISED, end_group, has_ended
from envol.log import Entry, entry

SUPERVISOR = "up"
LOOK_SECONDS = 0.2
FIRST_SECONDS, LONGEST_SECONDS = 1.0, 60.0
HEALTHY_SECONDS = 60.0
_LAST_WORDS_SECONDS = 2.0
KILLED = 1


@dataclass(frozen=True)
class Part:
    """One process to keep at work: its name in the stream, and its command.

    It ends with exit code 2 when only the user can put right what is wrong.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class Supervisor:
    """Keeps parts at work until SIGINT or SIGTERM; a second signal ends them at once.

    A part that dies is started again after 1 s, 2 s, 4 s and so on up to a minute; once it has worked for a
    minute, the count begins anew. All parts end where one of them says at its start that it cannot work.

    Args:
        write: gets the lines of all parts, from several threads, one at a time.
        grace: seconds that the parts have to end after the first signal before they are killed.
    """

    def __init__(self, parts: Iterable[Part], write: Callable[[Entry], None], *, grace: float) -> None:
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._write, self._writing = write, threading.Lock()
        self._kept = [_Kept(part, self._put) for part in parts]
        self._grace = grace
        self._signals = 0

    def run(self) -> int:
        """Start the parts and keep them at work; returns when all have ended.

        Returns:
            The exit code: 0; 1 where a part had to be killed; 2 where one cannot work as the user has it.
        """
        with self._listening():
            code = self._keep()
            self._end()
            killed = self._wait()
        return code or killed

    def _keep(self) -> int:
        while not self._signals:
            for kept in self._kept:
                if kept.look() == UserError.exit_code:
                    return UserError.exit_code
            self._rest()
        return 0

    def _end(self) -> None:
        names = ", ".join(kept.part.name for kept in self._kept if kept.process is not None)
        if names:
            self._put(entry(SUPERVISOR, "stopping", f"stopping {names}; once more to stop at once"))
        for kept in self._kept:
            kept.stop()

    def _wait(self) -> int:
        """Wait for all to end, and kill those that do not in time."""
        deadline, signals, code = time.monotonic() + self._grace, self._signals, 0
        while any(not kept.has_ended() for kept in self._kept):
            if self._signals > signals or time.monotonic() > deadline:
                code = KILLED
                break
            self._rest()
        for kept in self._kept:
            kept.kill()
        return code

    @contextmanager
    def _listening(self) -> Iterator[None]:
        def hear(_number: int, _frame: FrameType | None) -> None:
            self._signals += 1
            self._bell.put(None)

        before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _rest(self) -> None:
        with suppress(queue.Empty):
            self._bell.get(timeout=LOOK_SECONDS)

    def _put(self, line: Entry) -> None:
        with self._writing, suppress(OSError):  # where nobody reads, or the disk is full, the parts go on
            self._write(line)


class _Kept:
    """One part: its process while it lives, and when it is started again."""

    def __init__(self, part: Part, put: Callable[[Entry], None]) -> None:
        self.part, self._put = part, put
        self.process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._started, self._start_at = 0.0, 0.0
        self._deaths = 0
        self._settled = False

    def look(self) -> int | None:
        """Start it when it is time to; returns the exit code where it says that it cannot work."""
        if self.process is None:
            if time.monotonic() >= self._start_at:
                self._start()
            return None
        worked = time.monotonic() - self._started > HEALTHY_SECONDS
        if worked:
            self._settled, self._deaths = True, 0
        if not has_ended(self.process):
            return None
        code = self._bury()
        if code == UserError.exit_code and not self._settled:
            return code
        wait = min(FIRST_SECONDS * 2.0**self._deaths, LONGEST_SECONDS)
        self._deaths += 1
        self._start_at = time.monotonic() + wait
        told = f"{self.part.name} has ended ({_described(code)}); started again in {wait:g} s"
        fields: dict[str, Any] = {"exit_code": code, "of": self.part.name}
        self._put(entry(SUPERVISOR, "part died", told, level="error", **fields))
        return None

    def stop(self) -> None:
        """Ask it to end."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)

    def has_ended(self) -> bool:
        return self.process is None or has_ended(self.process)

    def kill(self) -> None:
        """End it, and whatever is left of what it has started."""
        if self.process is not None:
            self._bury()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            self.part.command,
            stdin=subprocess.PIPE,  # its line to this process, see envol.family
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **self.part.environment, SUPERVISED: "1"},
        )
        self._started = time.monotonic()
        self._reader = threading.Thread(
            target=self._read, args=[self.process.stdout], name=self.part.name, daemon=True
        )
        self._reader.start()

    def _bury(self) -> int:
        assert self.process is not None and self.process.stdin is not None and self._reader is not None
        end_group(self.process)
        self._reader.join(_LAST_WORDS_SECONDS)
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        code: int = self.process.returncode
        self.process = None
        return code

    def _read(self, output: IO[bytes]) -> None:
        for raw in output:
            self._put(_line(self.part.name, raw.decode(errors="replace").rstrip("\n")))


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module with this Python, without importing from the current folder."""
    return [sys.executable, "-P", "-m", module, *arguments]


def _line(part: str, text: str) -> Entry:
    """A line of a part's output: as it says itself, or what it printed."""
    with suppress(ValueError):
        told = json.loads(text)
        if isinstance(told, dict) and {"at", "part", "level", "event", "message"} <= told.keys():
            return {**told, "part": part}
    return entry(part, "output", text)


def _described(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
