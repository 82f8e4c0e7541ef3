"""Copying the metadata, row by row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from sqlalchemy import Connection, Row, Table, delete, func, insert, select, text

from envol.storage import tables
from envol.storage.metadata import Metadata
from envol.storage.records import Compared

_ROWS = 1000
_LEFT = {"lease"}
"""What belongs to running processes, none of which works on the new place."""


def copy_metadata(
    source: Metadata, target: Metadata, progress: Callable[[str, int, int], None]
) -> list[Compared]:
    """Copy all tables as of one moment, and read them back."""
    wanted = [table for table in tables.metadata.sorted_tables if table.name not in _LEFT]
    found, copied = {}, {}
    with source.connect() as reader, target.begin() as writer:
        for number, table in enumerate(wanted):
            progress("metadata", number, len(wanted))
            found[table.name] = _copy(reader, writer, table)
    with target.connect() as reader:
        for table in wanted:
            copied[table.name] = _digest(_batches(reader, table))
    progress("metadata", len(wanted), len(wanted))
    return [
        Compared("metadata", name, "rows", found[name][0], copied[name][0], found[name] == copied[name])
        for name in found
    ]


def _copy(reader: Connection, writer: Connection, table: Table) -> tuple[int, int]:
    writer.execute(delete(table))

    def passed() -> Iterable[list[Row[tuple[object, ...]]]]:
        for rows in _batches(reader, table):
            writer.execute(insert(table), [dict(row._mapping) for row in rows])
            yield rows

    digest = _digest(passed())
    _go_on_counting(writer, table)
    return digest


def _batches(reader: Connection, table: Table) -> Iterable[list[Row[tuple[object, ...]]]]:
    result = reader.execution_options(stream_results=True).execute(select(table))
    return ([*rows] for rows in result.partitions(_ROWS))


def _digest(batches: Iterable[list[Row[tuple[object, ...]]]]) -> tuple[int, int]:
    """How many rows, and the sum of their hashes, which does not depend on their order."""
    count, total = 0, 0
    for rows in batches:
        count += len(rows)
        for row in rows:
            kept = tuple(_kept(value) for value in row)
            total += int.from_bytes(hashlib.sha256(repr(kept).encode("utf-8", "replace")).digest())
    return count, total


def _kept(value: object) -> object:
    """A text without NUL, which PostgreSQL does not keep."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _go_on_counting(writer: Connection, table: Table) -> None:
    """Let the next number of a table that counts its rows follow the last one (SQLite does so by itself)."""
    column = table.autoincrement_column
    if column is None or writer.dialect.name != "postgresql":
        return
    last = writer.execute(select(func.max(column))).scalar()
    if last is not None:
        writer.execute(
            text("SELECT setval(pg_get_serial_sequence(:table, :column), :last)"),
            {"table": table.name, "column": column.name, "last": last},
        )
