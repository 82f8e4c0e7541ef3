"""Drift of a table's schema: columns that came, went, changed their dtype or became empty, and since when."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import polars as pl
from sqlalchemy import Connection

from envol.errors import DataError, UserError
from envol.pipeline.checking.schema_changes import (
    ALL_NULL,
    Change,
    Columns,
    changes,
    lines,
    put_earlier,
    record,
)
from envol.project.contracts import ColumnsError
from envol.project.nodes import Node, Source, Table
from envol.storage import Metadata, TableInfo, described, read_back_as

if TYPE_CHECKING:
    from envol.pipeline.batches import Divided
    from envol.project.windows import Window
    from envol.storage import Lake

ENOUGH_ROWS = 20
"""In a window with fewer rows a column without a value says nothing."""
MANY = 2
"""A column that came or went so often is not worth telling any more."""


_UNTYPED = re.compile(r"\bNull\b")


class SchemaDrift:
    """Compares the windows that a run makes with what their tables were like.

    Nothing is asked of the lake for it: its tables are known at the start, the changes from the records. What
    was before is told by the order of the windows, not by that in which they are made.

    Args:
        stored: the lake's tables at the start of the run.
        note: takes a text about each change.
        fence: raises, inside the transaction that is about to write, when this process no longer may.
    """

    def __init__(
        self,
        lake: Lake,
        metadata: Metadata,
        stored: Sequence[TableInfo],
        run: str,
        note: Callable[[str], None],
        fence: Callable[[Connection], None],
    ) -> None:
        self._lake, self._metadata, self._run, self._note, self._fence = lake, metadata, run, note, fence
        self._lock = threading.Lock()
        self._stored = {info.name: _without_start(info.columns) for info in stored}
        self._changes: dict[str, list[Change]] = {}
        for change in changes(metadata):
            self._changes.setdefault(change.node, []).append(change)
        self._never_filled: set[tuple[str, str]] = set()

    @contextmanager
    def explaining(self, node: Node, window: Window) -> Iterator[Callable[[Divided], None]]:
        """Gives what takes note of the window's rows; adds what changed to errors about their columns."""
        seen: dict[str, str | None] = {}

        def see(rows: Divided) -> None:
            if isinstance(node, Source | Table) and rows.good.height + rows.broken.height:
                seen.update(_dtypes(rows.good.schema))
                self._see(node.name, window, dict(seen), _without_values(rows))

        try:
            yield see
        except ColumnsError as error:
            found = _dtypes(error.found)
            if node.name in self._stored:
                self._see(node.name, window, found, set(), refused=True)
                raise _told(error, "before", self._difference(node.name, window.epoch, found)) from None
            raise _told(error, "the contract", _against(node, found)) from None
        except DataError as error:
            columns = self._difference(node.name, window.epoch, seen) if seen else {}
            if _has_other_dtypes(columns):
                raise _told(error, "before", columns) from error.__cause__
            raise

    def _see(
        self,
        node: str,
        window: Window,
        found: dict[str, str | None],
        empty: set[str],
        *,
        refused: bool = False,
    ) -> None:
        with self._lock:
            if node not in self._stored:
                self._stored[node] = {name: dtype for name, dtype in found.items() if dtype is not None}
                return
            columns: Columns = {}
            start = window.epoch
            for name in sorted({*self._columns(node), *found}):
                before = self._before(node, name, start)
                after = self._state(node, name, before, found, name in empty)
                if before != after and not self._known(node, name, (before, after)):
                    columns[name] = (before, after)
            refused = refused or _has_other_dtypes(columns)
            columns = self._without_later(node, start, columns, refused)
            if columns:
                change = Change(node, start, columns, refused, self._run, time.time())
                record(self._metadata, self._fence, change)
                self._changes.setdefault(node, []).append(change)
                self._note(f"{node} {window.key}: the schema has changed: {', '.join(lines(columns))}")

    def _state(
        self, node: str, name: str, before: str | None, found: Mapping[str, str | None], empty: bool
    ) -> str | None:
        """What a column is in this window: its dtype, ALL_NULL, or None where there is none."""
        if name not in found:
            return None
        dtype = found[name] or self._dtype(node, name)
        if not empty:
            return before if found[name] is None else dtype
        if dtype != self._dtype(node, name) or before is None:
            return dtype
        return ALL_NULL if self._was_filled(node, name) else before

    def _before(self, node: str, name: str, start: int) -> str | None:
        """What the column is in the windows up to this one, as far as known."""
        events = [one for one in self._kept(node) if name in one.columns]
        events.sort(key=lambda one: one.window_start)
        earlier = [one for one in events if one.window_start <= start]
        if earlier:
            return earlier[-1].columns[name][1]
        return events[0].columns[name][0] if events else self._stored[node].get(name)

    def _without_later(self, node: str, start: int, columns: Columns, refused: bool) -> Columns:
        """The changes less those that another window has told already, as it was made first."""
        left = dict(columns)
        for change in self._changes.get(node, ()):
            told = {name: pair for name, pair in change.columns.items() if columns.get(name) == pair}
            if change.refused != refused or not told or (change.window_start <= start and not refused):
                continue
            left = {name: pair for name, pair in left.items() if name not in told}
            if told == change.columns and start < change.window_start:
                put_earlier(self._metadata, self._fence, change, start)
        return left

    def _known(self, node: str, name: str, pair: tuple[str | None, str | None]) -> bool:
        """Whether the column is known to come and go, or to have values in some windows only."""
        before = sum(one.columns.get(name) == pair for one in self._kept(node))
        return before >= (1 if ALL_NULL in pair else MANY if None in pair else before + 1)

    def _was_filled(self, node: str, name: str) -> bool:
        if (node, name) in self._never_filled:
            return False
        table, column = (part.replace('"', '""') for part in (node, name))
        try:
            filled = self._lake.sql(f'SELECT 1 FROM "{table}" WHERE "{column}" IS NOT NULL LIMIT 1').height
        except UserError:  # the first window with the column is not committed yet
            filled = 0
        if not filled:
            self._never_filled.add((node, name))
        return bool(filled)

    def _difference(self, node: str, start: int, found: Mapping[str, str | None]) -> Columns:
        """How columns differ from those of the table as it is stored."""
        stored = self._stored[node]
        gone = {name for name in stored if self._before(node, name, start) is None}
        there = {name: dtype for name, dtype in stored.items() if name in found or name not in gone}
        return _differences(there, found)

    def _columns(self, node: str) -> set[str]:
        return {*self._stored[node], *(name for one in self._kept(node) for name in one.columns)}

    def _kept(self, node: str) -> list[Change]:
        """The changes that are in the table."""
        return [one for one in self._changes.get(node, ()) if not one.refused]

    def _dtype(self, node: str, name: str) -> str | None:
        """The dtype of a column, whether it has values or not; None where it was never seen."""
        told = [one.columns[name] for one in self._kept(node) if name in one.columns]
        dtypes = [
            dtype for pair in reversed(told) for dtype in reversed(pair) if dtype not in (None, ALL_NULL)
        ]
        return self._stored[node].get(name) or next(iter(dtypes), None)


