"""What a task prints and logs, kept with the task instead of mixed with the others'."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TextIO

LIMIT = 64 * 1024
_current: ContextVar[io.StringIO | None] = ContextVar("envol_task_log", default=None)


@contextmanager
def task_log() -> Iterator[io.StringIO]:
    """Collect what this thread prints and logs inside the block."""
    buffer = io.StringIO()
    token = _current.set(buffer)
    try:
        yield buffer
    finally:
        _current.reset(token)


def shortened(buffer: io.StringIO) -> str:
    """The log's text, its middle left out where it is longer than 64 KiB."""
    text = buffer.getvalue()
    if len(text) <= LIMIT:
        return text
    half = LIMIT // 2
    return f"{text[:half]}\n... {len(text) - LIMIT} characters left out ...\n{text[-half:]}"


@contextmanager
def divided_output() -> Iterator[None]:
    """While the block runs, prints and log records of tasks go to their task's log."""
    handler = _TaskHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    out, err = sys.stdout, sys.stderr
    root.addHandler(handler)
    sys.stdout, sys.stderr = _Divided(out), _Divided(err)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
        root.removeHandler(handler)


class _TaskHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        buffer = _current.get()
        if buffer is not None:
            buffer.write(self.format(record) + "\n")


class _Divided(io.TextIOBase):
    """A stream that hands each write to the task's log of the thread that writes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return (_current.get() or self._stream).write(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return _current.get() is None and self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding
