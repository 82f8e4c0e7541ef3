"""The lineage of single rows: those with a key, and the rows of the same key that they were made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl

from envol.errors import ConfigError, NotFoundError, UserError
from envol.pipeline.lineage.history import History, Record
from envol.pipeline.lineage.origins import RowLineage
from envol.pipeline.lineage.tracing import Tracer
from envol.project.graph import QUARANTINE

if TYPE_CHECKING:
    from envol.project import Project
    from envol.storage import Store

SHOWN_ROWS = 20
SHOWN_WINDOWS = 10
WINDOW_START = "window_start"
MODEL_VERSION = "model_version"


def row_lineage(
    project: Project,
    store: Store,
    table: str,
    key: Mapping[str, Any],
    window: str | None = None,
    *,
    depth: int | None = None,
    every_window: bool = False,
) -> RowLineage:
    """The rows of a window with a key, what predicted them, and the rows that they were made from.

    Each table is read as it was when the rows were made; of a table that has only some of the key's columns,
    the rows that agree in those are told. Training is told by windows, as `lineage` tells it.

    Args:
        table: a table, or the quarantine of one.
        key: a value by column; text is understood as a value of the column's dtype.
        window: the window's key, or an instant that it holds; the newest when left out.
        depth, every_window: as of `lineage`.

    Raises:
        NotFoundError: there is no such window, or no row of that key in it.
        UserError: the table has no such column, or the value is none of its dtype.
    """
    history = History(project, store)
    node = table.removesuffix(QUARANTINE)
    if node in history.models:
        raise UserError(
            f"{node} is a model, which has no rows", remedy=f"ask for the rows of {node}_predictions"
        )
    row = history.window(node, window)
    columns = store.lake.scan(table).collect_schema().names()
    for name in key:
        if name not in columns:
            raise NotFoundError(
                f"table {table!r} has no column {name!r}", remedy=f"it has {', '.join(columns)}"
            )
    found = RowTracer(history, Tracer(history, depth, every_window), key).table(table, [row], None, False)
    if not found.found:
        told = ", ".join(f"{name}={value}" for name, value in key.items())
        where = history.key(row["window_start"], row["window_end"])
        raise NotFoundError(f"{table} has no row with {told} in the window {where}")
    return found


class RowTracer:
    """Follows the rows of a key from table to table."""

    def __init__(self, history: History, tracer: Tracer, key: Mapping[str, Any]) -> None:
        self._history, self._tracer, self._key = history, tracer, key

    def table(self, table: str, records: Sequence[Record], as_of: int | None, changed: bool) -> RowLineage:
        """The rows of some windows of a table.

        Args:
            records: the windows as they are now.
            as_of: the snapshot to read them at; None for now.
            changed: whether some were made again since that snapshot.
        """
        frame, note = self._read(table, records, as_of, changed)
        if frame is None or frame.is_empty():
            return RowLineage(table, as_of, (), 0, note)
        starts = set(frame[WINDOW_START].dt.epoch("s").to_list())
        holding = [one for one in records if one["window_start"] in starts][-SHOWN_WINDOWS:]
        return RowLineage(
            table,
            as_of,
            tuple(frame.head(SHOWN_ROWS).to_dicts()),
            frame.height,
            note,
            self._history.materializations(holding),
            self._models(frame, holding),
            tuple(self._inputs([self._as_read(one, as_of) for one in holding])),
        )

    def _inputs(self, records: Sequence[Record]) -> list[RowLineage]:
        as_of = max((one["snapshot"] for one in records if one["snapshot"] is not None), default=None)
        found = []
        for read in self._tracer.reads(records):
            rows = [one for one, was_read in zip(read.rows, read.read, strict=True) if was_read]
            again = any(as_of is not None and (one["snapshot"] or 0) > as_of for one in rows)
            if rows:
                found.append(self.table(read.table, rows, as_of, again))
        return found

    def _as_read(self, record: Record, as_of: int | None) -> Record:
        """The window as it was at the snapshot, as far as is known."""
        if as_of is None or record["snapshot"] is None or record["snapshot"] <= as_of:
            return record
        place = (record["node"], record["window_start"], record["window_end"])
        earlier = self._history.earlier(*place, as_of)
        return {**record, "snapshot": as_of if earlier is None else earlier.snapshot}

    def _models(self, frame: pl.DataFrame, records: Sequence[Record]) -> tuple[Any, ...]:
        reads = {name for one in records for name in self._history.reads.get(one["definition"], {})}
        names = sorted(reads & self._history.models)
        if not names or MODEL_VERSION not in frame.columns:
            return ()
        counts = sorted(frame[MODEL_VERSION].value_counts().iter_rows())
        return tuple(
            self._tracer.model(self._history.versions[name, version], rows=count, level=0)
            for name in names
            for version, count in counts
            if (name, version) in self._history.versions
        )

    def _read(
        self, table: str, records: Sequence[Record], as_of: int | None, changed: bool
    ) -> tuple[pl.DataFrame | None, str | None]:
        """The rows with the key; None and the reason where there cannot be any."""
        lake = self._history.store.lake
        start, end = (
            self._history.local(records[at][name]) for at, name in ((0, WINDOW_START), (-1, "window_end"))
        )
        note = None
        try:
            scanned = lake.scan(table, start, end, snapshot=as_of)
        except NotFoundError:
            if changed:
                return None, f"snapshot {as_of} has expired, and its windows were made again since"
            note = f"snapshot {as_of} has expired; nothing of it was made again since"
            scanned = lake.scan(table, start, end)
        schema = scanned.collect_schema()
        known = [name for name in self._key if name in schema]
        if not known:
            return None, f"it has no column {', '.join(self._key)}"
        matching = [pl.col(name) == self._value(name, schema[name]) for name in known]
        found = scanned.filter(*matching).collect()
        return found, note if found.height else "no row has that key"

    def _value(self, name: str, dtype: pl.DataType) -> pl.Expr:
        given = self._key[name]
        try:
            if isinstance(given, str) and dtype == pl.Boolean:
                given = {"true": True, "false": False}[given.lower()]
            elif isinstance(given, str) and dtype == pl.Date:
                given = date.fromisoformat(given)
            elif isinstance(given, str) and isinstance(dtype, pl.Datetime):
                given = self._history.calendar.instant(given)
                given = given if dtype.time_zone else given.replace(tzinfo=None)
            return pl.lit(pl.Series([given]).cast(dtype)).first()
        except (ConfigError, KeyError, ValueError, pl.exceptions.PolarsError):
            raise UserError(
                f"{given!r} is no value of the column {name}, which is {dtype}",
                remedy=f"write the value as that type: {name}=VALUE",
            ) from None
