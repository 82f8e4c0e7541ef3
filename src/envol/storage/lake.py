"""The lake: tables of windows in DuckLake, Parquet files beside a catalog in SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import polars as pl
from polars.io.plugins import register_io_source

from envol.project.windows import Window
from envol.storage import catalog, maintenance
from envol.storage.catalog import table_sql
from envol.storage.committing import Committer, Request
from envol.storage.engine import Engine, transaction
from envol.storage.ground import Ground
from envol.storage.place import Place
from envol.storage.query import Reader
from envol.storage.reading import Bounds, divided, needed, read_rows
from envol.storage.records import Commit, Compaction, TableInfo
from envol.storage.spool import Spool
from envol.storage.waiting import OPENING

Result = TypeVar("Result")


class Lake:
    """Every table of a project, replaced window by window, read by range, by snapshot or in SQL.

    Threads may share a lake, and many processes may open it at once: writers take turns, readers never wait
    and always see whole commits.

    Args:
        place: where; a folder must exist, and the Parquet files go under `tables` in it.
        read_only: refuse to write, and do not make a lake where there is none.
        merge_every: windows between two merges of small files, which commits do by themselves.
        patience: seconds to wait for servers that nothing was heard of yet.

    Raises:
        NotFoundError: when there is no lake and it is opened for reading.
        StorageError: when it cannot be opened.
    """

    def __init__(
        self,
        place: Path | Place,
        *,
        read_only: bool = False,
        merge_every: int = maintenance.MERGE_EVERY,
        patience: float = OPENING,
    ) -> None:
        ground = Ground.of(place if isinstance(place, Place) else Place(Path(place)), patience)
        self.path = ground.folder
        self._engine = Engine(ground, read_only=read_only)
        self._committer = Committer(self._engine, merge_every)
        self._reader = Reader(ground)
        self._engine.open()

    def replace(
        self,
        frames: Mapping[str, pl.DataFrame | Spool],
        window: Window,
        *,
        node: str,
        fingerprint: str,
        message: str = "",
        permit: Callable[[], None] = lambda: None,
    ) -> Commit:
        """Make the rows of the window, in each table named, exactly those of its frame; all tables or none.

        A table that is not there is made, a new column is added (missing in older rows), and a column the
        frame lacks is missing in its rows. Dtypes are kept as `envol.storage.dtypes` says. A column
        `window_start` with the window's start is added, or overwritten. Windows that other threads commit at
        the same moment may share the snapshot.

        Args:
            frames: by table its rows.
            window: the window they are of.
            node, fingerprint, message: what the snapshot is told to be.
            permit: raises when this process may not write any more. It is asked once nobody else can write
                before this has: who is replaced while it waits for its turn writes nothing.

        Raises:
            DataError: when a column's dtype has changed or cannot be kept; nothing is written then.
            StorageError: when the disk is full or the files cannot be written; nothing is written then.
        """
        with self._engine.explained("written", node=node, window=window.key):
            return self._committer.commit(Request.of(frames, window, node, fingerprint, message, permit))

    def read(
        self,
        table: str,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        columns: Sequence[str] | None = None,
        snapshot: int | None = None,
    ) -> pl.DataFrame:
        """Rows with start <= window_start < end, by window and in the order they were written in.

        Args:
            table: its name.
            start, end: aware instants; None leaves the range open.
            columns: only these, in this order; `window_start` follows them in any case.
            snapshot: as of this snapshot instead of now.

        Raises:
            NotFoundError: when the table, a column or the snapshot does not exist, naming the nearest.
        """
        return self._rows(table, Bounds.of(start, end), columns=columns, snapshot=snapshot)

    def scan(
        self,
        table: str,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        snapshot: int | None = None,
    ) -> pl.LazyFrame:
        """What `read` gives, as a lazy frame that holds a part of the rows in memory at a time.

        It reads the snapshot of the moment it was made, however often and late it is collected.

        Raises:
            NotFoundError: when the table or the snapshot does not exist.
        """
        at = self.latest_snapshot() if snapshot is None else snapshot
        bounds = Bounds.of(start, end)
        schema = self._rows(table, bounds, snapshot=at, limit=0).schema

        def parts() -> list[Bounds]:
            with self._engine.cursor() as cursor:
                return divided(cursor, table, bounds, at)

        def batches(
            columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, _size: int | None
        ) -> Iterator[pl.DataFrame]:
            wanted = needed(schema, columns, predicate)
            for part in self._read(parts):
                frame = self._rows(table, part, columns=wanted, snapshot=at, limit=rows)
                rows = None if rows is None else rows - frame.height
                frame = frame if predicate is None else frame.filter(predicate)
                yield frame.select(schema.names() if columns is None else columns)
                if rows == 0:
                    return

        return register_io_source(batches, schema=schema)

    def sql(self, query: str) -> pl.DataFrame:
        """The result of one SELECT; tables go by their names. Nothing can be written or read beside them.

        Raises:
            UserError: when the query is wrong (with DuckDB's hint) or does anything but read.
        """
        with self._engine.explained("read"):
            return self._engine.retried(lambda: self._reader.query(query))

    def tables(self) -> list[TableInfo]:
        """All tables, by name."""

        def work() -> list[TableInfo]:
            with self._engine.cursor() as cursor, transaction(cursor):
                return catalog.table_infos(cursor)

        return self._read(work)

    def snapshots(self, limit: int | None = None) -> pl.DataFrame:
        """Commits, the newest first: id, at (UTC), author, message, node, window, fingerprint.

        A row a window; a commit without one has a row of its own.

        Args:
            limit: at most so many commits.
        """

        def work() -> pl.DataFrame:
            with self._engine.cursor() as cursor:
                return catalog.snapshot_frame(cursor, limit)

        return self._read(work)

    def latest_snapshot(self) -> int:
        """Number of the newest commit; 0 before the first."""

        def work() -> int:
            with self._engine.cursor() as cursor:
                return catalog.latest(cursor)

        return self._read(work)

    def drop(self, table: str) -> None:
        """Drop a table, with all its windows; earlier snapshots still hold it until they expire.

        Raises:
            NotFoundError: when there is no such table.
        """

        seen = False

        def work() -> None:
            nonlocal seen
            with self._engine.cursor() as cursor, transaction(cursor):
                if catalog.notes_of(cursor, table) is None:
                    if seen:
                        return  # it is gone by an attempt whose answer was lost
                    raise catalog.missing_table(cursor, table, None)
                seen = True
                cursor.execute(f"DROP TABLE {table_sql(table)}")
                cursor.execute("CALL lake.set_commit_message('envol', ?)", [f"drop {table}"])

        with self._engine.explained("written"), self._engine.writing():
            self._engine.written(work)

    def compact(self, *, grace: timedelta = maintenance.GRACE) -> Compaction:
        """Merge small files and remove what nothing refers to any more; no snapshot is lost.

        Commits merge by themselves every so often; this does it at once, and for all tables.

        Args:
            grace: leave files on disk that long after they were merged, for queries still reading them.
        """
        with self._engine.explained("compacted"):
            return self._engine.retried(lambda: maintenance.compact(self._engine, grace))

    def expire(
        self,
        older_than: timedelta,
        now: datetime,
        *,
        keep: Collection[int] = (),
        grace: timedelta = maintenance.GRACE,
    ) -> int:
        """Forget snapshots older than that; files that only they held are removed after the grace.

        Args:
            older_than: age in real time; the newest snapshot always stays.
            now: the current instant, aware.
            keep: snapshots to keep however old they are, such as those that models were trained on.
            grace: leave files on disk that long, for queries still reading them.

        Returns:
            The number of snapshots forgotten.
        """
        with self._engine.explained("cleaned up"):
            return self._engine.retried(
                lambda: maintenance.expire(self._engine, older_than, now, keep, grace)
            )

    def close(self) -> None:
        """Close the files; using the lake again opens them anew."""
        self._reader.close()
        self._engine.close()

    def _rows(
        self,
        table: str,
        bounds: Bounds,
        *,
        columns: Sequence[str] | None = None,
        snapshot: int | None = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        def work() -> pl.DataFrame:
            with self._engine.cursor() as cursor, transaction(cursor):
                return read_rows(cursor, table, bounds, columns=columns, snapshot=snapshot, limit=limit)

        return self._read(work)

    def _read(self, work: Callable[[], Result]) -> Result:
        with self._engine.explained("read"):
            return self._engine.retried(work)
