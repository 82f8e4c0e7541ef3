"""Recorded changes of the columns of tables, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from envol.storage import Metadata, tables

ALL_NULL = "all null"
"""How a column is called that has a dtype, but no value in a window."""
Columns = dict[str, tuple[str | None, str | None]]
_change = tables.schema_change.c


@dataclass
class Change:
    """What changed with a window: by column its dtype before and after, None where there is no column.

    A window that was `refused` for it failed, and is not in the table.
    """

    node: str
    window_start: int
    columns: Columns
    refused: bool
    run: str
    at: float


def changes(metadata: Metadata, node: str | None = None, limit: int | None = None) -> list[Change]:
    """The recorded changes, the newest last; of one node, and the newest so many, if asked for."""
    query = select(tables.schema_change).order_by(_change.id.desc()).limit(limit)
    if node is not None:
        query = query.where(_change.node == node)
    rows = metadata.read(lambda connection: connection.execute(query).mappings().all())
    return [
        Change(
            row["node"],
            int(row["window_start"]),
            {name: (before, after) for name, (before, after) in json.loads(row["columns"]).items()},
            row["refused"],
            row["run"],
            row["at"],
        )
        for row in reversed(rows)
    ]


def lines(columns: Columns) -> list[str]:
    """The changes as a diff: "+ tail_number String", "- delay Int64", "~ distance Int64 -> Float64"."""
    told = []
    for name, (before, after) in columns.items():
        if before is None:
            told.append(f"+ {name} {after}")
        elif after is None:
            told.append(f"- {name} {before}")
        else:
            told.append(f"~ {name} {before} -> {after}")
    return told


def record(metadata: Metadata, fence: Callable[[Connection], None], change: Change) -> None:
    """Keep a change."""
    row = vars(change) | {"columns": json.dumps(change.columns)}

    def work(connection: Connection) -> None:
        fence(connection)
        connection.execute(delete(tables.schema_change).where(*_same(change)))
        connection.execute(insert(tables.schema_change).values(row))

    metadata.write(work)


def put_earlier(metadata: Metadata, fence: Callable[[Connection], None], change: Change, start: int) -> None:
    """Let a change hold from the window that starts then."""

    def work(connection: Connection) -> None:
        fence(connection)
        earlier = update(tables.schema_change).where(*_same(change), _change.window_start > start)
        connection.execute(earlier.values(window_start=start))

    metadata.write(work)
    change.window_start = start


def _same(change: Change) -> tuple[ColumnElement[bool], ...]:
    return (_change.node == change.node, _change.run == change.run, _change.at == change.at)
