"""What a table holds, as a short hash: equal means that nothing which reads it has to be made again."""

from __future__ import annotations

import polars as pl

from envol.pipeline.versions import signed
from envol.project.fingerprint import digest


def content_version(frame: pl.DataFrame) -> int:
    """A hash of a table's columns and rows, in whatever order the rows are: 64 bits, signed."""
    schema = ",".join(f"{name} {dtype}" for name, dtype in sorted(frame.schema.items()))
    if frame.is_empty():
        return signed(digest(schema))
    hashes = frame.select(sorted(frame.columns)).hash_rows(seed=0)
    return signed(digest(schema, str(frame.height), str(int(hashes.cast(pl.Int128).sum()))))
