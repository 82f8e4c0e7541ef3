"""The stored rows of a table against its contract as it is declared now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from envol.errors import NotFoundError, ProjectError
from envol.pipeline.quarantine.applying import fitted
from envol.project.contracts import REASON, check
from envol.project.names import nearest

if TYPE_CHECKING:
    from envol.project import Project
    from envol.storage import Lake

PART_ROWS = 200_000
"""About how many rows are in memory at a time; whole windows, so one window may be more."""


@dataclass(frozen=True)
class Broken:
    """Rows of a window that break the contract, counted by the rules that they break."""

    window: str
    rows: int
    of: int
    rules: dict[str, int]


def recheck(
    project: Project, lake: Lake, table: str, start: datetime | None = None, end: datetime | None = None
) -> Iterator[Broken]:
    """By window, the oldest first, how many of the stored rows break the contract; also where none does.

    Args:
        table: a declared one with a contract.
        start, end: only windows that start in [start, end).

    Raises:
        NotFoundError: there is no such table.
        ProjectError: it has no contract.
        DataError: its columns are not those of the contract.
    """
    node = project.graph.nodes.get(table)
    if node is None:
        raise NotFoundError(
            f"the project declares no table {table!r}", remedy=nearest(table, project.graph.nodes)
        )
    if node.contract is None:
        raise ProjectError(
            "it has no contract", node=table, remedy=f"get one from: envol contract suggest {table}"
        )
    period = project.graph.period_of(table)
    for first, last in _parts(lake, table, start, end):
        frame = lake.read(table, first, last)
        for (begin,), rows in frame.partition_by("window_start", as_dict=True, maintain_order=True).items():
            assert isinstance(begin, datetime)
            broken = check(fitted(rows.drop("window_start"), node.contract), node.contract).broken
            reasons = broken[REASON].str.split(", ").list.explode()
            key = project.calendar.from_epoch(period, int(begin.timestamp())).key
            yield Broken(key, broken.height, rows.height, dict(Counter(reasons.to_list())))


def _parts(
    lake: Lake, table: str, start: datetime | None, end: datetime | None
) -> Iterator[tuple[datetime, datetime | None]]:
    """Ranges of whole windows with about so many rows, one after the other."""
    name = table.replace('"', '""')
    counts = lake.sql(f'SELECT window_start, count(*) AS rows FROM "{name}" GROUP BY 1 ORDER BY 1')
    wanted = counts.filter(
        (pl.col("window_start") >= (start or datetime.min.replace(tzinfo=UTC)))
        & (pl.col("window_start") < (end or datetime.max.replace(tzinfo=UTC)))
    )
    starts, rows = list[datetime](), PART_ROWS
    for begin, number in wanted.iter_rows():
        if rows + number > PART_ROWS:
            starts.append(begin)
            rows = 0
        rows += number
    yield from zip(starts, [*starts[1:], end], strict=False)
