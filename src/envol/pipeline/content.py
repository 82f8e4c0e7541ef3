"""What a table holds, as a short hash: equal means that nothing which reads it has to be made again."""

from __future__ import annotations

import polars as pl

from envol.pipeline.versions import signed
from envol.project.fingerprint import digest
from envol.storage import Spool


def content_version(rows: pl.DataFrame | Spool) -> int:
    """A hash of a table's columns and rows, in whatever order the rows are: 64 bits, signed."""
    schema = ",".join(f"{name} {dtype}" for name, dtype in sorted(rows.schema.items()))
    if rows.is_empty():
        return signed(digest(schema))
    frames = rows.frames() if isinstance(rows, Spool) else [rows]
    total = sum(
        int(frame.select(sorted(frame.columns)).hash_rows(seed=0).cast(pl.Int128).sum()) for frame in frames
    )
    return signed(digest(schema, str(rows.height), str(total)))
