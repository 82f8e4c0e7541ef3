"""Rows of files: those of one window, by their names or by a column that says when."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl

from envol.errors import ConfigError, DataError, Failure, ProjectError
from envol.project.windows import Window
from envol.sources.batches import BATCH_ROWS, Batches, rebatched
from envol.sources.csv_files import Csv, guess_csv, read_csv
from envol.sources.during import during
from envol.sources.json_lines import guess_json_lines, read_json_lines
from envol.sources.opened import File, located, matching
from envol.sources.parquet_files import read_parquet, schema_of
from envol.sources.placeholders import Filler, project_root
from envol.sources.schema import as_code, dtypes_of

if TYPE_CHECKING:
    from pyarrow import fs

    from envol.sources.schema import Schema

Format = Literal["csv", "json", "parquet"]
_ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COMPRESSED = (".gz", ".zst", ".bz2", ".lz4")


@dataclass(frozen=True)
class _Wanted:
    """What a call asks for, apart from where."""

    window: Window | None
    time: str | None
    schema: Schema | None
    missing: Literal["error", "empty"]
    format: Format | None
    csv: Csv
    rows: int


def files(
    path: str | Path | Sequence[str | Path],
    window: Window | None = None,
    *,
    schema: Schema | None = None,
    time: str | None = None,
    missing: Literal["error", "empty"] = "error",
    format: Format | None = None,
    csv: Csv | None = None,
    filesystem: fs.FileSystem | None = None,
    batch: int = BATCH_ROWS,
) -> Batches:
    """The rows of files of CSV, JSON lines or Parquet in batches; files in the order of their names.

    Args:
        path: one or several; `*`, `?`, `[...]` and `**` match names, and placeholders such as
            `{start:%Y-%m-%d}` name the window. Relative ones begin at the project's folder, s3:// ones are
            on S3. Names that end in .gz, .zst, .bz2 or .lz4 are decompressed.
        window: the window; None where the files do not depend on one.
        schema: dtypes by column, or a contract; columns that it does not name are left out. CSV and JSON
            lines need one; with Parquet it stands for the dtypes of the first file.
        time: a column that says which of the rows are the window's; without a zone it is in UTC.
        missing: where there is no file: "error", or "empty" for no rows (which needs a schema).
        format: where the name does not tell it.
        csv: how CSV files are written, where it is not with commas in UTF-8.
        filesystem: a file system of `pyarrow.fs` for another place than this machine or S3.
        batch: rows in a batch, which bounds the memory.

    Raises, when the first batch is asked for:
        ProjectError: there is no schema (the message proposes one), or the window is not used.
        ConfigError: the format is not known, a variable is not set.
        DataError: no file, a column is missing, or a value is wrong: with file and line.
        Failure: a file cannot be read.
    """
    filler = Filler(window, project_root())
    wanted = _Wanted(window, time, schema, missing, format, csv or Csv(), batch)
    paths = [path] if isinstance(path, str | Path) else path
    return Batches(rebatched(_frames(filler, [str(one) for one in paths], filesystem, wanted), batch))


def _frames(
    filler: Filler, paths: Sequence[str], system: fs.FileSystem | None, wanted: _Wanted
) -> Generator[pl.DataFrame]:
    patterns = [filler.fill(path) for path in paths]
    if wanted.window is not None and wanted.time is None and not filler.window_used:
        raise ProjectError(
            "neither the path nor `time` depends on the window, so every window would get the same rows",
            remedy="write {start:%Y-%m-%d} in the path or name a column as `time`; or leave out the window",
        )
    found = []
    for pattern in patterns:
        place, inside = located(pattern, filler.root, system)
        found += [File(place, path) for path in matching(place, inside)]
    if not found and wanted.missing == "error":
        raise DataError(
            f"there is no file {', '.join(map(filler.hide, patterns))}",
            remedy='check the path; missing="empty" makes an empty window where a file may be missing',
        )
    dtypes = _dtypes(found, wanted)
    condition = during(wanted.window, wanted.time, dtypes)
    yield pl.DataFrame(schema=dtypes)
    for file in found:
        try:
            for frame in _read(file, dtypes, wanted):
                yield frame if condition is None else frame.filter(condition)
        except OSError as error:
            raise Failure(
                f"{file.path} cannot be read to its end: {error}",
                remedy="check the file; run again if it was cut off on its way",
            ) from None


def _dtypes(found: Sequence[File], wanted: _Wanted) -> pl.Schema:
    if wanted.schema is not None:
        return dtypes_of(wanted.schema)
    if not found:
        raise ProjectError(
            "an empty window needs a schema",
            remedy='write for example schema={"id": pl.Int64, "at": pl.Datetime("us", "UTC")}',
        )
    kind = _format(found[0], wanted)
    if kind == "parquet":
        return schema_of(found[0])
    guessed = guess_csv(found[0], wanted.csv) if kind == "csv" else guess_json_lines(found[0])
    raise ProjectError(
        f"{found[0].path} does not tell the dtypes of its columns",
        remedy=f"pass a contract, or as it looks: {as_code(guessed)}",
    )


def _read(file: File, dtypes: pl.Schema, wanted: _Wanted) -> Iterator[pl.DataFrame]:
    kind = _format(file, wanted)
    if kind == "csv":
        return read_csv(file, dtypes, wanted.csv)
    if kind == "json":
        return read_json_lines(file, dtypes)
    return read_parquet(file, dtypes, wanted.window, wanted.time, wanted.rows)


def _format(file: File, wanted: _Wanted) -> Format:
    name = Path(file.path)
    ending = Path(name.stem).suffix if name.suffix in _COMPRESSED else name.suffix
    kind = wanted.format or _ENDINGS.get(ending.lower())
    if kind is None:
        raise ConfigError(
            f"{file.path}: the name does not tell the format",
            remedy='pass format="csv", "json" or "parquet"',
        )
    return kind
