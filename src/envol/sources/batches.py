"""What a connector returns: the rows of a window in batches, so that only one batch is in memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import polars as pl

BATCH_ROWS = 50_000


class Batches(Iterator[pl.DataFrame]):
    """An iterator of frames, all of one schema; at least one, which may have no rows.

    Nothing is read before the first frame is asked for. A source may return it as it is, go through it
    (`for frame in batches: yield ...`), or have it whole by `collect()`.
    """

    def __init__(self, frames: Generator[pl.DataFrame]) -> None:
        self._frames = frames

    def __next__(self) -> pl.DataFrame:
        return next(self._frames)

    def collect(self) -> pl.DataFrame:
        """All that is left, as one frame in memory."""
        return pl.concat(self)

    def close(self) -> None:
        """Give up the rest, and the connection or file it comes from."""
        self._frames.close()


def rebatched(frames: Iterator[pl.DataFrame], rows: int) -> Generator[pl.DataFrame]:
    """The same rows in frames of `rows` each; the last one may be shorter. There is one if there was any."""
    waiting: pl.DataFrame | None = None
    started = False
    for frame in frames:
        waiting = frame if waiting is None else waiting.vstack(frame)
        while waiting.height >= rows:
            yield waiting.head(rows).rechunk()
            started, waiting = True, waiting.slice(rows)
    if waiting is not None and (waiting.height or not started):
        yield waiting.rechunk()
