"""Edited rows: files of them, and what must be right about them before anything is done."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from envol.errors import NotFoundError, UserError
from envol.pipeline.quarantine.held import WAITING, WINDOW_START
from envol.pipeline.quarantine.identity import ID
from envol.pipeline.quarantine.texts import parsed, plain_rows, text_frame
from envol.project.contracts import REASON
from envol.project.names import nearest

_BESIDE = {ID, REASON, WAITING, WINDOW_START}
"""Columns of an exported file that are not the table's."""


def edited_rows(
    rows: Sequence[Mapping[str, Any]], table: str, dtypes: Mapping[str, pl.DataType]
) -> dict[str, str]:
    """The rows by id of what they replace, as JSON in the dtypes of the table.

    Raises:
        UserError: a column is missing or unknown, a row has no id or the same as another, or a value does not
            fit its column.
    """
    if not rows:
        raise UserError("the file has no rows", remedy=f"export them: envol quarantine export {table}")
    found: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        _check_columns(number, row, table, dtypes)
        identity = row[ID]
        if not identity:
            raise UserError(f"row {number} of the file has no {ID}", remedy="leave that column as exported")
        if identity in found:
            raise UserError(
                f"{identity} is there twice, as rows {found[identity]} and {number} of the file",
                remedy="keep one of them",
            )
        found[identity] = number
    frame, problems = parsed(rows, dtypes)
    for number, problem in sorted(problems.items()):
        more = f" (and {len(problems) - 1:,} rows more)" if len(problems) > 1 else ""
        raise UserError(f"row {number + 1} of the file: {problem}{more}", remedy="write such a value there")
    plain = ({name: value for name, value in row.items() if value is not None} for row in plain_rows(frame))
    return dict(zip(found, map(json.dumps, plain), strict=True))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV, JSON lines or Parquet file, as its name says.

    Raises:
        NotFoundError: there is no such file.
        UserError: it is of another kind, or cannot be read.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no file {path}", remedy="write where the edited rows are")
    read = _by_suffix(path)[0]
    try:
        return read(path)
    except (ValueError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{path} cannot be read: {error}", remedy="export the rows again") from None


def write_rows(frame: pl.DataFrame, path: Path | None, kind: str = "csv") -> None:
    """Write rows to a file, as its name says, or to standard output as "csv", "jsonl" or "parquet".

    Raises:
        UserError: the file's name ends in none of these.
    """
    write = _KINDS[kind][1] if path is None else _by_suffix(path)[1]
    data = write(frame)
    if path is not None:
        path.write_bytes(data)
    elif kind == "parquet":
        sys.stdout.buffer.write(data)
    else:
        sys.stdout.write(data.decode())


def _check_columns(
    number: int, row: Mapping[str, Any], table: str, dtypes: Mapping[str, pl.DataType]
) -> None:
    for name in (ID, *dtypes):
        if name not in row:
            raise UserError(
                f"row {number} of the file lacks the column {name!r}",
                remedy=f"keep every column of: envol quarantine export {table}",
            )
    for name in row:
        if name not in dtypes and name not in _BESIDE:
            raise UserError(f"{table} has no column {name!r}", remedy=nearest(name, dtypes))


def _by_suffix(path: Path) -> tuple[_Read, _Write]:
    kind = path.suffix.removeprefix(".").lower()
    kind = {"ndjson": "jsonl"}.get(kind, kind)
    if kind not in _KINDS:
        raise UserError(f"{path.name} is no kind of file for rows", remedy="use .csv, .jsonl or .parquet")
    return _KINDS[kind]


def _read_csv(path: Path) -> list[dict[str, Any]]:
    return pl.read_csv(path, infer_schema=False).to_dicts()


def _read_lines(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no JSON object")
    return rows


def _json_lines(frame: pl.DataFrame) -> bytes:
    lines = (json.dumps(row, ensure_ascii=False) for row in plain_rows(frame))
    return "".join(f"{line}\n" for line in lines).encode()


def _parquet(frame: pl.DataFrame) -> bytes:
    from io import BytesIO

    file = BytesIO()
    frame.write_parquet(file)
    return file.getvalue()


_Read = Callable[[Path], list[dict[str, Any]]]
_Write = Callable[[pl.DataFrame], bytes]
_KINDS: dict[str, tuple[_Read, _Write]] = {
    "csv": (_read_csv, lambda frame: text_frame(frame).write_csv().encode()),
    "jsonl": (_read_lines, _json_lines),
    "parquet": (lambda path: plain_rows(pl.read_parquet(path)), _parquet),
}
