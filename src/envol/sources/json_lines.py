"""JSON objects, one a line, by Arrow: strict about types, and exact about the line where one is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import polars as pl

from envol.errors import DataError
from envol.sources.opened import File
from envol.sources.schema import arrow_schema, conformed

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1 << 20  # bytes that are parsed at once


def read_json_lines(file: File, dtypes: pl.Schema) -> Iterator[pl.DataFrame]:
    """The fields of the schema; others are left out, and one that an object lacks is null.

    Raises:
        DataError: a line is no object, or a value is wrong; with file and line.
    """
    before = 0
    with file.stream() as stream:
        for block in _blocks(stream):
            yield typed(block, dtypes, f"{file.path}, line", before + 1)
            before += block.count(b"\n")


def guess_json_lines(file: File) -> pl.Schema:
    """A schema for the file, by its first block."""
    with file.stream() as stream:
        return guess(next(_blocks(stream), b""))


def typed(block: bytes, dtypes: pl.Schema, where: str, first: int = 1) -> pl.DataFrame:
    """The frame of some lines of JSON.

    Args:
        block: whole lines; empty ones are passed over.
        dtypes: fields and their dtypes.
        where: what a line is called in messages, before its number.
        first: number of the first line.

    Raises:
        DataError: a line is no object, or a value is wrong.
    """
    import pyarrow as pa

    if not block.strip():
        return pl.DataFrame(schema=dtypes)
    try:
        frame = pl.DataFrame(pl.from_arrow(_parsed(block, dtypes)))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeError) as error:
        line, complaint = _wrong_line(block, dtypes, str(error))
        raise DataError(
            f"{where} {first + line}: {complaint}",
            remedy="correct the data or the schema; each line is one object",
        ) from None
    return conformed(frame, dtypes, f"{where} {first} or later")


def guess(block: bytes) -> pl.Schema:
    """A schema for some lines of JSON; times in UTC, which text with or without a zone is read as."""
    found = pl.DataFrame(pl.from_arrow(_parsed(block, None))).schema
    utc = pl.Datetime("us", "UTC")
    return pl.Schema({name: utc if dtype == pl.Datetime else dtype for name, dtype in found.items()})


def _parsed(block: bytes, dtypes: pl.Schema | None) -> pa.Table:
    from pyarrow import BufferReader, json

    options: dict[str, Any] = {}
    if dtypes is not None:
        explicit = arrow_schema(dtypes, json=True)
        options = {"explicit_schema": explicit, "unexpected_field_behavior": "ignore"}
    table = json.read_json(
        BufferReader(block),
        read_options=json.ReadOptions(use_threads=False, block_size=len(block) + 1),
        parse_options=json.ParseOptions(**options),
    )
    return table if dtypes is None else table.select(dtypes.names()).cast(arrow_schema(dtypes))


def _wrong_line(block: bytes, dtypes: pl.Schema, complaint: str) -> tuple[int, str]:
    """The index of the first line that cannot be read by itself, and why; found by halving."""
    import pyarrow as pa

    lines, first = block.split(b"\n"), 0
    while len(lines) > 1:
        half = len(lines) // 2
        try:
            if b"".join(lines[:half]).strip():
                _parsed(b"\n".join(lines[:half]), dtypes)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeError) as error:
            lines, complaint = lines[:half], str(error)
        else:
            lines, first = lines[half:], first + half
    return first, complaint.removeprefix("JSON parse error: ").removesuffix(" in row 0")


def _blocks(stream: Any) -> Iterator[bytes]:
    """The stream in blocks that end with a line."""
    rest = b""
    while chunk := stream.read(BLOCK):
        whole, newline, last = (rest + chunk).rpartition(b"\n")
        if newline:
            yield whole + newline
        rest = last
    if rest:
        yield rest