def _told(error: DataError, what: str, columns: Columns) -> DataError:
    if columns:
        error.message += f"; compared with {what}: {', '.join(lines(columns))}"
    return error


def _has_other_dtypes(columns: Columns) -> bool:
    """Whether a column has another dtype, which tables refuse."""
    return any(before and after and ALL_NULL not in (before, after) for before, after in columns.values())


def _against(node: Node, found: Mapping[str, str | None]) -> Columns:
    """How columns differ from those of the contract."""
    if node.contract is None:
        return {}
    contract = _dtypes({name: column.dtype for name, column in node.contract.columns().items()})
    return _differences({name: dtype for name, dtype in contract.items() if dtype}, found)


def _differences(before: Mapping[str, str], found: Mapping[str, str | None]) -> Columns:
    columns: Columns = {}
    for name in [*before, *(one for one in found if one not in before)]:
        now = found[name] or before.get(name) if name in found else None
        if before.get(name) != now:
            columns[name] = (before.get(name), now)
    return columns


def _dtypes(schema: Mapping[str, pl.DataType]) -> dict[str, str | None]:
    """Dtypes as the lake keeps and calls them; None where all values are missing and there is none."""
    return {name: _dtype_of(dtype) for name, dtype in schema.items()}


@cache
def _dtype_of(dtype: pl.DataType) -> str | None:
    text = described(read_back_as(dtype))
    return None if _UNTYPED.search(text) else text


def _without_values(rows: Divided) -> set[str]:
    """The columns without any value, where there are rows enough for that to mean something."""
    good = rows.good
    if good.height + rows.broken.height < ENOUGH_ROWS or not isinstance(good, pl.DataFrame):
        return set()
    parts = [part for part in (good, rows.broken) if part.height]
    return {
        name
        for name in good.columns
        if all(part[name].null_count() == part.height for part in parts if name in part.columns)
    }


def _without_start(columns: Mapping[str, str]) -> dict[str, str]:
    return {name: dtype for name, dtype in columns.items() if name != "window_start"}
