"""Rows of a SQL database: one query for each window, its parameters bound, its rows in batches."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from envol.errors import ConfigError, ProjectError
from envol.project.windows import Window
from envol.sources.batches import BATCH_ROWS, Batches, rebatched
from envol.sources.parameters import compiled
from envol.sources.placeholders import Filler, project_root
from envol.sources.schema import dtypes_of

if TYPE_CHECKING:
    from sqlalchemy import URL

    from envol.sources.schema import Schema

_POSTGRES = ("postgresql", "postgres")
_MYSQL = ("mysql", "mariadb")
_FILES = ("sqlite", "duckdb")
_WINDOW_PARAMETERS = ("start", "end")


@dataclass(frozen=True)
class Query:
    """A query as a database takes it, with the values to bind, in order of its placeholders."""

    text: str
    values: tuple[Any, ...]
    rows: int
    overrides: pl.Schema
    filler: Filler


def sql(
    url: str,
    query: str,
    window: Window | None = None,
    *,
    schema: Schema | None = None,
    batch: int = BATCH_ROWS,
    **parameters: Any,
) -> Batches:
    """The rows that a query returns, in batches; read-only, and its parameters are bound, never interpolated.

    PostgreSQL, MySQL and MariaDB carry out the query in their own dialect. SQLite and DuckDB files are read
    by DuckDB in its dialect, with the columns' declared types.

    Args:
        url: postgresql://, mysql://, mariadb://, sqlite:/// or duckdb:///; "env:NAME" or "file:PATH" where
            the URL itself is a secret, and `{env:NAME}` or `{file:PATH}` in it for a part of it. A relative
            path of a file begins at the project's folder.
        query: one SELECT. `:start` and `:end` are the window's instants, `:name` is any other parameter;
            outside of quotes, write `\\:` for a colon before a word that is none.
        window: the window; None where the query does not depend on one.
        schema: dtypes that columns are to have instead of those that the database declares; others stay.
        batch: rows in a batch, which bounds the memory.
        parameters: values of the other parameters.

    Raises, when the first batch is asked for:
        ProjectError: the query is wrong, or a parameter is missing or not used.
        ConfigError: the URL is wrong.
        Failure: the database does not answer, refuses, or breaks off.
        DataError: a value does not fit its dtype.
    """
    filler = Filler(window, project_root())
    return Batches(rebatched(_frames(filler, url, query, window, schema, batch, parameters), batch))


def _frames(
    filler: Filler,
    url: str,
    query: str,
    window: Window | None,
    schema: Schema | None,
    batch: int,
    parameters: Mapping[str, Any],
) -> Generator[pl.DataFrame]:
    whole = url.startswith(("env:", "file:"))
    address = _address(filler.fill(f"{{{url}}}" if whole else url), filler)
    kind = address.get_backend_name()
    overrides = pl.Schema() if schema is None else dtypes_of(schema)
    text, names = compiled(query, mysql=kind in _MYSQL)
    values = _bound(names, window, parameters, naive=kind in _MYSQL)
    prepared = Query(text, values, batch, overrides, filler)
    if kind in _POSTGRES:
        from envol.sources import postgres

        yield from postgres.read(address, prepared)
    else:
        from envol.sources import duck

        yield from (duck.read_mysql if kind in _MYSQL else duck.read_file)(address, prepared)


def _address(url: str, filler: Filler) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError(
            "the database's URL cannot be read",
            remedy="write postgresql://user:password@host/database, with %XX for special characters",
        ) from None
    kind = address.get_backend_name()
    if kind not in (*_POSTGRES, *_MYSQL, *_FILES):
        raise ConfigError(
            f"{kind} is not a database that can be read",
            remedy="write postgresql://, mysql://, mariadb://, sqlite:/// or duckdb:///",
        )
    filler.keep_secret(str(address.password or ""))
    return address


def _bound(
    names: list[str], window: Window | None, parameters: Mapping[str, Any], *, naive: bool
) -> tuple[Any, ...]:
    known = dict(parameters)
    if window is not None:
        known |= {"start": window.start, "end": window.end}
    unknown = [name for name in names if name not in known]
    if unknown:
        remedy = f"pass {unknown[0]}=..., or write \\: for a colon that stands for itself"
        if unknown[0] in _WINDOW_PARAMETERS:
            remedy = "pass the window"
        raise ProjectError(f"the query's parameter :{unknown[0]} has no value", remedy=remedy)
    unused = [name for name in parameters if name not in names]
    if unused:
        raise ProjectError(
            f"the query does not use the parameter {unused[0]!r}", remedy=f"write :{unused[0]} in it"
        )
    if window is not None and not set(_WINDOW_PARAMETERS) & set(names):
        raise ProjectError(
            "the query uses neither :start nor :end, so every window would get the same rows",
            remedy="use them, or leave out the window where this is meant",
        )
    return tuple(_sent(known[name], naive) for name in names)


def _sent(value: Any, naive: bool) -> Any:
    """Instants go out in UTC, without the zone to a database whose times have none."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if naive else value
    return value
