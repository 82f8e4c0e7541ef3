"""What a table holds, as a short hash: equal means that nothing which reads it has to be made again."""

from __future__ import annotations

import polars as pl

from envol.project.fingerprint import digest


def content_version(frame: pl.DataFrame) -> str:
    """A hash of a table's columns and rows, in whatever order the rows are."""
    schema = ",".join(f"{name} {dtype}" for name, dtype in sorted(frame.schema.items()))
    if frame.is_empty():
        return digest(schema)
    hashes = frame.select(sorted(frame.columns)).hash_rows(seed=0)
    total = int(hashes.cast(pl.Int128).sum()) if frame.height else 0
    return digest(schema, str(frame.height), str(total))
