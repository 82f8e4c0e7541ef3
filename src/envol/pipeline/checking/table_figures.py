"""What the columns of a table hold, counted by the database.

No more than a row of figures a column, and a few texts, come into memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from envol.errors import DataError

if TYPE_CHECKING:
    from envol.storage import Lake

MOST_TEXTS = 20
"""Of a column with more different texts they are not listed."""
OFTEN = 10
"""Each text must have been seen so often on average to be listed."""
SLICE = 5_000_000
"""About how many different values are counted at a time."""
PATTERNS = ("[A-Z]", "[0-9]", "[A-Z0-9]", "[0-9a-f]")
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@dataclass
class Seen:
    """What a column of a table holds."""

    name: str
    dtype: pl.DataType
    rows: int
    values: int
    figures: Mapping[str, Any]
    texts: list[str] | None = None
    unique: bool = False

    @property
    def nullable(self) -> bool:
        return self.values < self.rows

    def told(self) -> str:
        """What was seen, in a line."""
        if not self.values:
            return "no value at all"
        parts = []
        if self.unique:
            parts.append("all different")
        elif self.texts is not None:
            parts.append(_counted(len(self.texts), "text"))
        if (low := self.figures.get("low")) is not None:
            high = self.figures["high"]
            parts.append(_short(low) if low == high else f"{_short(low)} to {_short(high)}")
        if self.dtype == pl.String:
            first, last = self.figures["shortest"], self.figures["longest"]
            parts.append(_counted(last, "byte") if first == last else f"{first} to {last} bytes")
        if self.nullable:
            parts.append(f"{_share(self.rows - self.values, self.rows)} missing")
        for name, word in (("nan", "no number"), ("up", "infinite"), ("down", "minus infinite")):
            if number := self.figures.get(name):
                parts.append(f"{number:,} {word}")
        return ", ".join(parts) or "nothing to tell"


def columns_seen(
    lake: Lake, table: str, start: datetime | None = None, end: datetime | None = None
) -> list[Seen]:
    """What each column of a table holds, but `window_start`.

    Raises:
        DataError: there are no rows.
    """
    schema = {name: one for name, one in lake.scan(table).collect_schema().items() if name != "window_start"}
    source = f"{_quoted(table)}{_where(start, end)}"
    figures = {
        f"{number} {name}": sql
        for number, (column, dtype) in enumerate(schema.items())
        for name, sql in _figures(_quoted(column), dtype).items()
    }
    asked = ", ".join(["count(*)", *(f"{sql} AS {_quoted(name)}" for name, sql in figures.items())])
    counted = dict(zip(["rows", *figures], lake.sql(f"SELECT {asked} FROM {source}").row(0), strict=True))
    rows = counted["rows"]
    if not rows:
        raise DataError(f"{table} has no rows there", remedy="make some windows first: envol run")
    found = []
    for number, (column, dtype) in enumerate(schema.items()):
        own = {
            name.partition(" ")[2]: value for name, value in counted.items() if name.startswith(f"{number} ")
        }
        seen = Seen(column, dtype, rows, own["values"], own)
        _look_closer(lake, source, seen)
        found.append(seen)
    return found


def _figures(column: str, dtype: pl.DataType) -> dict[str, str]:
    """By name of a figure the SQL that gives it."""
    asked = {"values": f"count({column})"}
    if dtype.is_integer() or isinstance(dtype, pl.Decimal):
        asked |= {"low": f"min({column})", "high": f"max({column})"}
    elif dtype.is_float():
        finite = f"FILTER (isfinite({column}))"
        asked |= {"low": f"min({column}) {finite}", "high": f"max({column}) {finite}"}
        asked |= {"nan": f"count(*) FILTER (isnan({column}))"}
        asked |= {"up": f"count(*) FILTER (isinf({column}) AND {column} > 0)"}
        asked |= {"down": f"count(*) FILTER (isinf({column}) AND {column} < 0)"}
    elif dtype == pl.String:
        asked |= {"shortest": f"min(strlen({column}))", "longest": f"max(strlen({column}))"}
        for number, pattern in enumerate([*(f"{one}+" for one in PATTERNS), UUID]):
            asked[f"pattern {number}"] = f"bool_and(regexp_full_match({column}, '{pattern}'))"
    elif dtype.is_temporal() and not isinstance(dtype, pl.Duration):
        asked |= {"low": f"min({column})::VARCHAR", "high": f"max({column})::VARCHAR"}
    if not dtype.is_nested() and not dtype.is_float():
        asked["different"] = f"approx_count_distinct({column})"
    return asked


def _look_closer(lake: Lake, source: str, seen: Seen) -> None:
    """See whether values are all different, or which few texts there are."""
    different, column = seen.figures.get("different", 0), _quoted(seen.name)
    if not seen.nullable and seen.rows > 1 and different > seen.rows * 0.8:
        seen.unique = _all_different(lake, source, column, seen.rows)
    if seen.dtype == pl.String and not seen.unique and different <= 2 * MOST_TEXTS:
        query = f"SELECT DISTINCT {column} AS text FROM {source} ORDER BY 1 NULLS LAST LIMIT {MOST_TEXTS + 2}"
        texts = [text for text in lake.sql(query)["text"] if text is not None]
        if texts and len(texts) <= MOST_TEXTS and seen.values >= OFTEN * len(texts):
            seen.texts = texts


def _all_different(lake: Lake, source: str, column: str, rows: int) -> bool:
    slices = rows // SLICE + 1
    where = "AND" if " WHERE " in source else "WHERE"
    counts = (
        lake.sql(
            f"SELECT count({column}), count(DISTINCT {column}) FROM {source}"
            f" {where} hash({column}) % {slices} = {number}"
        ).row(0)
        for number in range(slices)
    )
    return all(values == different for values, different in counts)


def extent(lake: Lake, table: str, start: datetime | None, end: datetime | None) -> str:
    """How much was looked at, in a line."""
    figures = "count(*), count(DISTINCT window_start), min(window_start)::VARCHAR, max(window_start)::VARCHAR"
    rows, windows, first, last = lake.sql(f"SELECT {figures} FROM {_quoted(table)}{_where(start, end)}").row(
        0
    )
    span = f", {first[:10]} to {last[:10]}" if windows > 1 else f", {first[:10]}"
    return f"{_counted(rows, 'row')} in {_counted(windows, 'window')}{span}"


def _where(start: datetime | None, end: datetime | None) -> str:
    sides = [("window_start >=", start), ("window_start <", end)]
    conditions = [f"{sign} TIMESTAMPTZ '{instant.isoformat()}'" for sign, instant in sides if instant]
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _short(value: Any) -> str:
    return (
        f"{value:.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _share(part: int, whole: int) -> str:
    share = 100 * part / whole
    return "under 0.1 %" if share < 0.1 else f"{share:.1f} %"
