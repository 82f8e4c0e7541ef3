"""The windows that this run has just made, kept in memory for the tasks that read them next."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping

import polars as pl

LIMIT_BYTES = 256_000_000


class Recent:
    """Windows of tables as the lake gives them, the least recently used dropped beyond a size.

    Only the run itself writes to the lake while it holds the project's lock, so nothing in here is ever old.
    """

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._frames: OrderedDict[tuple[str, int], pl.DataFrame] = OrderedDict()
        self._size = 0

    def put(self, window: int, tables: Mapping[str, pl.DataFrame]) -> None:
        """Keep what was committed for the window that starts at this epoch."""
        with self._lock:
            for table, frame in tables.items():
                self._drop((table, window))
                self._frames[table, window] = frame
                self._size += int(frame.estimated_size())
            while self._size > self._limit:
                self._drop(next(iter(self._frames)))

    def read(self, table: str, windows: Iterable[int]) -> pl.DataFrame | None:
        """The rows of these windows in their order; None when one is not here or has other columns."""
        frames = []
        with self._lock:
            for window in windows:
                frame = self._frames.get((table, window))
                if frame is None:
                    return None
                self._frames.move_to_end((table, window))
                frames.append(frame)
        if not frames or any(frame.schema != frames[-1].schema for frame in frames):
            return None
        return pl.concat(frames, rechunk=True)

    def _drop(self, key: tuple[str, int]) -> None:
        frame = self._frames.pop(key, None)
        if frame is not None:
            self._size -= int(frame.estimated_size())
