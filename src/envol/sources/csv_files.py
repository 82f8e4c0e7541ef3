"""CSV by Arrow: strict about types, and exact about where a value is wrong."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from envol.errors import DataError
from envol.sources.opened import File
from envol.sources.schema import arrow_schema, conformed

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1 << 20  # bytes that are parsed at once
_ROW = re.compile(r"(?:In CSV column #(\d+): )?(?:CSV parse error: )?Row #(\d+): (?:CSV conversion error )?")


@dataclass(frozen=True)
class Csv:
    """How CSV files are written.

    Args:
        separator: between the values of a line.
        encoding: any that Python knows.
        nulls: texts that stand for no value; in quotes they are texts.
        decimal: the decimal mark.
        times: formats of times, as `strptime` reads them, where they are not as in ISO 8601.
        skip: lines before the header.
        names: names of the columns, where there is no header.
    """

    separator: str = ","
    encoding: str = "utf-8"
    nulls: Sequence[str] = ("",)
    decimal: str = "."
    times: Sequence[str] = ()
    skip: int = 0
    names: Sequence[str] | None = None


def read_csv(file: File, dtypes: pl.Schema, how: Csv) -> Iterator[pl.DataFrame]:
    """The columns of the schema; others that the file has are left out.

    Raises:
        DataError: a column is missing, or a value is wrong; with file, line and column.
    """
    import pyarrow as pa

    try:
        with file.stream() as stream, _reader(stream, arrow_schema(dtypes), how) as reader:
            for batch in reader:
                yield conformed(pl.DataFrame(pl.from_arrow(batch)), dtypes, file.path)
    except pa.ArrowKeyError as error:
        name = str(error).split("'")[1]
        raise DataError(
            f"{file.path} has no column {name!r}",
            remedy=f"correct the schema, or the separator, which is {how.separator!r}",
        ) from None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeError, LookupError) as error:
        raise DataError(
            f"{file.path}{_place(file, how, str(error))}",
            remedy="correct the file, its encoding or the schema",
        ) from None


def guess_csv(file: File, how: Csv) -> pl.Schema:
    """A schema for the file, by its first block."""
    with file.stream() as stream, _reader(stream, None, how) as reader:
        return pl.DataFrame(pl.from_arrow(reader.schema.empty_table())).schema


def _reader(stream: Any, schema: pa.Schema | None, how: Csv) -> Any:
    from pyarrow import csv as arrow

    wanted = {} if schema is None else {"column_types": schema, "include_columns": schema.names}
    return arrow.open_csv(
        stream,
        # Only where one thread reads, messages tell the row.
        read_options=arrow.ReadOptions(
            use_threads=False,
            block_size=BLOCK,
            encoding=how.encoding,
            skip_rows=how.skip,
            column_names=how.names,
        ),
        parse_options=arrow.ParseOptions(delimiter=how.separator, newlines_in_values=True),
        convert_options=arrow.ConvertOptions(
            null_values=list(how.nulls),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            decimal_point=how.decimal,
            timestamp_parsers=[*how.times, arrow.ISO8601],
            **wanted,
        ),
    )


def _place(file: File, how: Csv, message: str) -> str:
    """Line, column and complaint, out of Arrow's message with the number of the row."""
    found = _ROW.match(message)
    if not found:
        return f": {message}"
    complaint, row = message[found.end() :], int(found[2]) - how.skip
    header: Sequence[str] | None = how.names
    try:
        with file.stream() as stream:
            text = io.TextIOWrapper(stream, how.encoding, errors="replace", newline="")
            for _ in range(how.skip):
                text.readline()
            lines = csv.reader(text, delimiter=how.separator)
            filled = (values for values in lines if values)  # Arrow counts no empty lines
            for number, values in enumerate(filled, 1):
                header = header or values
                if number == row:
                    line = how.skip + lines.line_num - "".join(values).count("\n")
                    column = f", column {header[int(found[1])]!r}" if found[1] else ""
                    return f", line {line}{column}: {complaint}"
    except (csv.Error, IndexError):
        pass
    return f", row {row}: {complaint}"
