"""The service as a child process: started, waited for until it answers, ended cleanly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import msgspec

from envol.errors import Failure

_LOOK_SECONDS = 0.05
_TAIL_BYTES = 4000


class ServerProcess:
    """`python -m envol.serving` on a project, as a context manager.

        with ServerProcess(project.root) as server:
            httpx.get(f"{server.url}/ready")

    Args:
        root: the project's folder.
        host: address to listen at.
        port: port to listen at; 0 takes a free one.
        environment: variables over those of this process.
        log: file that gets the service's output; a temporary one when left out.
        patience: seconds to wait for its start, and for its end before it is killed.
    """

    def __init__(
        self,
        root: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        patience: float = 60.0,
    ) -> None:
        self.root = root
        self._command = [
            sys.executable,
            "-m",
            "envol.serving",
            str(root),
            "--host",
            host,
            "--port",
            str(port),
        ]
        self._environment = os.environ | dict(environment or {})
        self._given_log = log
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.url = ""

    @property
    def pid(self) -> int:
        """Id of the process."""
        if self._process is None:
            raise Failure("the service was not started", remedy="call start(), or use it in a with statement")
        return self._process.pid

    @property
    def output(self) -> str:
        """What the service has written so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> ServerProcess:
        """Start it, and wait until it answers at `url`.

        Raises:
            Failure: it ended, or did not answer in time; with the end of its output.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="envol-serve-")
        ready = Path(self._folder.name) / "ready.json"
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._command, "--ready-file", str(ready)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )
        deadline = time.monotonic() + self._patience
        while not ready.exists():
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                told = "did not answer in time" if code is None else f"ended with exit code {code}"
                tail = self.output[-_TAIL_BYTES:].strip()
                self.stop()
                raise Failure(f"the service {told}: {tail}", remedy="run it by hand: envol serve")
            time.sleep(_LOOK_SECONDS)
        self.url = str(msgspec.json.decode(ready.read_bytes())["url"])
        return self

    def wait(self) -> int:
        """Wait for its end; returns the exit code (negative: the signal that ended it).

        Raises:
            Failure: it does not end in time.
        """
        if self._process is None:
            return 0
        try:
            return self._process.wait(self._patience)
        except subprocess.TimeoutExpired:
            raise Failure(
                f"the service (process {self.pid}) does not end", remedy="kill it by its id"
            ) from None

    def stop(self) -> int:
        """End it cleanly, or by force when it does not; returns the exit code. May be called twice."""
        try:
            if self._process is None:
                return 0
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
            try:
                return self.wait()
            except Failure:
                self._process.kill()
                return self._process.wait()
        finally:
            if self._folder is not None:
                self._folder.cleanup()

    def __enter__(self) -> ServerProcess:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _log(self) -> Path:
        if self._given_log is not None:
            return self._given_log
        return Path(self._folder.name if self._folder else tempfile.gettempdir()) / "serve.log"
