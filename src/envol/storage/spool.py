"""Rows of one window that are more than fit in memory: batches on disk, on their way into the lake."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from envol.errors import DataError, StorageError
from envol.storage.disk import make_folder
from envol.storage.dtypes import described


class Spool:
    """Frames of one table in the order they came, kept in memory up to a size and on disk beyond it.

    Batches may lack columns that others have. Use it as a context manager: its files go at the end.

    Args:
        folder: where its files go; made when first needed.
        memory: bytes that are kept in memory.
    """

    def __init__(self, folder: Path, *, memory: int = 64_000_000) -> None:
        self._parent, self._memory = folder, memory
        self._folder: Path | None = None
        self._frames: list[pl.DataFrame | Path] = []
        self._held = 0
        self.schema = pl.Schema()
        self.height = 0

    def append(self, frame: pl.DataFrame) -> None:
        """Add a batch.

        Raises:
            DataError: a column has another dtype than in an earlier batch.
            StorageError: the disk is full or cannot be written.
        """
        self._take_schema(frame)
        self.height += frame.height
        size = int(frame.estimated_size())
        if self._held + size <= self._memory:
            self._held += size
            self._frames.append(frame)
        elif frame.height or not self._frames:
            try:
                path = self._place() / f"{len(self._frames)}.arrow"
                frame.write_ipc(path, compression="lz4")
            except OSError as error:
                raise StorageError(
                    f"batches on their way into the lake cannot be kept in {self._parent}: {error}",
                    remedy=f"free space on the disk of {self._parent}",
                ) from error
            self._frames.append(path)

    def is_empty(self) -> bool:
        """Whether it has no row."""
        return self.height == 0

    @property
    def in_memory(self) -> bool:
        """Whether all of it is still in memory."""
        return self._folder is None

    def frames(self) -> Iterator[pl.DataFrame]:
        """The batches, each with all columns; at least one, if an empty one."""
        for frame in self._frames or [pl.DataFrame(schema=self.schema)]:
            whole = pl.read_ipc(frame) if isinstance(frame, Path) else frame
            given = [self._column(whole, name, dtype) for name, dtype in self.schema.items()]
            yield pl.DataFrame(given)

    def frame(self) -> pl.DataFrame:
        """All rows as one frame."""
        return pl.concat(list(self.frames()))

    def close(self) -> None:
        """Remove its files."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._frames, self._folder = [], None

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_schema(self, frame: pl.DataFrame) -> None:
        for name, dtype in frame.schema.items():
            before = self.schema.get(name, pl.Null())
            if before == pl.Null:
                self.schema[name] = dtype
            elif dtype not in (before, pl.Null):
                raise DataError(
                    f"column {name!r} is {described(dtype)} in batch {len(self._frames) + 1}"
                    f" and {described(before)} in those before",
                    remedy=f"give it one dtype in all batches, for example {described(before)}",
                )

    def _column(self, frame: pl.DataFrame, name: str, dtype: pl.DataType) -> pl.Series:
        if name in frame.columns:
            return frame.get_column(name).cast(dtype)
        return pl.Series(name, [None], dtype).new_from_index(0, frame.height)

    def _place(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="spool-", dir=make_folder(self._parent)))
        return self._folder
