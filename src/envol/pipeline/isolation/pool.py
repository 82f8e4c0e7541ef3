"""The isolated processes of a run, started when they are needed and used again."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import astuple
from datetime import datetime
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

import polars as pl

from envol.pipeline.isolation.keeper import Keeper
from envol.pipeline.isolation.messages import (
    Answer,
    Batch,
    Complete,
    Failed,
    Frame,
    Note,
    Request,
    read_table,
    table_file,
)
from envol.pipeline.isolation.process import IsolatedProcess
from envol.project import Project
from envol.project.nodes import Model, Node
from envol.project.windows import Window
from envol.storage import make_folder

if TYPE_CHECKING:
    from envol.training import Trained

LOOK_SECONDS = 0.05
"""How often the limits are looked at."""
LEAVING_SECONDS = 2.0
"""How long idle processes get at the end of the run to end by themselves."""

_Told = tuple[Answer, list[IO[bytes]]]


class Isolation:
    """Carries tasks out in processes of their own, within a node's `timeout` and `memory`; threads share it.

    A context manager: at its end all processes are ended, with all that they have started; so they are when
    this process is killed. None is started before the first task, nor more than there are tasks at once.
    A process loads the project once, and is replaced when it died, was ended at a limit, or has grown.

    What a task writes to its standard output and error, also from C and from its children, is printed by the
    thread that called.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._mark = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._idle: list[IsolatedProcess] = []
        self._processes: list[IsolatedProcess] = []
        self._started = 0
        # A process dies with the thread that started it, which therefore is one that lasts.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="isolation")
        self._keeper: Keeper | None = None
        self._watcher = threading.Thread(target=self._watch, name="isolation-limits", daemon=True)
        self._ending = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def compute(
        self, node: Node, frames: Mapping[str, pl.DataFrame], window: Window
    ) -> pl.DataFrame | Iterator[pl.DataFrame]:
        """As `pipeline.compute`: the rows of the window, or its batches where the function yields such.

        Batches are computed while earlier ones are used, but no more than two ahead; the time limit counts
        while the caller waits. Closing the iterator ends the process.

        Raises:
            EnvolError: what `compute` raises; a Failure when the process died, or was ended at a limit.
        """
        request = Request(node.name, self._definition(node), list(frames), window=window.epoch)
        answers = self._carry_out(node, request, frames)
        answer, files = next(answers)
        if isinstance(answer, Frame):
            return read_table(files[0])
        return _batches((answer, files), answers)

    def train(
        self,
        node: Model,
        features: pl.DataFrame,
        labels: pl.DataFrame,
        cutoff: datetime,
        progress: Callable[[str], None] = print,
    ) -> Trained:
        """As `training.train` with the node's parameters.

        Raises:
            EnvolError: what `train` raises; a Failure when the process died, or was ended at a limit.
        """
        import cloudpickle

        from envol.training import Trained

        frames = {"features": features, "labels": labels}
        request = Request(node.name, self._definition(node), list(frames), cutoff=cutoff.timestamp())
        for answer, files in self._carry_out(node, request, frames):
            if isinstance(answer, Note):
                progress(answer.text)
            else:
                pickled, X, y = files
                with pickled:
                    told = cloudpickle.load(pickled)
                trained = Trained(node=node, X=read_table(X), y=read_table(y).to_series(), **told)
        return trained

    def close(self) -> None:
        """End all processes."""
        self._ending.set()
        for process in self._idle:
            process.dismiss()
        until = time.monotonic() + LEAVING_SECONDS
        for process in list(self._processes):
            self._end(process, max(until - time.monotonic(), 0) if process in self._idle else 0)
        if self._keeper is not None:
            self._keeper.close()
            self._watcher.join()
        self._starter.shutdown()

    def _carry_out(
        self, node: Node, request: Request, frames: Mapping[str, pl.DataFrame]
    ) -> Generator[_Told]:
        with ExitStack() as opened:
            files = [opened.enter_context(table_file(frame, self._scratch)) for frame in frames.values()]
            process = self._take()
            try:
                process.ask(node, request, files)
                opened.close()
                answer, files = process.answer()
                while isinstance(answer, Note | Batch):
                    yield answer, files
                    if isinstance(answer, Batch):
                        process.taken()
                    answer, files = process.answer()
            except BaseException:
                self._end(process)
                raise
        process.finish()
        with self._lock:
            self._idle.append(process)
        if isinstance(answer, Failed):
            raise answer.error()
        yield answer, files

    def _take(self) -> IsolatedProcess:
        while True:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            if process is None:
                return self._starter.submit(self._start).result()
            if process.is_fit():
                return process
            self._end(process)

    def _start(self) -> IsolatedProcess:
        if self._keeper is None:
            self._keeper = Keeper(f"{self._mark}/")
            self._watcher.start()
        self._started += 1
        process = IsolatedProcess(self._project.root, self._scratch, f"{self._mark}/{self._started}/")
        self._keeper.toggle(process.pid)
        with self._lock:
            self._processes.append(process)
        return process

    def _end(self, process: IsolatedProcess, patience: float = 0) -> None:
        process.end(patience)
        with self._lock:
            if process in self._processes and self._keeper is not None:
                self._processes.remove(process)
                self._keeper.toggle(process.pid)

    def _watch(self) -> None:
        while not self._ending.wait(LOOK_SECONDS):
            with self._lock:
                processes = list(self._processes)
            for process in processes:
                process.enforce_limits()

    @cached_property
    def _scratch(self) -> Path:
        return make_folder(self._project.store_path)

    def _definition(self, node: Node) -> list[str]:
        return [str(part) for part in astuple(self._project.definitions[node.name])]


def _batches(first: _Told, more: Generator[_Told]) -> Iterator[pl.DataFrame]:
    with closing(more):
        for answer, files in chain([first], more):
            if not isinstance(answer, Complete):
                yield read_table(files[0])
