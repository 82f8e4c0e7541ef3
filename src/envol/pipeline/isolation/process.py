"""One isolated process, as the run that started it sees it."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from envol.errors import Failure
from envol.pipeline.isolation.family import MARK, end_group, end_marked, held, share
from envol.pipeline.isolation.messages import Answer, Closed, Failed, Request, Taken, receive, send
from envol.project.nodes import Node

LOADING_SECONDS = 300
GROWN_BYTES = 300_000_000
"""How much more than just after loading a process may hold when it is given another task."""
_CHILD = "envol.pipeline.isolation.child"
_LOOK_MS = 100  # how soon a death shows where a child of the process holds its socket open
_DYING_SECONDS = 1
_DUMP_SECONDS = 0.5, 0.05  # until it begins, and for the rest of it
_SETTLING_SECONDS = 1.0  # Polars gives memory back half a second after it is freed
_READ_BYTES = 1 << 16
_MOST_READS = 1 << 10  # at a time, so that a flood of output does not hold up the rest
_LOG = "look at the task's log: envol runs --log"


class IsolatedProcess:
    """Starts a process that loads the project and carries out one request after the other.

    One thread talks to it, while another enforces its limits. What the process and its children write to
    their standard output and error is printed by the thread that waits for an answer.

    Args:
        root: the project's folder.
        scratch: the folder where tables are handed over.
        mark: tells the process, and all that it starts, from all others; ends with "/".
    """

    def __init__(self, root: Path, scratch: Path, mark: str) -> None:
        self._mark = mark
        self._socket, theirs = socket.socketpair()
        self._output, output = os.pipe()
        os.set_blocking(self._output, False)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        options = ["-u", "-P"]  # print at once, as the process may die; do not import from the current folder
        arguments = [str(theirs.fileno()), str(os.getpid()), str(root), str(scratch)]
        self._process = subprocess.Popen(
            [sys.executable, *options, "-m", _CHILD, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env={**os.environ, MARK: mark},
        )
        theirs.close()
        os.close(output)
        self.pid = self._process.pid
        """Also the id of its group of processes."""
        self._events = select.poll()
        self._events.register(self._socket, select.POLLIN)
        self._events.register(self._output, select.POLLIN)
        self._held_when_loaded: int | None = None
        self._limiting = threading.Lock()
        self._seconds_left: float | None = None
        self._deadline: float | None = None
        self._late = Failure("")
        self._memory: int | None = None
        self._held_before = 0
        self._ended_for: Failure | None = None
        self._spoke = threading.Event()

    def ask(self, node: Node, request: Request, files: Sequence[IO[bytes]]) -> None:
        """Send a request; from now on the node's limits hold.

        Raises:
            EnvolError: the process could not load the project, or died.
        """
        if self._held_when_loaded is None:
            self._load()
        self._seconds_left = node.timeout
        self._late = Failure(
            f"not done after {node.timeout or 0:g} s, and ended",
            remedy="the task's log shows where it was; make it quicker, or raise its `timeout`",
        )
        self._held_before = held(self.pid)
        self._memory = node.memory
        self._send(request, files)

    def answer(self) -> tuple[Answer, list[IO[bytes]]]:
        """The next answer with its files; the time limit counts the time that is spent in here.

        Raises:
            Failure: the process died, or was ended at one of its limits.
        """
        began = time.monotonic()
        if self._seconds_left is not None:
            self._deadline = began + self._seconds_left
        try:
            return self._receive()
        finally:
            self._deadline = None
            if self._seconds_left is not None:
                self._seconds_left -= time.monotonic() - began

    def taken(self) -> None:
        """Tell that a batch has been taken."""
        self._send(Taken(), ())

    def finish(self) -> None:
        """The last answer has come: the limits no longer hold."""
        with self._limiting:
            self._seconds_left = self._deadline = self._memory = None

    def is_fit(self) -> bool:
        """Whether it can take another task: it lives, and does not hold much of earlier ones."""
        settled = time.monotonic() + _SETTLING_SECONDS
        while self._ended_for is None and self._process.poll() is None:
            if held(self.pid) - (self._held_when_loaded or 0) <= GROWN_BYTES:
                return True
            if time.monotonic() > settled:
                return False
            time.sleep(0.05)
        return False

    def enforce_limits(self) -> None:
        """End the process if its time is up, or the task has taken more memory than its node may."""
        with self._limiting:
            if self._ended_for is not None:
                return
            if self._deadline is not None and time.monotonic() > self._deadline:
                self._ended_for = self._late
            elif self._memory is not None and self._taken_bytes(self._memory) > self._memory:
                self._ended_for = Failure(
                    f"took more than {_size(self._memory)} of memory, and was ended",
                    remedy="the task's log shows where it was; read less at once, or raise its `memory`",
                )
            else:
                return
            self._spoke.clear()
            self._process.send_signal(signal.SIGUSR1)  # faulthandler writes where it is
            self._spoke.wait(_DUMP_SECONDS[0])
            time.sleep(_DUMP_SECONDS[1])
            self._end_family()

    def dismiss(self) -> None:
        """Tell the process to end by itself."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def end(self, patience: float = 0) -> None:
        """End the process and all that it started, which get some seconds to end by themselves."""
        if self._socket.fileno() < 0:
            return
        self.finish()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self._end_family()
        self._process.wait()
        self._socket.close()
        os.close(self._output)

    def _load(self) -> None:
        self._seconds_left = LOADING_SECONDS
        self._late = Failure(
            f"the project was not loaded after {LOADING_SECONDS} s",
            remedy="the task's log shows where it was; do less when a module is imported",
        )
        answer, _ = self.answer()
        if isinstance(answer, Failed):
            raise answer.error()
        self._held_when_loaded = held(self.pid)

    def _send(self, message: Request | Taken, files: Sequence[IO[bytes]]) -> None:
        with contextlib.suppress(Closed):  # `answer` tells what it died of
            send(self._socket, message, files)

    def _receive(self) -> tuple[Answer, list[IO[bytes]]]:
        while True:
            is_dead = self._process.poll() is not None
            ready = {descriptor for descriptor, _ in self._events.poll(0 if is_dead else _LOOK_MS)}
            if self._output in ready:
                self._print_output()
            if self._socket.fileno() in ready:
                try:
                    answer, files = receive(self._socket)
                except Closed:
                    raise self._death() from None
                self._print_output()
                assert not isinstance(answer, Request | Taken)
                return answer, files
            if is_dead:
                raise self._death()

    def _print_output(self) -> None:
        for _ in range(_MOST_READS):
            try:
                data = os.read(self._output, _READ_BYTES)
            except BlockingIOError:
                return
            if not data:  # it has closed both
                with contextlib.suppress(KeyError):
                    self._events.unregister(self._output)
                return
            print(self._decoder.decode(data), end="")
            self._spoke.set()

    def _death(self) -> Failure:
        """Why the process, which has closed its socket, is gone."""
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_DYING_SECONDS)
        self._end_family()
        self._print_output()
        if self._ended_for is not None:
            return self._ended_for
        if code is None:
            return Failure("its process closed the connection to the run", remedy=_LOG)
        if code == -signal.SIGKILL:
            return Failure(
                "its process was killed (SIGKILL), as the kernel does when memory is short",
                remedy="give the node a `memory` limit, run fewer tasks side by side, or add memory",
            )
        if code < 0:
            return Failure(f"its process died ({_signal_name(-code)})", remedy=_LOG)
        return Failure(f"its process ended with exit code {code}", remedy=_LOG)

    def _taken_bytes(self, limit: int) -> int:
        taken = held(self.pid) - self._held_before
        return taken if taken <= limit else share(self.pid) - self._held_before

    def _end_family(self) -> None:
        end_group(self.pid)
        end_marked(self._mark)


def _size(memory: int) -> str:
    return f"{memory / 1e9:.1f} GB" if memory >= 1e9 else f"{memory / 1e6:.0f} MB"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
