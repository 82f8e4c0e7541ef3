"""What tells quarantined rows apart: an id that a row has again whenever its window is made again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import polars as pl

from envol.pipeline.versions import signed
from envol.project.contracts import REASON
from envol.project.fingerprint import digest

ID = "quarantine_id"
_BITS = 64


def identified(broken: pl.DataFrame, window: str) -> pl.DataFrame:
    """The broken rows of a window with the column `quarantine_id`, such as "2024-01-05/3fa9c2d17b60aa12"."""
    hashes = row_hashes(broken) if broken.height else ()
    ids = [row_id(window, number) for number in hashes]
    return broken.with_columns(pl.Series(ID, ids, pl.String))


def row_id(window: str, row_hash: int) -> str:
    """The id of a row of the window with this key."""
    return f"{window}/{row_hash % (1 << _BITS):016x}"


def parts_of(identity: str) -> tuple[str, int] | None:
    """The key of the window and the hash that an id is made of; None when it is no id."""
    window, _, hexadecimal = identity.rpartition("/")
    try:
        return (window, signed(hexadecimal)) if len(hexadecimal) == _BITS // 4 and window else None
    except ValueError:
        return None


def row_hashes(frame: pl.DataFrame) -> Iterator[int]:
    """A hash of each row: of its values that are not missing, by column, and of how many before are equal.

    It is made of plain values, not by Polars' own hash, so that it outlives versions of Polars.
    """
    names = sorted(set(frame.columns) - {REASON, ID, "window_start"})
    plain = frame.select(
        pl.col(name).to_physical() if frame.schema[name].is_temporal() else pl.col(name) for name in names
    )
    seen = Counter[str]()
    for row in plain.iter_rows():
        known = {name: value for name, value in zip(names, row, strict=True) if value is not None}
        text = json.dumps(known, default=str)
        equal = seen[text]
        seen[text] += 1
        yield signed(digest(text, str(equal)) if equal else digest(text))
