"""What an isolated process does: load the project, then carry out one request after the other.

`python -m envol.pipeline.isolation.child SOCKET PARENT ROOT SCRATCH`: the descriptor of the socket to the
run, the id of the run's process, the project's folder, and the folder where tables are handed over.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import polars as pl

from envol.errors import EnvolError, Failure
from envol.pipeline.compute import compute
from envol.pipeline.isolation.messages import (
    Answer,
    Batch,
    Closed,
    Complete,
    Failed,
    Fitted,
    Frame,
    Note,
    Ready,
    Request,
    new_file,
    read_table,
    receive,
    send,
    table_file,
)
from envol.project import Project, load_project
from envol.project.nodes import Model, Node

BATCHES_AHEAD = 2
"""How many batches may wait to be taken."""
HANDED_APART = ("node", "X", "y")
"""What of `Trained` the run knows already, or gets as a table."""
_PR_SET_PDEATHSIG = 1
_UNBUFFERED = 2  # _IONBF of stdio.h
_FIRST_TO_END = "1000"


def main(descriptor: int, parent: int, root: Path, scratch: Path) -> None:
    """Serve the run at the other end of the socket until that is closed."""
    _prepare(parent)
    run = socket.socket(fileno=descriptor)
    run.set_inheritable(False)
    with contextlib.suppress(Closed):
        try:
            project = load_project(root)
            project.definitions  # noqa: B018 - of the modules as they are imported now
        except EnvolError as error:
            traceback.print_exception(error)
            send(run, Failed.of(error))
            return
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        send(run, Ready())
        child = _Child(run, project, scratch)
        while True:
            message, files = receive(run)
            if isinstance(message, Request):
                child.serve(message, files)


class _Child:
    def __init__(self, run: socket.socket, project: Project, scratch: Path) -> None:
        self._run, self._project, self._scratch = run, project, scratch

    def serve(self, request: Request, files: Sequence[IO[bytes]]) -> None:
        """Carry a request out; what goes wrong is answered as well."""
        failed = False
        try:
            self._carry_out(request, files)
        except Closed:
            raise
        except BaseException as error:  # the user's code may also exit, and Polars panic
            traceback.print_exception(error)
            send(self._run, Failed.of(error if isinstance(error, EnvolError) else _as_failure(error)))
            failed = True
        if failed:
            gc.collect()  # tables that the traceback's frames hold on to

    def _carry_out(self, request: Request, files: Sequence[IO[bytes]]) -> None:
        definition = self._project.definitions.get(request.node)
        if definition is None or [str(part) for part in astuple(definition)] != request.definition:
            raise Failure("the project was edited after the run had begun", remedy="run again")
        node = self._project.graph.nodes[request.node]
        frames = {name: read_table(file) for name, file in zip(request.tables, files, strict=True)}
        if isinstance(node, Model):
            self._fit(node, frames, request.cutoff or 0)
        else:
            self._make(node, frames, request.window or 0)

    def _make(self, node: Node, frames: Mapping[str, pl.DataFrame], epoch: int) -> None:
        window = self._project.calendar.from_epoch(self._project.graph.period_of(node.name), epoch)
        rows: Any = compute(node, frames, window, self._parameters(node))
        if isinstance(rows, pl.DataFrame):
            self._answer(Frame(), table_file(rows, self._scratch))
            return
        room = BATCHES_AHEAD
        for batch in rows:
            if room == 0:
                receive(self._run)  # Taken
                room += 1
            self._answer(Batch(), table_file(batch, self._scratch))
            room -= 1
        self._answer(Complete())

    def _fit(self, node: Model, frames: Mapping[str, pl.DataFrame], epoch: float) -> None:
        import cloudpickle

        from envol.training import train

        trained = train(
            node,
            frames["features"],
            frames["labels"],
            cutoff=datetime.fromtimestamp(epoch, UTC).astimezone(self._project.calendar.zone),
            parameters=self._parameters(node),
            progress=lambda text: self._answer(Note(text)),
        )
        told = {field.name: getattr(trained, field.name) for field in fields(trained)}
        pickled = new_file(self._scratch)
        cloudpickle.dump({name: told[name] for name in told if name not in HANDED_APART}, pickled)
        pickled.flush()
        self._answer(
            Fitted(),
            pickled,
            *(table_file(part, self._scratch) for part in (trained.X, trained.y.to_frame())),
        )

    def _parameters(self, node: Node) -> Mapping[str, Any]:
        return self._project.parameters[node.name].values

    def _answer(self, answer: Answer, *files: IO[bytes]) -> None:
        send(self._run, answer, files)
        for file in files:
            file.close()


def _as_failure(error: BaseException) -> Failure:
    calls = traceback.extract_tb(error.__traceback__)
    return Failure(
        f"{type(error).__name__} at {calls[-1].filename}:{calls[-1].lineno}: {error}",
        remedy="look at the task's log: envol runs --log",
    )


def _prepare(parent: int) -> None:
    """Die with the run, be the first that the kernel ends when memory is short, and say all before dying."""
    libc = ctypes.CDLL(None)
    with contextlib.suppress(AttributeError):  # Linux has it
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_END)
    for stream in ("stdout", "stderr"):
        with contextlib.suppress(ValueError):  # glibc and musl name them so
            libc.setvbuf(ctypes.c_void_p.in_dll(libc, stream), None, _UNBUFFERED, 0)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
