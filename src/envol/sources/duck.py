"""MySQL and MariaDB, and files of SQLite and DuckDB, by DuckDB: rows stream out of it as Arrow."""

from __future__ import annotations

import re
import sysconfig
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from envol.errors import ConfigError, DataError, Failure, ProjectError, UserError
from envol.sources.placeholders import Filler
from envol.sources.schema import from_arrow

if TYPE_CHECKING:
    from sqlalchemy import URL

    from envol.sources.databases import Query

_DATABASE = "source"
# A stream that runs ahead by 100 kB, not 1 MB of what is compressed inside, takes 30 MB instead of 100.
_SETTINGS = "SET TimeZone = 'UTC'; SET enable_progress_bar = false; SET streaming_buffer_size = '100KB'"
# By the kind that DuckDB's messages begin with; those of a stream are no longer DuckDB's exceptions.
_WRONG_QUERY = ("Parser", "Binder", "Catalog", "Permission", "Invalid Input", "Not implemented")
_WRONG_DATA = ("Conversion", "Mismatch Type", "Out of Range")


def read_mysql(address: URL, query: Query) -> Generator[pl.DataFrame]:
    """The rows of a query that the server carries out as a prepared statement; times in UTC."""
    where = f"{address.get_backend_name()} at {address.host or 'this machine'}"
    login = {
        "host": address.host or "127.0.0.1",
        "port": str(address.port or 3306),
        "user": address.username,
        "password": address.password,
        "database": address.database,
    }
    options = " ".join(f"{name}={value}" for name, value in address.query.items())
    with _opened("mysql_scanner", "mysql") as connection:
        connection.execute("SET mysql_session_time_zone = '+00:00'")
        given = ", ".join(f"{name} {_quoted(str(value))}" for name, value in login.items() if value)
        connection.execute(f"CREATE SECRET login (TYPE mysql, {given})")
        remedy = "check that it runs, and the URL's host, port, database, user and password"
        with _reached(where, query.filler, remedy):
            connection.execute(
                f"ATTACH {_quoted(options)} AS {_DATABASE} (TYPE mysql, READ_ONLY, SECRET login)"
            )
        parameters: list[Any] = [query.text]
        if query.values:
            parameters.append({f"p{number}": value for number, value in enumerate(query.values)})
        bound = ", params=?" if query.values else ""
        with _told(where, query.filler):
            yield from _rows(
                connection, f"SELECT * FROM mysql_query('{_DATABASE}', ?{bound})", parameters, query, where
            )


def read_file(address: URL, query: Query) -> Generator[pl.DataFrame]:
    """The rows of a query over the tables of a SQLite or DuckDB file."""
    kind = address.get_backend_name()
    if not address.database or address.host:
        raise ConfigError(
            f"the URL names no file of {kind}",
            remedy=f"write {kind}:///folder/file, or {kind}:////folder/file",
        )
    path = query.filler.root / address.database
    if not path.is_file():
        raise Failure(
            f"there is no file {path}", remedy="check the URL, whose paths begin at the project's folder"
        )
    with _opened("sqlite_scanner" if kind == "sqlite" else None, "sqlite") as connection:
        remedy = f"check that it is a {kind} file, and that no other process holds it"
        with _reached(str(path), query.filler, remedy):
            connection.execute(f"ATTACH {_quoted(str(path))} AS {_DATABASE} (TYPE {kind}, READ_ONLY)")
        connection.execute(f"USE {_DATABASE}")
        with _told(str(path), query.filler):
            statements = connection.extract_statements(query.text)
            if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
                raise ProjectError("the query is not one SELECT", remedy="write one SELECT")
            yield from _rows(connection, query.text, list(query.values), query, str(path))


def _rows(
    connection: duckdb.DuckDBPyConnection, text: str, values: list[Any], query: Query, where: str
) -> Iterator[pl.DataFrame]:
    import pyarrow as pa

    reader = connection.execute(text, values).to_arrow_reader(query.rows)
    yield from_arrow(reader.schema.empty_table(), query.overrides, where)
    for batch in reader:
        yield from_arrow(pa.Table.from_batches([batch]), query.overrides, where)


@contextmanager
def _opened(extension: str | None, extra: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB instance of its own; extensions come from their packages and nothing is downloaded."""
    settings: dict[str, Any] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_unsigned_extensions": True,  # checking takes 0.3 s; the package was installed by its hash
        "temp_directory": tempfile.gettempdir(),
    }
    connection = duckdb.connect(":memory:", config=settings)
    try:
        connection.execute(_SETTINGS)
        if extension is not None:
            package = Path(sysconfig.get_path("purelib")) / f"duckdb_extension_{extension}"
            file = package / "extensions" / f"v{duckdb.__version__}" / f"{extension}.duckdb_extension"
            if not file.exists():
                raise UserError(
                    f"DuckDB's extension {extension} is not installed", remedy=f'pip install "envol[{extra}]"'
                )
            connection.load_extension(str(file))
        yield connection
    finally:
        connection.close()


@contextmanager
def _reached(where: str, filler: Filler, remedy: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise Failure(f"{where} cannot be reached: {filler.hide(_complaint(error))}", remedy=remedy) from None


@contextmanager
def _told(where: str, filler: Filler) -> Iterator[None]:
    """Say what is complained of: the query, the data, or something that another try may mend."""
    import pyarrow as pa

    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        message = filler.hide(_complaint(error))
        kind = str(error).partition(" Error: ")[0]
        if kind in _WRONG_QUERY or "Failed to prepare" in str(error):
            raise ProjectError(f"{where} refuses the query: {message}", remedy="correct the query") from None
        if kind in _WRONG_DATA:
            raise DataError(
                f"{where}: the query fails: {message}", remedy="correct the query, or the data"
            ) from None
        raise Failure(
            f"{where} broke off: {message}", remedy="run again, or give the source `retries`"
        ) from None


def _complaint(error: Exception) -> str:
    """What DuckDB, or the server behind it, says, without where in whose query."""
    said = re.sub(r"\s+(LINE \d+:|\* SET ).*", "", str(error).strip(), flags=re.DOTALL)
    behind = re.search(r'(?:MySQL query ".*"|with parameters "[^"]*"): *(.*)', said, re.DOTALL)
    if behind:
        return behind[1].strip() or "the connection was lost"
    return re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", said)


def _quoted(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
