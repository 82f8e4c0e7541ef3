"""A run of the conductor as the conductor sees it: a process that is given an order and tells how it goes."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, tzinfo
from pathlib import Path
from typing import IO, Any

from envol.family import end_group, has_ended
from envol.log import tell

_RUN = "envol.pipeline.conducting.conductor_run"
_LOGGER = logging.getLogger("envol.conductor")
_LAST_WORDS_SECONDS = 5.0
_WAITING = "envol.storage.waiting"
"""Says when the database is away, which the conductor, whose lease is in there, says as well."""


class RunProcess:
    """A process that carries one order out. It ends with the thread that has started it.

    Args:
        root: the project's folder.
        order: what to do, see `envol.pipeline.conducting.conductor_run`.
        ended: called by another thread when the process has closed its events, which it does at its end.
    """

    def __init__(self, root: Path, order: Mapping[str, Any], ended: Callable[[], None]) -> None:
        self.kind = "backfill" if "backfill" in order else "due"
        self.run: str | None = None
        """Id of the run, once it has begun."""
        self.result: Mapping[str, Any] | None = None
        """What it told at its end; None when it died before."""
        self._ended = ended
        read, write = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _RUN, str(root), str(write)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[write],
            start_new_session=True,
        )
        os.close(write)
        self.pid = self._process.pid
        self._threads = [
            threading.Thread(target=self._hear, args=[os.fdopen(read, "rb")], name="events", daemon=True),
            threading.Thread(target=self._repeat, args=[self._process.stdout], name="output", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead already, as will show
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()

    def exit_code(self) -> int | None:
        """How it ended (negative: by which signal); None while it runs. All that it told was heard then."""
        if not has_ended(self._process):
            return None
        end_group(self._process)
        for thread in self._threads:
            thread.join(_LAST_WORDS_SECONDS)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        return self._process.returncode

    def stop(self) -> None:
        """Let it end its running tasks, and begin no other."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, with all that it has started."""
        end_group(self._process)

    def _hear(self, events: IO[bytes]) -> None:
        with events:
            for line in events:
                event: dict[str, Any] = json.loads(line)
                kind, message, level = event["event"], event["message"], event["level"]
                fields: dict[str, Any] = event["fields"]
                if kind == "result":
                    self.result = fields
                    continue
                if kind == "run started":
                    self.run = fields["run"]
                name = fields.pop("logger", _LOGGER.name)
                if name != _WAITING:
                    tell(logging.getLogger(name), level, kind, message, **fields)
        self._ended()

    def _repeat(self, output: Iterable[bytes]) -> None:
        for line in output:
            tell(_LOGGER, logging.INFO, "output", line.decode(errors="replace").rstrip("\n"), run=self.run)


def summary(result: Mapping[str, Any]) -> str:
    """What came of a run, in a line."""
    counts = {name: result[name] for name in ("done", "unchanged", "failed", "skipped")}
    told = ", ".join(f"{number:,} {name}" for name, number in counts.items() if number) or "nothing done"
    by = f" by {result['cancelled_by']}" if result["cancelled_by"] else ""
    return f"run {result['run']} {result['state']}{by}: {told}, in {result['seconds']:,.1f} s"


def how_it_died(run: str | None, code: int) -> str:
    """That a process died without a result, in a line; `code` as `exit_code` tells it."""
    how = f"exit code {code}"
    if code < 0:
        with contextlib.suppress(ValueError):
            how = signal.Signals(-code).name
    return f"the process of {f'the run {run}' if run else 'a run that had not begun'} died ({how})"


def outlook(following: Mapping[str, Any] | None, zone: tzinfo) -> tuple[str, dict[str, Any]]:
    """What falls due next, in a line and as fields."""
    if following is None:
        return "nothing falls due any more: the project's data have ended", {}
    node, window = following["node"], following["window"]
    at = datetime.fromtimestamp(following["at"], zone).isoformat(timespec="minutes")
    return f"next due: {node} {window}, at {at}", {"node": node, "window": window, "due": at}
